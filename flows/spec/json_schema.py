"""The JSON Schema of a flow file, for editors: draft-07, since YAML servers know no newer one.

Made from the same models that flow files are read into, so it can't disagree with them. What a
`config` holds depends on the `type` beside it: an `if`/`then` per connector and step.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from pydantic import AliasChoices, BaseModel, TypeAdapter
from pydantic.json_schema import models_json_schema

from connectors.errors import FlowFileError
from connectors.registry import connector_type, connector_types
from connectors.settings import Duration, Settings
from flows.spec.model import FlowFile, Module
from flows.spec.pipelines import Compensation, Pipeline, Step, Trigger
from flows.spec.shape import spellings
from transforms.registry import step_type, step_types
from transforms.steps.substeps import SubStep

Schema = dict[str, Any]

_SUBSTITUTION: Schema = {"type": "string", "pattern": r"\$\{[^}]+\}"}
_RESTRICTED = ("pattern", "format", "minLength", "maxLength")
_DURATIONS = TypeAdapter(Duration).json_schema()["examples"]


def flow_json_schema() -> Schema:
    """Return the schema, with every connector and step that is installed and can be imported."""
    modules: dict[str, tuple[type[Settings], str]] = {}
    for name in connector_types():
        with suppress(FlowFileError):
            connector = connector_type(name)
            if connector is not None:
                modules[name] = (connector.settings, connector.summary)
    steps: dict[str, tuple[type[Settings], str]] = {}
    for name in step_types():
        with suppress(FlowFileError):
            step = step_type(name)
            if step is not None:
                steps[name] = (step.settings, step.summary)
    models: list[type[BaseModel]] = [
        FlowFile,
        Module,
        Step,
        Compensation,
        SubStep,
        Trigger,
        Pipeline,
    ]
    models += dict.fromkeys(settings for settings, _ in [*modules.values(), *steps.values()])
    references, generated = models_json_schema(
        [(model, "validation") for model in models], ref_template="#/definitions/{model}"
    )
    definitions: dict[str, Schema] = {
        name: draft_07(schema) for name, schema in generated.get("$defs", {}).items()
    }
    names = {model: _name(references[model, "validation"]) for model in models}
    for model, name in names.items():
        _add_spellings(model, definitions[name])
    for settings, _ in steps.values():
        partial = {k: v for k, v in definitions[names[settings]].items() if k != "required"}
        definitions[f"{names[settings]}Base"] = partial
    _choose_config(
        definitions[names[Module]],
        {kind: (names[model], summary) for kind, (model, summary) in modules.items()}
        | {kind: (f"{names[model]}Base", summary) for kind, (model, summary) in steps.items()},
        definitions,
    )
    for model in (Step, Compensation, SubStep):
        holder = definitions[names[model]]
        _choose_config(
            holder,
            {kind: (names[model], summary) for kind, (model, summary) in steps.items()},
            definitions,
        )
        if "use" in holder["properties"]:
            holder["oneOf"] = [{"required": ["type"]}, {"required": ["use"]}]
    _allow_trigger_config(definitions[names[Trigger]])
    flow = definitions.pop(names[FlowFile])
    flow["properties"]["steps"] = {
        "description": "Steps of a single pipeline that is named like the file.",
        **definitions[names[Pipeline]]["properties"]["steps"],
    }
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "Penstock flow file",
        **{key: value for key, value in flow.items() if key != "title"},
        "definitions": definitions,
    }


def _name(reference: Schema) -> str:
    return str(reference["$ref"]).rsplit("/", 1)[-1]


def draft_07(schema: Any, *, arm: bool = False, literal: bool = False) -> Any:
    """Return the schema without what draft-07 lacks; `${…}` may stand for any single value.

    An `arm` is one of several schemas for a value: the whole takes `${…}` then. In a `literal` file
    nothing is substituted.
    """
    if not isinstance(schema, dict):
        return schema
    out: Schema = {}
    for key, value in schema.items():
        match key:
            case "properties":
                out[key] = {name: draft_07(inner, literal=literal) for name, inner in value.items()}
            case "anyOf" | "oneOf" | "allOf":
                out[key] = [draft_07(inner, arm=True, literal=literal) for inner in value]
            case "prefixItems":
                out["items"] = [draft_07(inner, literal=literal) for inner in value]
            case "items" | "additionalProperties" | "propertyNames":
                out[key] = draft_07(value, arm=key == "propertyNames", literal=literal)
            case "title" | "discriminator" | "deprecated" | "unevaluatedProperties":
                continue
            case _:
                out[key] = value
    if isinstance(out.get("default", ...), dict | None):
        del out["default"]  # nothing, or what the keys within say one by one
    elif out.get("examples") == _DURATIONS and isinstance(out.get("default"), int | float):
        out["default"] = _duration(out["default"])
    if "$ref" in out and len(out) > 1:
        # Draft-07 ignores what stands beside a $ref.
        out["allOf"] = [{"$ref": out.pop("$ref")}, *out.pop("allOf", [])]
    return out if arm or literal else _or_substitution(out)


def _duration(seconds: float) -> str:
    """Return seconds as a flow file writes them."""
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        if seconds and seconds % length == 0:
            return f"{seconds / length:g}{unit}"
    return f"{seconds * 1000:g}ms"


def _or_substitution(schema: Schema) -> Schema:
    if "anyOf" in schema:
        if any(_is_restricted(arm) for arm in schema["anyOf"]):
            return {**schema, "anyOf": [*schema["anyOf"], _SUBSTITUTION]}
        return schema
    if not _is_restricted(schema):
        return schema
    notes = ("description", "default", "examples")
    beside: Schema = {key: schema[key] for key in notes if key in schema}
    inner = {key: value for key, value in schema.items() if key not in beside}
    return {**beside, "anyOf": [inner, _SUBSTITUTION]}


def _is_restricted(schema: Schema) -> bool:
    """Whether a schema is for a single value and does not take just any text."""
    kind = schema.get("type")
    if kind in {"integer", "number", "boolean"} or "enum" in schema or "const" in schema:
        return True
    return kind == "string" and any(key in schema for key in _RESTRICTED)


def _add_spellings(model: type[BaseModel], schema: Schema) -> None:
    """Add the further keys that a field is read from."""
    properties: Schema = schema.get("properties", {})
    for name, info in model.model_fields.items():
        if not isinstance(info.validation_alias, AliasChoices):
            continue
        names = spellings(name, info)
        found = next((properties[key] for key in names if key in properties), None)
        if found is not None:
            properties.update({key: properties.get(key, found) for key in names})
        if "required" in schema:
            schema["required"] = [key for key in schema["required"] if key not in names]


def _choose_config(
    holder: Schema, kinds: dict[str, tuple[str, str]], definitions: dict[str, Schema]
) -> None:
    """Make the schema of `config` depend on `type`."""
    holder["properties"]["type"] = {
        "description": holder["properties"]["type"].get("description", ""),
        "anyOf": [
            {"const": kind, "description": summary} for kind, (_, summary) in sorted(kinds.items())
        ],
    }
    choices = []
    for kind, (name, _) in sorted(kinds.items()):
        then: Schema = {"properties": {"config": {"$ref": f"#/definitions/{name}"}}}
        if definitions[name].get("required"):
            then["required"] = ["config"]
        choices.append(
            {"if": {"properties": {"type": {"const": kind}}, "required": ["type"]}, "then": then}
        )
    holder["allOf"] = choices


def _allow_trigger_config(trigger: Schema) -> None:
    """Allow `trigger: {type: event, config: {…}}` beside the flat form."""
    inner = {key: value for key, value in trigger["properties"].items() if key != "type"}
    trigger["properties"] = {
        **trigger["properties"],
        "config": {
            "description": "The trigger's other keys may stand here, too.",
            "type": "object",
            "properties": inner,
            "additionalProperties": False,
        },
    }
