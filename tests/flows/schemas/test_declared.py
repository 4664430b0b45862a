"""Schemas of flow files: linked, pinned, compared with the registry, registered at the start."""

from __future__ import annotations

import json

import pytest

from connectors.errors import FlowFileError
from flows.plan import load_flow
from flows.schemas.declared import check_declared, in_order, register_declared
from flows.schemas.registry import SchemaRegistry
from flows.spec.problems import FlowErrors
from flows.state.store import open_store
from penstock.cli.app import main

ORDER = {
    "type": "object",
    "required": ["id"],
    "additionalProperties": False,
    "properties": {"id": {"type": "string"}},
}


def order(**properties):
    return {**ORDER, "properties": {**ORDER["properties"], **properties}}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.delenv("PENSTOCK_STATE_URL", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def load(folder, url):
    """Load a flow with these schemas, whose state is on either database."""

    def load(schemas, **more):
        path = folder / "shop.yaml"
        # JSON is YAML, and keeps one schema a line.
        lines = ",\n".join(f"{json.dumps(k)}: {json.dumps(v)}" for k, v in schemas.items())
        flow = {"state": {"url": url}, **more}
        path.write_text(f'{{"schemas": {{\n{lines}\n}},\n{json.dumps(flow)[1:]}\n')
        return load_flow([path], {})

    return load


def codes(load, schemas):
    with pytest.raises(FlowErrors) as caught:
        load(schemas)
    return [each.code for each in caught.value.problems]


def fits(plan, reference, value):
    return plan.schemas.validator(reference).is_valid(value)


# --- in the file --------------------------------------------------------------------------------


def test_two_versions_of_a_subject_stand_beside_each_other(load):
    plan = load(
        {
            "order": {"version": "2.0", "data_schema": {"type": "string"}},
            "order@1.0": {"data_schema": {"type": "integer"}},
        }
    )
    assert fits(plan, "order", "x")
    assert fits(plan, "order@2.0", "x")
    assert fits(plan, "order@1.0", 1)
    assert not fits(plan, "order@1.0", "x")


def test_where_all_are_pinned_the_name_alone_means_the_last(load):
    plan = load({f"order@{n}": {"data_schema": {"const": n}} for n in (1, 2)})
    assert fits(plan, "order", 2)


def test_a_version_is_declared_once_and_as_its_key_says(load):
    assert codes(
        load,
        {
            "order": {"version": "1.0", "data_schema": {}},
            "order@1.0": {"data_schema": {}},
        },
    ) == ["schema_version_twice"]
    assert codes(load, {"order@1.0": {"version": "2.0", "data_schema": {}}}) == [
        "schema_version_differs"
    ]


def test_a_ref_leads_to_another_declared_schema_and_into_it(load):
    plan = load(
        {
            "cart": {
                "data_schema": {
                    "properties": {
                        "order": {"$ref": "order"},
                        "id": {"$ref": "order@1.0#/properties/id"},
                    }
                }
            },
            "order": {"version": "1.0", "data_schema": order(to={"$ref": "address"})},
            "address": {"data_schema": {"properties": {"zip": {"type": "string"}}}},
        }
        | {
            "order@1.0": {"data_schema": ORDER},
            "order": {"version": "2", "data_schema": order(to={"$ref": "address"})},
        }
    )
    assert fits(plan, "cart", {"order": {"id": "a", "to": {"zip": "1"}}, "id": "b"})
    assert not fits(plan, "cart", {"order": {"id": "a", "to": {"zip": 1}}})
    assert not fits(plan, "cart", {"id": 1})
    assert [each.key for each in in_order(plan.declared_schemas)] == [
        "address",
        "order@1.0",
        "order",
        "cart",
    ]


def test_refs_to_what_is_not_declared_and_in_circles_are_refused(load):
    assert codes(load, {"a": {"data_schema": {"$ref": "https://example.com/b"}}}) == [
        "json_schema_invalid"
    ]
    with pytest.raises(FlowErrors, match="a → b → a"):
        load({"a": {"data_schema": {"$ref": "b"}}, "b": {"data_schema": {"$ref": "a"}}})


# --- and the registry ---------------------------------------------------------------------------


@pytest.fixture
def registered(url):
    """Tell the subjects' versions that are registered, each with its label."""

    def registered():
        store = open_store(url)
        found = [
            (each.version.subject, each.version.version, each.version.label)
            for each in SchemaRegistry(store.schemas).all_versions()
        ]
        store.close()
        return found

    return registered


def test_what_a_flow_declares_is_registered_once(load, registered):
    schemas = {
        "cart": {"version": "1.0", "data_schema": {"properties": {"o": {"$ref": "order"}}}},
        "order": {"data_schema": ORDER},
    }
    assert check_declared(load(schemas)) == []
    for _ in range(2):
        register_declared(load(schemas))
        assert registered() == [("cart", 1, "1.0"), ("order", 1, None)]
    schemas["order"]["data_schema"] = order(note={"type": "string"})
    # The cart is another schema, too: what it refers to has changed.
    (problem,) = check_declared(load(schemas))
    assert (problem.line, problem.code) == (2, "schema_label_taken")
    schemas["cart"]["version"] = "1.1"
    assert check_declared(load(schemas)) == []
    register_declared(load(schemas))
    assert registered()[1:] == [("cart", 2, "1.1"), ("order", 1, None), ("order", 2, None)]


def test_a_new_version_is_registered_beside_the_one_that_is_pinned(load, registered):
    register_declared(load({"order": {"version": "1.0", "data_schema": ORDER}}))
    both = {
        "order": {"version": "1.10", "data_schema": order(a={}, b={})},
        "order@1.9": {"data_schema": order(a={})},
        "order@1.0": {"data_schema": ORDER},
    }
    register_declared(load(both))
    assert registered() == [("order", 1, "1.0"), ("order", 2, "1.9"), ("order", 3, "1.10")]


def test_an_incompatible_version_is_refused_at_its_line_with_rule_and_pointer(load, registered):
    register_declared(load({"order": {"version": "1.0", "data_schema": ORDER}}))
    changed = load(
        {
            "fine": {"data_schema": {}},
            "order": {"version": "2.0", "data_schema": order(id={"type": "integer"})},
        }
    )
    (problem,) = check_declared(changed)
    assert (problem.code, problem.line) == ("schema_incompatible", 3)
    assert "TYPE_CHANGED at /properties/id" in problem.message
    with pytest.raises(FlowErrors, match="TYPE_CHANGED"):
        register_declared(changed)
    assert registered() == [("order", 1, "1.0")]


def test_versions_of_one_file_are_compared_before_any_of_them_is_registered(load, registered):
    plan = load(
        {
            "order@1.0": {"data_schema": {"type": "string"}},
            "order@2.0": {"data_schema": {"type": "integer"}},
        }
    )
    with pytest.raises(FlowErrors, match=r"schema order@2\.0: .* compared with version 1"):
        register_declared(plan)
    assert registered() == []


def test_a_flow_may_say_how_its_versions_must_be_compatible(load, registered, url):
    register_declared(load({"order": {"data_schema": {"type": "string"}}}))
    changed = {"data_schema": {"type": "integer"}}
    assert check_declared(load({"order": changed}))
    plan = load({"order": {**changed, "compatibility": "NONE"}})
    assert check_declared(plan) == []
    register_declared(plan)
    assert len(registered()) == 2
    with pytest.raises(FlowErrors, match="compatibility"):
        load({"order": {**changed, "compatibility": "SIDEWAYS"}})


def test_a_version_that_is_written_means_one_schema(load):
    register_declared(load({"order": {"version": "1.0", "data_schema": ORDER}}))
    changed = {"order": {"version": "1.0", "data_schema": order(note={})}}
    (problem,) = check_declared(load(changed))
    assert problem.code == "schema_label_taken"


# --- commands -----------------------------------------------------------------------------------

FLOW = {
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


def test_validate_and_run_refuse_an_incompatible_version(load, folder, url, capsys):
    register_declared(load({"order": {"version": "1.0", "data_schema": ORDER}}))
    load({"order": {"version": "2.0", "data_schema": {"type": "array"}}}, **FLOW)
    commands = [("run", "--no-server")]
    commands += [("validate",)] if url.startswith("sqlite") else [("validate", "--connect")]
    for command in commands:
        assert main([*command, "shop.yaml"]) == 2
        err = capsys.readouterr().err
        assert "shop.yaml:2:1: schema order: the schema is not BACKWARD compatible" in err
        assert "TYPE_CHANGED" in err


def test_validate_needs_no_state(load, folder, capsys):
    plan = load({"order": {"data_schema": ORDER}}, **FLOW)
    assert check_declared(plan) == []
    assert main(["validate", "shop.yaml"]) == 0
    assert not (folder / "state.db").exists()


def test_an_unknown_version_is_told_with_those_that_are_declared(load):
    plan = load({"order@1.0": {"data_schema": {}}})
    with pytest.raises(FlowFileError, match="no schema order@2"):
        plan.schemas.validator("order@2")


def test_versions_that_would_have_to_come_before_each_other_are_refused(load, registered):
    plan = load(
        {
            "Z": {"data_schema": {"$ref": "a@2"}},
            "a@1": {"data_schema": {"$ref": "b@2"}},
            "a@2": {"data_schema": {"type": "string"}},
            "b@1": {"data_schema": {"$ref": "a@2"}},
            "b@2": {"data_schema": {"type": "string"}},
        }
    )
    with pytest.raises(FlowErrors, match="can't be registered before it"):
        register_declared(plan)
    assert registered() == []
