"""Subjects and their versions: registered, found again, evolved, deleted."""

from __future__ import annotations

import json
import threading

import pytest

from flows.schemas.registry import LATEST, parse_version
from schema_registry.checking import bundled
from schema_registry.documents import Reference
from schema_registry.errors import IncompatibleError, RegistryError
from schema_registry.validation import Validator

ORDER = {
    "type": "object",
    "required": ["id"],
    "additionalProperties": False,
    "properties": {"id": {"type": "string"}},
}


def order(**properties):
    return {**ORDER, "properties": {**ORDER["properties"], **properties}}


def register(registry, subject, body, references=(), **more):
    text = body if isinstance(body, str) else json.dumps(body)
    return registry.register(subject, registry.candidate(text, references), **more)


def number(call, *arguments, **named):
    with pytest.raises(RegistryError) as caught:
        call(*arguments, **named)
    return caught.value.number


def test_a_schema_gets_an_id_and_a_version_and_is_found_by_either(registry):
    first = register(registry, "orders", ORDER)
    assert (first.version.version, first.content.id) == (1, 1)
    assert json.loads(registry.content(1).text) == ORDER
    assert registry.get("orders") == registry.get("orders", 1) == first
    assert registry.content_by_guid(first.content.guid) == first.content
    assert registry.subjects() == ["orders"]


def test_the_same_content_has_the_same_id_wherever_and_however_it_is_written(registry):
    first = register(registry, "orders", ORDER)
    again = register(registry, "orders", json.dumps(dict(reversed(ORDER.items())), indent=2))
    elsewhere = register(registry, "copies", ORDER)
    assert again == first
    assert (elsewhere.content.id, elsewhere.version.version) == (first.content.id, 1)
    assert [each.subject for each in registry.versions_of(first.content.id)] == ["copies", "orders"]


def test_numbers_in_a_schema_are_kept_to_the_last_digit(registry):
    text = '{"maximum":123456789012345678901234567890,"multipleOf":0.1}'
    assert registry.content(register(registry, "s", text).content.id).text == text


def test_a_version_that_breaks_readers_is_refused_with_pointer_and_rule(registry):
    register(registry, "orders", order(total={"type": "number"}))
    with pytest.raises(IncompatibleError) as caught:
        register(registry, "orders", order(total={"type": "string"}))
    assert [(each.rule, each.pointer, each.version) for each in caught.value.found] == [
        ("TYPE_CHANGED", "/properties/total", 1)
    ]
    assert "TYPE_CHANGED at /properties/total" in caught.value.message
    assert len(registry.versions("orders")) == 1


@pytest.mark.parametrize(
    ("level", "may_add", "may_remove"),
    [
        ("BACKWARD", True, False),
        ("BACKWARD_TRANSITIVE", True, False),
        ("FORWARD", False, True),
        ("FORWARD_TRANSITIVE", False, True),
        ("FULL", False, False),
        ("FULL_TRANSITIVE", False, False),
        ("NONE", True, True),
    ],
)
def test_the_level_says_who_must_be_able_to_read_what(registry, level, may_add, may_remove):
    registry.set_level(level, "orders")
    register(registry, "orders", order(note={"type": "string"}))
    wider = registry.candidate(json.dumps(order(note={"type": "string"}, more={"type": "null"})))
    narrower = registry.candidate(json.dumps(ORDER))
    assert (not registry.check("orders", wider)) == may_add
    assert (not registry.check("orders", narrower)) == may_remove


def test_a_transitive_level_looks_at_all_versions_the_others_at_the_last(registry):
    registry.set_level("NONE", "orders")
    register(registry, "orders", {"type": "integer"})
    register(registry, "orders", {"type": "string"})
    text = registry.candidate('{"type":"string","title":"t"}')
    registry.set_level("BACKWARD", "orders")
    assert registry.check("orders", text) == []
    registry.set_level("BACKWARD_TRANSITIVE", "orders")
    assert [each.version for each in registry.check("orders", text)] == [1]


def test_a_subject_follows_the_level_of_all_until_it_has_its_own(registry):
    assert (registry.level(), registry.level("orders")) == ("BACKWARD", None)
    registry.set_level("NONE")
    register(registry, "orders", {"type": "integer"})
    register(registry, "orders", {"type": "string"})
    registry.set_level("FULL", "orders")
    assert number(register, registry, "orders", {"type": "null"}) == 409
    assert registry.forget_level("orders") == "FULL"
    register(registry, "orders", {"type": "null"})
    assert number(registry.forget_level, "orders") == 40408
    assert number(registry.set_level, "SIDEWAYS") == 42203


def test_what_is_no_json_schema_is_refused(registry):
    for text in (
        "{",
        '"text"',
        "[]",
        '{"type":"objekt"}',
        '{"a":NaN}',
        '{"maximum":1e999}',
        '{"$ref":"#/nowhere"}',
    ):
        assert number(registry.candidate, text) == 42201, text
    assert number(registry.candidate, '{"a":' * 150 + "{}" + "}" * 150) == 42201
    assert number(registry.candidate, '{"a":' * 5000 + "{}" + "}" * 5000) == 42201
    assert number(register, registry, "", ORDER) == 42208


def test_nothing_is_fetched_from_the_network(registry):
    with pytest.raises(RegistryError, match=r"\$ref https://example\.com/a\.json leads nowhere"):
        registry.candidate('{"properties":{"a":{"$ref":"https://example.com/a.json"}}}')


def test_what_a_schema_refers_to_is_found_by_its_name_and_kept(registry):
    register(registry, "address", {"type": "object", "properties": {"zip": {"type": "string"}}})
    to_address = Reference("address.json", "address", LATEST)
    schema = order(to={"$ref": "address.json"})
    found = register(registry, "orders", schema, [to_address])
    assert found.content.references == (Reference("address.json", "address", 1),)
    assert registry.referrers("address", 1) == [found.content.id]
    assert number(registry.delete_version, "address", 1) == 42206
    assert number(registry.delete_subject, "address") == 42206
    assert number(registry.candidate, json.dumps(schema)) == 42201
    assert number(registry.candidate, "{}", [Reference("x", "nobody", 1)]) == 42201
    with pytest.raises(RegistryError, match="no version 7 of subject"):
        registry.candidate("{}", [Reference("x", "address", 7)])


def test_what_has_an_id_of_its_own_is_found_by_it_in_validation_too(registry):
    money = {
        "$id": "https://example.com/money",
        "type": "number",
        "$defs": {"c": {"$id": "cent", "const": 1}},
    }
    register(registry, "money", money)
    uses = [Reference("money.json", "money", 1)]
    schema = {
        "properties": {
            "a": {"$ref": "money.json"},
            "b": {"$ref": "https://example.com/money"},
            "c": {"$ref": "https://example.com/cent"},
            "d": {"$ref": "money.json#/$defs/c"},
        }
    }
    candidate = registry.candidate(json.dumps(schema), uses)
    value, resources = bundled(candidate.document)
    fits = Validator(value, registry=resources).is_valid
    assert fits({"a": 2, "b": 2, "c": 1, "d": 1})
    assert not any(map(fits, ({"a": "x"}, {"b": "x"}, {"c": 2}, {"d": 2})))


def test_a_change_of_what_is_referred_to_counts(registry):
    registry.set_level("NONE", "address")
    register(registry, "address", {"type": "string"})
    register(registry, "address", {"type": "number"})
    schema = order(to={"$ref": "address.json"})
    register(registry, "orders", schema, [Reference("address.json", "address", 1)])
    with pytest.raises(IncompatibleError, match="TYPE_CHANGED at /properties/to"):
        register(registry, "orders", schema, [Reference("address.json", "address", 2)])


def test_deleting_is_first_soft_and_then_for_good(registry):
    register(registry, "orders", ORDER)
    second = register(registry, "orders", order(note={"type": "string"}))
    assert number(registry.delete_version, "orders", 2, permanent=True) == 40407
    assert registry.delete_version("orders", LATEST) == 2
    assert [each.version for each in registry.versions("orders")] == [1]
    assert [each.version for each in registry.versions("orders", deleted=True)] == [1, 2]
    assert number(registry.get, "orders", 2) == 40402
    assert registry.get("orders", 2, deleted=True).content == second.content
    assert registry.content(second.content.id) == second.content  # old messages are still read
    assert number(registry.delete_version, "orders", 2) == 40406
    assert registry.delete_version("orders", 2, permanent=True) == 2
    assert number(registry.content, second.content.id) == 40403
    assert number(registry.delete_version, "orders", 2) == 40402
    again = register(registry, "orders", order(note={"type": "string"}))
    assert again.content == second.content  # what is in messages never means another schema


def test_a_subject_is_deleted_with_all_its_versions_and_what_it_said_of_itself(registry):
    registry.set_level("FULL", "orders")
    register(registry, "orders", ORDER)
    assert number(registry.delete_subject, "orders", permanent=True) == 40405
    assert registry.delete_subject("orders") == [1]
    assert (registry.subjects(), registry.subjects(deleted=True)) == ([], ["orders"])
    assert number(registry.delete_subject, "orders") == 40404
    assert number(registry.versions, "orders") == 40401
    assert registry.level("orders") is None
    assert register(registry, "orders", {"type": "null"}).version.version == 2
    registry.delete_subject("orders")
    assert registry.delete_subject("orders", permanent=True) == [1, 2]
    assert number(registry.delete_subject, "orders") == 40401


def test_a_schema_is_looked_up_by_its_content(registry):
    found = register(registry, "orders", ORDER)
    assert registry.lookup("orders", registry.candidate(json.dumps(ORDER))) == found
    assert number(registry.lookup, "orders", registry.candidate("{}")) == 40403
    assert number(registry.lookup, "nobody", registry.candidate("{}")) == 40401


def test_read_only_means_that_nothing_is_registered_or_deleted(registry):
    found = register(registry, "orders", ORDER)
    registry.set_mode("READONLY", "orders")
    assert register(registry, "orders", ORDER) == found
    assert number(register, registry, "orders", order(a={"type": "null"})) == 42205
    assert number(registry.delete_version, "orders", 1) == 42205
    assert registry.forget_mode("orders") == "READONLY"
    assert number(registry.forget_mode, "orders") == 40409
    assert registry.delete_version("orders", 1) == 1
    assert number(registry.set_mode, "SLEEPING") == 42204


def test_an_import_keeps_ids_and_versions_and_asks_for_no_compatibility(registry):
    assert number(register, registry, "orders", ORDER, version=7, schema=40) == 42205
    registry.set_mode("IMPORT")
    assert number(register, registry, "orders", ORDER) == 42205
    found = register(registry, "orders", ORDER, version=7, schema=40)
    assert (found.version.version, found.content.id) == (7, 40)
    register(registry, "orders", {"type": "null"}, version=3, schema=41)
    assert number(register, registry, "x", ORDER, version=1, schema=99) == 42207
    assert number(register, registry, "x", {"type": "array"}, version=1, schema=40) == 42205
    assert number(register, registry, "orders", {"type": "array"}, version=3, schema=42) == 42205
    registry.set_mode("READWRITE")
    after = register(registry, "others", {"type": "array"})
    assert after.content.id == 42
    assert number(registry.set_mode, "IMPORT") == 42205
    assert registry.set_mode("IMPORT", force=True) == "IMPORT"


def test_a_label_means_one_schema(registry):
    first = register(registry, "orders", ORDER, label="1.0")
    assert registry.labelled("orders", "1.0") == first
    changed = order(note={"type": "string"})
    with pytest.raises(RegistryError, match=r"orders@1\.0 is registered already"):
        register(registry, "orders", changed, label="1.0")
    second = register(registry, "orders", changed, label="1.1")
    assert registry.labelled("orders", "1.1").version == second.version
    assert number(registry.labelled, "orders", "9") == 40402
    assert number(registry.labelled, "nobody", "9") == 40401


def test_those_who_register_at_once_each_get_their_own_version(opening):
    registries = [opening() for _ in range(4)]
    registries[0].set_level("NONE")
    failures = []

    def work(index):
        try:
            for n in range(5):
                register(registries[index], "orders", {"const": [index, n]})
                register(registries[index], "orders", {"const": "shared"})
        except Exception as error:  # noqa: BLE001 - told by the assertion below
            failures.append(error)

    threads = [threading.Thread(target=work, args=(index,)) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    versions = registries[0].versions("orders")
    assert [each.version for each in versions] == list(range(1, 22))
    assert len({each.schema for each in versions}) == 21


@pytest.mark.parametrize("text", ["0", "-2", "x", "", "1.0", "99999999999", "²"])
def test_what_is_no_version_is_refused(text):
    assert number(parse_version, text) == 42202
