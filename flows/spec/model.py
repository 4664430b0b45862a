"""Models of a flow file's top level, key by key."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from annotated_types import Ge
from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema

from connectors.settings import Duration, Settings, Size
from flows.spec.operations import Alert, Isolation, Scale
from flows.spec.pipelines import Name, Pipeline, Retry
from flows.spec.redactions import check_redaction
from flows.spec.registries import ExternalRegistry
from flows.spec.server import Server
from schema_registry.rules import Level

_RECORD = re.compile(r"full|errors|off|sampled\((0(?:\.\d+)?|1(?:\.0+)?|\.\d+)\)")
_STATE_URL = re.compile(r"(sqlite:///.+|postgres(ql)?://.+)")


def _check_record(value: str) -> str:
    if not _RECORD.fullmatch(value):
        raise ValueError("full, errors, off or sampled(x), x from 0 to 1 such as sampled(0.01)")
    return value


def check_state_url(value: str) -> str:
    """Return the URL of a state store. Raises ValueError with what is expected."""
    try:
        readable = bool(_STATE_URL.fullmatch(value)) and urlsplit(value).port != 0
    except ValueError:  # a port that is no number: often a password with a slash in it
        readable = False
    if not readable:
        raise ValueError("a URL such as sqlite:///penstock.db or postgresql://user@host/database")
    return value


def _check_version(value: Any) -> Any:
    if isinstance(value, bool) or value != 1:
        raise ValueError("1, the version of the flow file's format")
    return value


def _pattern(pattern: str, *examples: str) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", "pattern": f"^({pattern})$", "examples": [*examples]})


class State(Settings):
    """Where checkpoints, dead letters and history are kept."""

    url: Annotated[
        str,
        AfterValidator(check_state_url),
        _pattern(_STATE_URL.pattern, "sqlite:///penstock.db"),
        "secret",
    ] = "sqlite:///penstock.db"
    """SQLite file or PostgreSQL database; PENSTOCK_STATE_URL overrides it."""


class History(Settings):
    """What is recorded of executions, and for how long."""

    record: Annotated[
        str, AfterValidator(_check_record), _pattern(_RECORD.pattern, "full", "sampled(0.01)")
    ] = "full"
    """`full`, `errors` (failed ones only), `sampled(0.01)` (that part of them) or `off`."""
    retention: Duration = 30 * 86400.0
    """How long history is kept."""
    max_size: Size = 10_000_000_000
    """Most bytes that history may take; the oldest goes first."""
    redact: list[Annotated[str, AfterValidator(check_redaction)]] = Field(default=[])
    """Paths to what is masked before it is recorded, such as `.data.card`, `.data.items[].card` or
    `.steps.customer.output.name`. Dead letters and what waits keep it: they are to run again."""


class Log(Settings):
    """How logs are written."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    """Least important lines that are written."""
    format: Literal["auto", "console", "json"] = "auto"
    """`auto`: for people on a terminal, JSON elsewhere."""


class Archive(Settings):
    """Keeps a source's events, so that they can be read again."""

    retention: Duration
    """How long events are kept."""
    max_size: Annotated[Size, Ge(1)] | None = None
    """Most bytes that they may take; the oldest go first."""


class Module(Settings):
    """A source, a sink or a step that pipelines refer to by name."""

    name: Name
    """The module's name, unique in the flow."""
    type: str
    """What it is, such as `source.postgres_cdc`, `sink.kafka` or `step.http_call`."""
    config: dict[str, Any] = Field(default={})
    """The module's own settings; see its type."""
    archive: Archive | None = None
    """Keep a source's events, so that they can be read again."""
    retry: Retry | None = None
    """How often a step module is tried, for all steps that use it."""


_SCHEMA_KEY = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*(@[0-9A-Za-z][0-9A-Za-z._-]*)?")


def _check_schema_key(value: str) -> str:
    if not _SCHEMA_KEY.fullmatch(value):
        raise ValueError(
            "a name of letters, digits, dots, hyphens and underscores, or name@version"
        )
    return value


SchemaKey = Annotated[str, AfterValidator(_check_schema_key), _pattern(_SCHEMA_KEY.pattern)]


class SchemaDeclaration(Settings):
    """A JSON Schema that events must fit."""

    version: Annotated[str, Field(pattern=r"^[0-9A-Za-z][0-9A-Za-z._-]*$")] = "1"
    """Version of the schema; `name@version` refers to it. One that is written belongs to one schema
    in the registry for good: a changed schema needs another."""
    compatibility: Level | None = None
    """How versions of the schema must be compatible, in the registry; default: what it says there."""
    type: Literal["json", "cloudevents"] = "json"
    """What is checked: `json` the data alone, `cloudevents` the envelope too."""
    data_schema: dict[str, Any] | bool
    """JSON Schema of the data, drafts 4 to 2020-12."""


class FlowFile(Settings):
    """A flow: where events come from, what happens to them and where they go."""

    version: Annotated[
        int, BeforeValidator(_check_version), WithJsonSchema({"type": "integer", "enum": [1]})
    ] = 1
    """Version of the flow file's format."""
    name: Name | None = None
    """The flow's name; default: the first file's name."""
    state: State = State()
    """Where checkpoints, dead letters and history are kept."""
    history: History = History()
    """What is recorded of executions, and for how long."""
    server: Server | None = None
    """Where the HTTP API is served, and who may call it."""
    log: Log = Log()
    """How logs are written."""
    modules: list[Module] = Field(default=[])
    """Sources, sinks and shared steps."""
    schemas: dict[SchemaKey, SchemaDeclaration] = Field(default={})
    """JSON Schemas by name, or by `name@version` where a flow uses several versions. `run` registers
    them in the schema registry of the state store."""
    schema_registry: ExternalRegistry | None = None
    """A Confluent Schema Registry that keeps the flow's schemas; default: the state store does."""
    pipelines: dict[Name, Pipeline] = Field(default={})
    """What happens to events, by name."""
    alerts: list[Alert] = Field(default=[])
    """Tells somebody when a measure passes its threshold."""
    scale: Scale | None = None
    """Workers, quotas of tenants and backpressure."""
    isolation: Isolation | None = None
    """Keeps tenants from using up each other's share."""
