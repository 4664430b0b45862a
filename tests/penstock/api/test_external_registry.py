"""A flow whose schemas are kept in a Confluent registry elsewhere: here, another flow's."""

from __future__ import annotations

import json

import pytest

from connectors.errors import FatalError
from flows.plan import load_flow
from flows.schemas.declared import check_declared, register_declared
from flows.spec.problems import FlowErrors
from penstock.cli.app import main
from tests.penstock.api.served import serving

READER, WRITER = "reader-0123456789", "writer-0123456789"
ORDER = {
    "type": "object",
    "required": ["id"],
    "additionalProperties": False,
    "properties": {"id": {"type": "string"}},
}
FLOW = {
    "name": "remote",
    "modules": [
        {
            "name": "orders",
            "type": "source.kafka",
            "config": {"brokers": "127.0.0.1:1", "topics": ["orders"]},
        },
        {"name": "out", "type": "sink.stdout"},
    ],
    "pipelines": {
        "copy": {
            "trigger": {"source": "orders", "schema": "order"},
            "steps": [{"name": "write", "type": "step.publish", "config": {"sink": "out"}}],
        }
    },
}


def order(**properties):
    return {**ORDER, "properties": {**ORDER["properties"], **properties}}


@pytest.fixture
def load(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def load(schemas, url, auth=None):
        registry = {"url": url} | ({"auth": auth} if auth else {})
        flow = {**FLOW, "schema_registry": registry, "schemas": schemas}
        path = tmp_path / "remote.yaml"
        path.write_text(json.dumps(flow))
        return load_flow([path], {})

    return load


def subjects(served, auth=None):
    return served.client.get("/subjects", auth=auth).json()


def test_schemas_are_registered_there_with_what_they_refer_to_and_not_here(load, served, tmp_path):
    schemas = {
        "cart": {"version": "1.0", "data_schema": {"properties": {"o": {"$ref": "order"}}}},
        "order@1.0": {"data_schema": ORDER},
        "order": {"version": "1.1", "data_schema": order(note={})},
    }
    for _ in range(2):
        plan = load(schemas, served.api.url)
        assert [each.message for each in check_declared(plan)] == []
        register_declared(plan)
    assert subjects(served) == ["cart", "order"]
    cart = served.client.get("/subjects/cart/versions/latest").json()
    assert cart["references"] == [{"name": "order", "subject": "order", "version": 2}]
    assert not (tmp_path / "penstock.db").exists()


def test_an_incompatible_version_is_refused_with_rule_and_pointer(load, served, capsys):
    register_declared(load({"order": {"data_schema": ORDER}}, served.api.url))
    changed = {"data_schema": order(id={"type": "integer"})}
    plan = load({"order": changed}, served.api.url)
    with pytest.raises(FlowErrors, match="TYPE_CHANGED at /properties/id"):
        register_declared(plan)
    assert main(["validate", "remote.yaml", "--connect"]) == 2
    assert "TYPE_CHANGED at /properties/id" in capsys.readouterr().err
    assert main(["validate", "remote.yaml"]) == 0  # it connects to nothing
    plan = load({"order": {**changed, "compatibility": "NONE"}}, served.api.url)
    register_declared(plan)
    assert served.client.get("/config/order").json() == {"compatibilityLevel": "NONE"}
    assert served.client.get("/subjects/order/versions").json() == [1, 2]


def test_a_transitive_level_compares_all_versions(load, served):
    for schema in ({"type": "string"}, {"type": "integer"}):
        register_declared(
            load({"order": {"data_schema": schema, "compatibility": "NONE"}}, served.api.url)
        )
    again = {"data_schema": {"type": "number"}}
    assert (
        check_declared(load({"order": {**again, "compatibility": "BACKWARD"}}, served.api.url))
        == []
    )
    level = {"compatibility": "BACKWARD_TRANSITIVE"}
    (problem,) = check_declared(load({"order": again | level}, served.api.url))
    assert "compared with version 1" in problem.message


def test_it_is_shown_a_token_and_told_when_that_will_not_do(load, tmp_path, sqlite_url, store):
    server = f'server: {{tokens: "ops:{WRITER}:write\\nci:{READER}"}}'
    schemas = {"order": {"data_schema": ORDER}}
    with serving(tmp_path, sqlite_url, server) as served:
        for auth in (WRITER, f"anybody:{WRITER}"):
            register_declared(load(schemas, served.api.url, auth))
        assert subjects(served, ("ops", WRITER)) == ["order"]
        for auth in (None, "wrong-0123456789"):
            with pytest.raises(FatalError) as caught:
                register_declared(load(schemas, served.api.url, auth))
            assert caught.value.code == "schema_registry_answer"
            assert "wrong" not in str(caught.value)


@pytest.mark.slow
def test_one_that_is_away_is_told_as_such(load, capsys):
    plan = load({"order": {"data_schema": ORDER}}, "http://127.0.0.1:1")
    with pytest.raises(FatalError) as caught:
        register_declared(plan)
    assert caught.value.unreachable
    assert main(["run", "remote.yaml", "--no-server"]) == 3
    assert "schema_registry_away" in capsys.readouterr().err
    assert main(["validate", "remote.yaml", "--connect", "-o", "json"]) == 3
    checks = json.loads(capsys.readouterr().out)["checks"]
    (mine,) = [each for each in checks if each["module"] == "schema_registry"]
    assert (mine["ok"], mine["unreachable"]) == (False, True)


@pytest.mark.slow
def test_what_answers_is_checked_for_json_schema(load, served, capsys):
    load({"order": {"data_schema": ORDER}}, served.api.url)
    main(["validate", "remote.yaml", "--connect", "-o", "json"])
    checks = json.loads(capsys.readouterr().out)["checks"]
    (mine,) = [each for each in checks if each["module"] == "schema_registry"]
    assert (mine["name"], mine["ok"]) == ("JSON Schema", True)


def test_commands_about_the_states_registry_say_that_it_is_elsewhere(load, capsys):
    load({"order": {"data_schema": ORDER}}, "http://127.0.0.1:1")
    assert main(["schema", "list", "remote.yaml"]) == 2
    assert "error[schema_registry_elsewhere]" in capsys.readouterr().err


def test_a_password_does_not_stand_in_the_url(load):
    with pytest.raises(FlowErrors, match="without user and password"):
        load({}, "http://me:secret@127.0.0.1:1")
