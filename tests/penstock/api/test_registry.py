"""The registry's REST API, called by Confluent's own client and by curl's like."""

from __future__ import annotations

import json
from urllib.parse import quote
from uuid import uuid4

import httpx
import pytest
from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient, NewTopic
from confluent_kafka.schema_registry import (
    Schema,
    SchemaReference,
    SchemaRegistryClient,
    SchemaRegistryError,
)
from confluent_kafka.schema_registry.json_schema import JSONDeserializer, JSONSerializer
from confluent_kafka.serialization import (
    MessageField,
    SerializationContext,
    SerializationError,
)

from penstock.api.registry_wire import MEDIA_TYPE
from tests.penstock.api.served import serving

ORDER = {
    "title": "Order",
    "type": "object",
    "required": ["id"],
    "additionalProperties": False,
    "properties": {"id": {"type": "string"}},
}
NOTED = {**ORDER, "properties": {**ORDER["properties"], "note": {"type": "string"}}}
BROKEN = {**ORDER, "properties": {"id": {"type": "integer"}}}


@pytest.fixture
def client(served):
    with SchemaRegistryClient({"url": served.api.url, "max.retries": 0}) as client:
        yield client


def schema(value, references=None):
    return Schema(json.dumps(value), "JSON", references or [])


def refused(call, *arguments, **named):
    with pytest.raises(SchemaRegistryError) as caught:
        call(*arguments, **named)
    return caught.value.http_status_code, caught.value.error_code


# --- Confluent's client -------------------------------------------------------------------------


def test_the_client_registers_and_looks_up(client):
    number = client.register_schema("orders-value", schema(ORDER))
    client.clear_caches()
    assert json.loads(client.get_schema(number).schema_str) == ORDER
    assert client.get_schema(number).schema_type == "JSON"
    assert client.register_schema("orders-value", schema(ORDER), normalize_schemas=True) == number
    assert client.get_subjects() == ["orders-value"]
    assert client.get_versions("orders-value") == [1]
    found = client.lookup_schema("orders-value", schema(ORDER))
    assert (found.schema_id, found.version, found.subject) == (number, 1, "orders-value")
    latest = client.get_latest_version("orders-value")
    assert (latest.schema_id, latest.version) == (number, 1)
    assert client.get_version("orders-value", 1).schema_id == number
    assert client.get_subjects_by_schema_id(number) == ["orders-value"]
    (place,) = client.get_schema_versions(number)
    assert (place.subject, place.version) == ("orders-value", 1)
    assert json.loads(client.get_schema_by_guid(latest.guid).schema_str) == ORDER
    assert client.get_schema_types() == ["JSON"]
    assert client.get_contexts() == ["."]


def test_the_client_evolves_a_subject(client):
    client.register_schema("orders", schema(ORDER))
    assert client.test_compatibility("orders", schema(NOTED))
    assert not client.test_compatibility("orders", schema(BROKEN), version=1)
    assert client.test_compatibility_all_versions("orders", schema(NOTED))
    assert refused(client.register_schema, "orders", schema(BROKEN)) == (409, 409)
    client.register_schema("orders", schema(NOTED))
    assert client.get_versions("orders") == [1, 2]
    assert client.get_compatibility() == "BACKWARD"
    assert refused(client.get_compatibility, "orders") == (404, 40408)
    client.set_compatibility("orders", "none")
    assert client.get_compatibility("orders") == "NONE"
    client.register_schema("orders", schema(BROKEN))
    assert client.get_versions("orders") == [1, 2, 3]
    client.delete_config("orders")
    client.set_compatibility(level="FULL_TRANSITIVE")
    assert client.get_config().compatibility_level == "FULL_TRANSITIVE"


def test_the_client_deletes_softly_and_for_good(client):
    for each in (ORDER, NOTED):
        client.register_schema("orders", schema(each))
    assert client.delete_version("orders", 2) == 2
    assert client.get_versions("orders") == [1]
    assert client.get_versions("orders", deleted=True) == [1, 2]
    assert client.get_versions("orders", deleted_only=True) == [2]
    assert refused(client.delete_version, "orders", 1, permanent=True) == (404, 40407)
    assert client.delete_version("orders", 2, permanent=True) == 2
    assert client.delete_subject("orders") == [1]
    assert client.get_subjects() == []
    assert client.get_subjects(deleted=True) == ["orders"]
    assert refused(client.delete_subject, "orders") == (404, 40404)
    assert client.delete_subject("orders", permanent=True) == [1]
    assert client.get_subjects(deleted=True) == []


def test_the_client_sets_modes(client):
    client.register_schema("orders", schema(ORDER))
    assert client.get_global_mode() == "READWRITE"
    assert client.update_mode("orders", "READONLY") == "READONLY"
    assert client.get_mode("orders") == "READONLY"
    assert refused(client.register_schema, "orders", schema(NOTED)) == (422, 42205)
    assert client.delete_mode("orders") == "READONLY"
    assert refused(client.get_mode, "orders") == (404, 40409)
    assert refused(client.update_global_mode, "IMPORT") == (422, 42205)
    assert client.update_global_mode("IMPORT", force=True) == "IMPORT"


def test_the_client_uses_references(client):
    address = {"type": "object", "properties": {"zip": {"type": "string"}}}
    number = client.register_schema("address", schema(address))
    order = {"type": "object", "properties": {"to": {"$ref": "address.json"}}}
    uses = [SchemaReference("address.json", "address", 1)]
    order_number = client.register_schema("orders", schema(order, uses))
    client.clear_caches()
    (found,) = client.get_schema(order_number).references
    assert (found.name, found.subject, found.version) == ("address.json", "address", 1)
    assert client.get_referenced_by("address", 1) == [order_number]
    assert refused(client.delete_version, "address", 1) == (422, 42206)
    assert refused(client.register_schema, "orders", schema(order)) == (422, 42201)
    assert number != order_number


@pytest.mark.kafka
def test_its_serializers_carry_data_through_kafka_and_over_versions(client, kafka):
    topic = f"orders-{uuid4().hex[:8]}"
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap})
    admin.create_topics([NewTopic(topic, 1, 1)])[topic].result(30)
    context = SerializationContext(topic, MessageField.VALUE)
    address = {"type": "object", "properties": {"zip": {"type": "string"}}}
    client.register_schema("address", schema(address))
    uses = [SchemaReference("address.json", "address", 1)]
    with_address = {
        **NOTED,
        "properties": {**NOTED["properties"], "to": {"$ref": "address.json"}},
    }
    versions = [schema(ORDER), schema(NOTED), schema(with_address, uses)]
    values = [{"id": "a"}, {"id": "b", "note": "n"}, {"id": "c", "to": {"zip": "10115"}}]
    producer = Producer({"bootstrap.servers": kafka.bootstrap})
    for version, value in zip(versions, values, strict=True):
        serialize = JSONSerializer(version, client)
        producer.produce(topic, serialize(value, context))
    with pytest.raises(SerializationError):
        JSONSerializer(versions[2], client)({"id": "d", "to": {"zip": 1}}, context)
    with pytest.raises(SchemaRegistryError):
        JSONSerializer(schema(BROKEN), client)({"id": 1}, context)
    assert producer.flush(30) == 0
    assert client.get_versions(f"{topic}-value") == [1, 2, 3]

    client.clear_caches()
    deserialize = JSONDeserializer(None, schema_registry_client=client)
    consumer = Consumer(
        {"bootstrap.servers": kafka.bootstrap, "group.id": topic, "auto.offset.reset": "earliest"}
    )
    consumer.subscribe([topic])
    found = []
    while len(found) < len(values):
        message = consumer.poll(30)
        assert message is not None
        assert message.error() is None
        found.append(deserialize(message.value(), context))
    consumer.close()
    assert found == values


def test_a_client_shows_a_token_as_its_password(tmp_path, sqlite_url, store):
    token = "reader-0123456789"
    server = f'server: {{tokens: "ci:{token}"}}'
    with serving(tmp_path, sqlite_url, server) as api:
        url = {"url": api.api.url, "max.retries": 0}
        with SchemaRegistryClient({**url, "basic.auth.user.info": f"ci:{token}"}) as client:
            assert client.get_subjects() == []
            assert refused(client.register_schema, "orders", schema(ORDER))[0] == 403
        for config in (url, {**url, "basic.auth.user.info": "ci:wrong-0123456789"}):
            with SchemaRegistryClient(config) as client:
                assert refused(client.get_subjects)[0] == 401
        headers = {"Origin": "https://elsewhere.example"}
        answer = api.client.put(
            "/config", json={"compatibility": "NONE"}, headers=headers, auth=("ci", token)
        )
        assert answer.status_code == 403
        assert api.client.get("/api/v1/flows", auth=("ci", token)).status_code == 401


# --- the API itself -----------------------------------------------------------------------------


def told(answer: httpx.Response) -> tuple[int, int]:
    """Return status and number of an error, which must be one as Confluent tells it."""
    assert answer.headers["content-type"] == MEDIA_TYPE, answer.text
    found = answer.json()
    assert set(found) == {"error_code", "message"}
    assert found["message"]
    return answer.status_code, found["error_code"]


def put(served, subject, value, **more):
    body = {"schema": json.dumps(value), "schemaType": "JSON", **more}
    return served.client.post(f"/subjects/{quote(subject, safe='')}/versions", json=body)


@pytest.mark.parametrize(
    ("method", "path", "body", "expected"),
    [
        ("GET", "/subjects/nobody/versions", None, (404, 40401)),
        ("DELETE", "/subjects/nobody", None, (404, 40401)),
        ("GET", "/subjects/orders/versions/9", None, (404, 40402)),
        ("GET", "/subjects/orders/versions/first", None, (422, 42202)),
        ("GET", "/subjects/orders/versions/0", None, (422, 42202)),
        ("GET", "/schemas/ids/999", None, (404, 40403)),
        ("GET", "/schemas/ids/x", None, (404, 40403)),
        ("GET", "/schemas/guids/nope", None, (404, 40403)),
        ("POST", "/subjects/orders", {"schema": "{}", "schemaType": "JSON"}, (404, 40403)),
        ("POST", "/subjects/orders/versions", {"schema": '"string"'}, (422, 42201)),
        (
            "POST",
            "/subjects/orders/versions",
            {"schema": "{", "schemaType": "JSON"},
            (422, 42201),
        ),
        (
            "POST",
            "/subjects/orders/versions",
            {"schema": "{}", "schemaType": "JSON", "metadata": {"tags": {}}},
            (422, 42201),
        ),
        ("POST", "/subjects/orders/versions", {}, (422, 422)),
        ("PUT", "/config", {"compatibility": "SIDEWAYS"}, (422, 42203)),
        ("PUT", "/config", {"compatibility": "FULL", "compatibilityGroup": "g"}, (422, 422)),
        ("PUT", "/mode", {"mode": "SLEEPING"}, (422, 42204)),
        ("GET", "/config/orders", None, (404, 40408)),
        ("GET", "/subjects/orders/nowhere", None, (404, 404)),
        ("POST", "/schemas/types", {}, (405, 405)),
        ("GET", "/subjects?limit=x", None, (422, 422)),
    ],
)
def test_errors_have_confluents_numbers(served, method, path, body, expected):
    assert put(served, "orders", ORDER).status_code == 200
    assert told(served.client.request(method, path, json=body)) == expected


def test_an_incompatible_schema_is_told_each_rule_and_pointer(served):
    put(served, "orders", ORDER)
    answer = put(served, "orders", BROKEN)
    assert told(answer) == (409, 409)
    assert "TYPE_CHANGED at /properties/id" in answer.json()["message"]
    body = {"schema": json.dumps(BROKEN), "schemaType": "JSON"}
    path = "/compatibility/subjects/orders/versions/latest?verbose=true"
    found = served.client.post(path, json=body).json()
    assert found["is_compatible"] is False
    assert "TYPE_CHANGED at /properties/id" in found["messages"][0]
    body = {"schema": "{", "schemaType": "JSON"}
    assert served.client.post(path, json=body).json()["is_compatible"] is False
    assert told(served.client.post(path.removesuffix("?verbose=true"), json=body)) == (422, 42201)
    new = "/compatibility/subjects/new/versions/latest"
    assert served.client.post(new, json={**body, "schema": "{}"}).json() == {"is_compatible": True}
    assert told(served.client.post(new.replace("latest", "3"), json={**body, "schema": "{}"})) == (
        404,
        40401,
    )


def test_a_subjects_name_may_hold_anything_that_can_be_printed(served):
    for name in ("a/b", "größe", "a b", "100%", "a%2Fb", "x?y#z"):
        assert put(served, name, ORDER).status_code == 200, name
        path = f"/subjects/{quote(name, safe='')}/versions/latest"
        assert served.client.get(path).json()["subject"] == name
    assert told(put(served, "a\nb", ORDER)) == (422, 42208)


def test_lists_are_given_in_parts_and_by_prefix(served):
    for number in range(5):
        put(served, f"s{number}", {"const": number})
    put(served, "other", {})
    get = served.client.get
    assert get("/subjects?subjectPrefix=s&offset=1&limit=2").json() == ["s1", "s2"]
    assert len(get("/subjects?subjectPrefix=:*:").json()) == 6
    assert [each["subject"] for each in get("/schemas?subjectPrefix=s3").json()] == ["s3"]
    assert get("/subjects/s3/versions/1/schema").json() == {"const": 3}
    number = get("/subjects/s3/versions/1").json()["id"]
    assert get(f"/schemas/ids/{number}/schema").json() == {"const": 3}
    assert get("/config/s3?defaultToGlobal=true").json() == {"compatibilityLevel": "BACKWARD"}
    assert get("/mode/s3?defaultToGlobal=true").json() == {"mode": "READWRITE"}


def test_an_import_keeps_the_ids_that_messages_carry(served):
    assert told(put(served, "orders", ORDER, id=77, version=3)) == (422, 42205)
    served.client.put("/mode", json={"mode": "IMPORT"})
    assert put(served, "orders", ORDER, id=77, version=3).json()["id"] == 77
    served.client.put("/mode", json={"mode": "READWRITE"})
    assert put(served, "orders", NOTED).json()["version"] == 4


def test_the_client_s_media_type_is_taken_here_and_nowhere_else(served):
    content = json.dumps({"schema": "{}", "schemaType": "JSON"}).encode()
    headers = {"content-type": MEDIA_TYPE}
    path = "/subjects/orders/versions"
    assert served.client.post(path, content=content, headers=headers).status_code == 200
    replay = "/api/v1/dlq/pipelines/enrich/replay-all"
    assert served.client.post(replay, content=b"{}", headers=headers).status_code == 415
    headers = {"content-type": "text/plain"}
    assert told(served.client.post(path, content=content, headers=headers)) == (415, 415)
