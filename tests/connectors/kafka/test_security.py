"""Kafka behind TLS and behind a user and password, on a broker that has a listener for each."""

from __future__ import annotations

import pytest

from connectors.contracts import Outgoing, SinkOpening
from connectors.errors import FatalError
from connectors.kafka import MESSAGING_KAFKA, SINK_KAFKA
from connectors.kafka.source import KafkaSource
from tests.connectors.kafka.driving import read, reading
from tests.services.fixtures import open_folder
from tests.services.kafka import KafkaBroker
from tests.transforms.steps.certificates import Authority

pytestmark = pytest.mark.kafka

LOGIN = "org.apache.kafka.common.security.plain.PlainLoginModule required"


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def broker(authority):
    certificate, key = authority.issue("broker", "IP:127.0.0.1")
    both = authority.folder / "broker-both.pem"
    both.write_text(key.read_text() + certificate.read_text())
    secured = {
        "listener.name.secure.ssl.keystore.type": "PEM",
        "listener.name.secure.ssl.keystore.location": str(both),
        "listener.name.login.sasl.enabled.mechanisms": "PLAIN",
        "listener.name.login.plain.sasl.jaas.config": f'{LOGIN} user_shop="hunter2";',
    }
    listeners = {"SECURE": "SSL", "LOGIN": "SASL_PLAINTEXT"}
    with open_folder() as folder, KafkaBroker.start(folder, listeners, secured) as broker:
        yield broker


@pytest.fixture
def tls(broker, authority):
    options = {"security.protocol": "SSL", "ssl.ca.location": str(authority.ca)}
    return {"brokers": broker.address("SECURE"), "options": options}


@pytest.fixture
def login(broker):
    options = {
        "security.protocol": "SASL_PLAINTEXT",
        "sasl.mechanisms": "PLAIN",
        "sasl.username": "shop",
        "sasl.password": "hunter2",
    }
    return {"brokers": broker.address("LOGIN"), "options": options}


def source(config, topic):
    return KafkaSource("orders", MESSAGING_KAFKA.settings(topics=[topic], **config), refresh=0.2)


def sink(config, topic):
    return SINK_KAFKA.sink("out", SINK_KAFKA.settings.model_validate({"topic": topic, **config}))


@pytest.mark.parametrize("way", ["tls", "login"])
def test_events_go_out_and_come_in(request, broker, way):
    config, topic = request.getfixturevalue(way), broker.create_topic()
    out = sink(config, topic)
    assert all(check.ok for check in out.preflight([topic]))
    out.open(SinkOpening({}))
    attributes = {"id": ["1", "2"], "source": "/s", "type": "t"}
    assert out.deliver(Outgoing([b"1", b"2"], ["a", "a"], lambda: attributes)) == {}
    out.close()
    orders = source(config, topic)
    assert all(check.ok for check in orders.preflight())
    with reading(orders) as reader:
        assert read(reader, 2).raws == [b"1", b"2"]


def wrong_authority(get, tmp_path):
    tls = get("tls")
    ca = Authority(tmp_path, "another").ca
    return {**tls, "options": {**tls["options"], "ssl.ca.location": str(ca)}}


def wrong_password(get, tmp_path):
    login = get("login")
    return {**login, "options": {**login["options"], "sasl.password": "hunter3"}}


@pytest.mark.parametrize(
    ("wrong", "said"), [(wrong_authority, "certificate"), (wrong_password, "password")]
)
def test_what_does_not_fit_is_one_clear_error_that_tells_no_password(
    request, broker, tmp_path, wrong, said
):
    config, topic = wrong(request.getfixturevalue, tmp_path), broker.create_topic()
    for connect in (
        lambda: sink(config, topic).open(SinkOpening({})),
        lambda: reading(source(config, topic)).__enter__(),
    ):
        with pytest.raises(FatalError) as caught:
            connect()
        text = str(caught.value).lower()
        assert said in text
        assert "hunter" not in text
        assert caught.value.hint
