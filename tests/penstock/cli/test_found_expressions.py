"""Which expressions a type's settings hold, wherever they stand."""

from __future__ import annotations

from connectors.settings import Jq, Path, Settings, Template, TemplateValue
from penstock.cli.found_expressions import FoundExpression, expressions_of


class Inner(Settings):
    condition: Jq
    target: Path | None = None


class Outer(Settings):
    plain: str = "{{ .not_an_expression }}"
    program: Jq | None = None
    text: Template = ""
    rules: tuple[Inner, ...] = ()
    columns: dict[str, Jq] = {}  # noqa: RUF012 - pydantic copies it
    body: TemplateValue = None


def found(**values):
    return [(one.key, one.language, one.text) for one in expressions_of(Outer(**values))]


def test_there_are_none_where_none_is_written():
    assert found() == []
    assert found(text="constant") == []


def test_expressions_are_found_in_lists_mappings_and_nested_models():
    assert found(
        program=".a",
        rules=[{"condition": ".b", "target": "steps.x.output"}, {"condition": ".c"}],
        columns={"id": ".d"},
    ) == [
        ("program", "jq", ".a"),
        ("rules[0].condition", "jq", ".b"),
        ("rules[0].target", "path", "steps.x.output"),
        ("rules[1].condition", "jq", ".c"),
        ("columns.id", "jq", ".d"),
    ]


def test_templates_are_found_at_any_depth_of_a_free_value():
    body = {"a": ["x", "{{ .one }}"], "b": {"c": "say {{ .two }}"}, "n": 1}
    assert found(body=body) == [
        ("body.a[1]", "template", "{{ .one }}"),
        ("body.b.c", "template", "say {{ .two }}"),
    ]


def test_a_prefix_stands_in_front_of_the_key():
    (one,) = expressions_of(Inner(condition=".x"), "config.")
    assert one == FoundExpression("config.condition", "jq", ".x")
