"""What is masked in everything that is shown, and what stays readable."""

from __future__ import annotations

import pytest

from flows.spec.secrets import Secrets, is_secret_name

LOG = """
    pipelines:
      p:
        steps:
          - {name: say, type: step.log, config: {message: "MESSAGE"}}
"""


@pytest.mark.parametrize(
    "name",
    [
        *("DB_PASSWORD", "PGPASSWORD", "passwd", "DB_PASS", "client_secret", "GITHUB_TOKEN"),
        *("STRIPE_KEY", "apiKey", "AWS_SECRET_ACCESS_KEY", "sasl.password", "Authorization"),
        *("X-Auth", "signing_private_key", "CREDENTIALS", "ssl.key.pem"),
    ],
)
def test_names_that_say_so_hold_secrets(name):
    assert is_secret_name(name)


@pytest.mark.parametrize(
    "name",
    [
        *("DATABASE_URL", "LOG_LEVEL", "KAFKA_BROKERS", "PASSENGER", "MONKEY", "AUTHOR"),
        *("TOKEN_URL", "ssl.key.location", "AUTH_MODE", "key_template", "idempotency_key"),
        *("access_key_id", "", "HOME"),
    ],
)
def test_names_that_only_sound_like_it_do_not(name):
    assert not is_secret_name(name)


def test_an_ordinary_variable_stays_readable_in_every_message(load):
    plan = load(
        LOG.replace("MESSAGE", "${BROKER} ${FOLDER:-exports}") + '    log: {level: "${L}"}\n',
        BROKER="kafka-1:9092",
        L="info",
    )
    said = "can't reach broker kafka-1:9092; exports; info"
    assert plan.redact(said) == said


def test_a_variable_with_a_secret_name_is_masked_wherever_it_is_used(load):
    plan = load(LOG.replace("MESSAGE", "${SHOP_TOKEN} ${DB_PASS:-changeme}"), SHOP_TOKEN="tok-123")
    assert plan.redact("tok-123 and changeme") == "*** and ***"


def test_a_value_under_a_secret_key_is_masked_whatever_its_variable_is_called(load):
    text = """
        modules:
          - name: mail
            type: sink.email
            config: {host: h, from: a@b, to: [c@d], subject: s, text: t, username: u, password: "${P}"}
    """
    assert load(text, P="plainpw1").redact("u plainpw1") == "u ***"


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("postgresql://app:s3cr3tpw@db:5432/shop", "postgresql://app:***@db:5432/shop"),
        ("postgresql://app:s3%40cr%2Ft@db/shop", "postgresql://app:***@db/shop"),
        ("postgresql://app:s3/cr3t@db/shop", "postgresql://app:***@db/shop"),
        ("postgresql://app:s3@cr3t@db/shop", "postgresql://app:***@db/shop"),
        ("postgresql://app@db/shop?password=s3cr3tpw", "postgresql://app@db/shop?password=***"),
        ("postgresql://postgres:postgres@db/postgres", "postgresql://postgres:***@db/postgres"),
        (
            "host=db user=app password=s3cr3tpw dbname=shop",
            "host=db user=app password=*** dbname=shop",
        ),
        ("host=db password='s3 \\'cr3t' user=app", "host=db password=*** user=app"),
        ("host=db password=s3c'r&3;t user=app", "host=db password=*** user=app"),
        ("host=db password=abc user=app", "host=db password=*** user=app"),
        ("redis://:s3cr3tpw@cache:6379/0", "redis://:***@cache:6379/0"),
        ("https://api/v1?shop=7&api_key=s3cr3tpw", "https://api/v1?shop=7&api_key=***"),
        (
            "http://127.0.0.1:8080/users/me@example.com",
            "http://127.0.0.1:8080/users/me@example.com",
        ),
    ],
)
def test_of_an_address_the_password_alone_is_masked(load, address, shown):
    plan = load(LOG.replace("MESSAGE", "${ADDRESS}"), ADDRESS=address)
    assert plan.redact(f"no answer from {address}") == f"no answer from {shown}"


def test_every_spelling_of_a_password_in_an_address_is_masked(load):
    plan = load(LOG.replace("MESSAGE", "${A}"), A="postgresql://app:s3%40cr%2Ft@db/shop")
    assert plan.redact("s3@cr/t s3%40cr%2Ft cr/t") == "*** *** cr/t"
    plan = load(LOG.replace("MESSAGE", "${A}"), A="host=db password='s3 \\'cr3t' user=app")
    assert plan.redact("""it is s3 'cr3t and missing "=" after "cr3t'" """).count("cr3t") == 0


def test_options_of_kafka_hide_their_password_and_show_the_rest(load):
    text = """
        modules:
          - name: k
            type: sink.kafka
            config:
              brokers: ["${BROKER}"]
              topic: t
              options: {sasl.username: "${U}", sasl.password: "${P}", security.protocol: SASL_PLAINTEXT, sasl.mechanism: PLAIN}
    """
    plan = load(text, BROKER="kafka-1:9092", U="shop-user", P="s3cr3tpw")
    assert (
        plan.redact("kafka-1:9092 shop-user s3cr3tpw PLAIN") == "kafka-1:9092 shop-user *** PLAIN"
    )


def test_credentials_of_a_call_are_masked_in_headers_and_alone(load):
    text = """
        pipelines:
          p:
            steps:
              - name: call
                type: step.http_call
                config:
                  url: "http://127.0.0.1/{{ .id }}"
                  headers: {Authorization: "Bearer ${X}", X-Event: "{{ .id }}"}
              - name: basic
                type: step.http_call
                config: {url: "http://127.0.0.1", auth: {username: app, password: "${Y}"}}
    """
    plan = load(text, X="abc.def.ghi", Y="s3cr3tpw")
    assert plan.redact("token abc.def.ghi is expired") == "token *** is expired"
    assert plan.redact("{'Authorization': 'Bearer abc.def.ghi'}") == "{'Authorization': '***'}"
    assert plan.redact('"authorization":"Basic YXBwOnMz"') == '"authorization":"Basic ***"'
    assert plan.redact("app s3cr3tpw") == "app ***"
    assert plan.redact("X-Event: {{ .id }}") == "X-Event: {{ .id }}"


def test_a_line_of_the_file_keeps_the_variables_name_and_its_length():
    secrets = Secrets()
    line = 'connection: "postgresql://app:${DB_PASSWORD}@db/shop"'
    assert secrets.redact_line(line) == line
    line = 'connection: "postgresql://app:abc@db/shop"'
    assert secrets.redact_line(line) == line.replace("abc", "***")
    assert len(secrets.redact_line(line)) == len(line)
