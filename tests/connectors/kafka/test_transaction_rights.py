"""`validate --connect` tells whether a user may use the transactions of a flow."""

from __future__ import annotations

import pytest
from confluent_kafka.admin import (
    AclBinding,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
)

from connectors.contracts import TransactionScope
from connectors.kafka import SINK_KAFKA
from tests.flows.runtime.running import wait_for
from tests.services.fixtures import open_folder
from tests.services.kafka import KafkaBroker

pytestmark = [pytest.mark.kafka, pytest.mark.slow]

LOGIN = "org.apache.kafka.common.security.plain.PlainLoginModule required"
WRITER, GROUP = "penstock/shop/orders/0", "penstock.shop.orders"
SCOPE = TransactionScope(WRITER, GROUP, "shop/orders")


@pytest.fixture(scope="module")
def broker():
    secured = {
        "listener.name.login.sasl.enabled.mechanisms": "PLAIN",
        "listener.name.login.plain.sasl.jaas.config": f'{LOGIN} user_shop="hunter2";',
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": "User:ANONYMOUS",
    }
    listeners = {"LOGIN": "SASL_PLAINTEXT"}
    with open_folder() as folder, KafkaBroker.start(folder, listeners, secured) as broker:
        yield broker


@pytest.fixture
def grant(broker):
    admin = AdminClient({"bootstrap.servers": broker.bootstrap})

    def granted(kind, name, operation, permission=AclPermissionType.ALLOW, user="shop"):
        pattern = (
            ResourcePatternType.PREFIXED if name.endswith("/") else ResourcePatternType.LITERAL
        )
        binding = AclBinding(kind, name, pattern, f"User:{user}", "*", operation, permission)
        for answer in admin.create_acls([binding]).values():
            answer.result(10)

    return granted


def checks(broker, user):
    options = {
        "security.protocol": "SASL_PLAINTEXT",
        "sasl.mechanisms": "PLAIN",
        "sasl.username": user,
        "sasl.password": "hunter2",
    }
    settings = SINK_KAFKA.settings(brokers=broker.address("LOGIN"), topic="out", options=options)
    return list(SINK_KAFKA.sink("out", settings).preflight_transactions(SCOPE))


def test_rights_are_told_as_they_are_missing_granted_and_denied(broker, grant):
    (untold,) = checks(broker, "shop")
    assert (untold.ok, untold.severity) == (False, "warning")
    assert "can't be told" in untold.found
    grant(ResourceType.BROKER, "kafka-cluster", AclOperation.DESCRIBE)
    wait_for(lambda: "can't be told" not in checks(broker, "shop")[0].found, "the right to look")
    writer, group = checks(broker, "shop")
    assert (writer.ok, group.ok) == (False, False)
    assert "no ACL allows Write to User:shop" in writer.found
    assert "--transactional-id penstock/shop/ --resource-pattern-type prefixed" in writer.hint
    grant(ResourceType.TRANSACTIONAL_ID, "penstock/shop/", AclOperation.WRITE)
    grant(ResourceType.GROUP, GROUP, AclOperation.READ)
    wait_for(lambda: all(check.ok for check in checks(broker, "shop")), "the rights")
    assert checks(broker, "shop")[0].found == "Write allowed to User:shop"
    denied = AclPermissionType.DENY
    grant(ResourceType.TRANSACTIONAL_ID, WRITER, AclOperation.ALL, denied)
    wait_for(lambda: not checks(broker, "shop")[0].ok, "the denial")
    writer, _ = checks(broker, "shop")
    assert (writer.severity, writer.found) == ("error", "Write is denied to User:shop")


def test_a_broker_without_an_authorizer_says_so(kafka):
    settings = SINK_KAFKA.settings(brokers=kafka.bootstrap, topic="out")
    (check,) = SINK_KAFKA.sink("out", settings).preflight_transactions(SCOPE)
    assert check.ok
    assert "it has no authorizer" in check.found
