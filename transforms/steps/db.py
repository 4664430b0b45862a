"""`step.db_query` and `step.db_exec`: an SQL statement per event, its values bound and never spliced."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from annotated_types import Ge, Le, MinLen
from pydantic import AfterValidator, AliasChoices, Field, model_validator
from typing_extensions import Self

from connectors.batch import Column
from connectors.contracts import Check
from connectors.errors import PenstockError, PermanentError
from connectors.settings import Duration, Settings, TemplateValue
from transforms.contracts import StepEnvironment, StepType
from transforms.executions import UNSET, Executions
from transforms.expressions import compile_value
from transforms.steps.db_calls import Along, Asking, Call, Database, Result, in_chains
from transforms.steps.db_statements import parse_statement
from transforms.steps.idempotent import OnlyIdempotentSettings

if TYPE_CHECKING:
    from transforms.steps.outbox import Outbox, OutboxRow

_POSTGRES = ("postgresql://", "postgres://")
_SQLITE = "sqlite:///"


def _check_query(value: str) -> str:
    if "{{" in value:
        raise ValueError(
            "a statement without {{ }}, which would make SQL of what an event holds: write ? in its "
            'place, and the value into params: ["{{ .data.id }}"]'
        )
    parse_statement(value)
    return value


def _check_database(value: str) -> str:
    if "://" in value and not value.startswith((*_POSTGRES, _SQLITE)):
        raise ValueError("a URL such as postgresql://user@host/shop or sqlite:///shop.db")
    if value.startswith(_SQLITE) and value.removeprefix(_SQLITE) in {"", ":memory:"}:
        raise ValueError("the file of a database, such as sqlite:///shop.db")
    return value


Query = Annotated[str, MinLen(1), AfterValidator(_check_query)]


class _Statement(Settings):
    """What both take."""

    database: Annotated[str, MinLen(1), AfterValidator(_check_database), "secret"] = Field(
        validation_alias=AliasChoices("database", "module")
    )
    """Database to ask: a `postgresql://` or `sqlite:///` URL."""
    query: Query
    """The statement, with `?` or `$1`, `$2`, … where `params` go."""
    params: list[TemplateValue] = Field(default=[], validation_alias=AliasChoices("params", "args"))
    """Values for the placeholders, in order. They are bound, whatever they hold; one that is missing
    is NULL."""
    timeout: Annotated[Duration, Ge(0.01), Le(3600)] = 30.0
    """How long the statement may take."""
    connections: Annotated[int, Ge(1), Le(100)] = 4
    """Connections kept to a PostgreSQL, and statements under way at the same time; those of one key
    go one after another. SQLite has one. In a step module they are shared by all steps of a worker
    that use it."""
    max_rows: Annotated[int, Ge(1)] = 10_000
    """Most rows that a statement may return; more fail the event."""
    numeric: Literal["string", "number"] = "string"
    """How a NUMERIC of PostgreSQL is shown: as a text, to the digit, or as a number."""

    @model_validator(mode="after")
    def _params_fit(self) -> Self:
        count = parse_statement(self.query).count
        if count != len(self.params):
            raise ValueError(
                f"as many params as the statement has placeholders: {count}, not {len(self.params)}"
            )
        return self

    def not_built(self) -> list[str]:
        """Return the settings, as `key: value`, that are modelled and not built yet."""
        return [] if "://" in self.database else ["database: the name of a module"]


class DbQuerySettings(_Statement):
    """Configuration of `step.db_query`."""

    mode: Literal["list", "many", "single", "one"] = "list"
    """`list` (or `many`): every row; `single` (or `one`): the first row or null, with `.found` and
    `.row` beside the output."""


class DbExecSettings(_Statement, OnlyIdempotentSettings):
    """Configuration of `step.db_exec`."""

    returning: bool = False
    """The statement has a RETURNING clause, and its rows are the output."""
    ignore_error: bool = False
    """Go on when the database refuses the statement: the output then has `ignored_error`. A database
    that is away is a failure all the same."""


class _DbStep:
    """What both do: bind, ask, and give each event its rows or its failure."""

    has_output = True

    def __init__(
        self,
        settings: DbQuerySettings | DbExecSettings,
        env: StepEnvironment,
        database: Database,
    ) -> None:
        self._name = env.name
        self._params = compile_value(settings.params)
        self._database = database
        self._outbox = env.outbox

    def run(self, executions: Executions, indexes: Sequence[int]) -> Column:
        """Run the statement for each event; one that fails undoes nothing of another's."""
        values, errors = self._params.column(executions, indexes)
        executions.failures.update(errors)
        calls = [Call(k, v) for k, v in zip(indexes, values, strict=True) if k not in errors]
        along = None
        if self._outbox is not None:
            along = Along(self._outbox, partial(self._rows, self._outbox, executions))
        outcomes = self._database.run(in_chains(calls, executions.turn_column()), along)
        details = executions.details.get(self._name)
        if details is None:
            details = executions.details[self._name] = [None] * executions.events.size
        outputs: Column = []
        for index in indexes:
            outcome: Result | PenstockError | dict[str, Any] | None = outcomes.get(index)
            if isinstance(outcome, PenstockError):
                outcome = self._failed(outcome)
            match outcome:
                case Result():
                    output, details[index] = self._shown(outcome)
                    outputs.append(output)
                case dict():
                    outputs.append(outcome)
                case error:
                    if error is not None:
                        executions.failures[index] = error
                    outputs.append(UNSET)
        return outputs

    def _rows(
        self, outbox: Outbox, executions: Executions, results: Mapping[int, Result]
    ) -> tuple[list[OutboxRow], dict[int, PenstockError]]:
        """Return what is to be published with these results."""
        return outbox.rows(executions, {k: self._shown(result) for k, result in results.items()})

    def _shown(self, result: Result) -> tuple[Any, dict[str, Any]]:
        """Return the output, and what is beside it."""
        raise NotImplementedError

    def _failed(self, error: PenstockError) -> PenstockError | dict[str, Any]:
        """Return the failure, or the output in its place."""
        return error

    def close(self) -> None:
        """Close the connections."""
        self._database.close()


class DbQueryStep(_DbStep):
    """Outputs the rows, or the first of them. The database lets the statement change nothing."""

    def __init__(self, settings: DbQuerySettings, env: StepEnvironment) -> None:
        """Connect to nothing yet. Raises FlowFileError."""
        self._single = settings.mode in {"single", "one"}
        database = _database(settings, env, only_first=self._single)
        super().__init__(settings, env, database)

    def _shown(self, result: Result) -> tuple[Any, dict[str, Any]]:
        if not self._single:
            return result.rows, {"count": len(result.rows)}
        row = result.rows[0] if result.rows else None
        return row, {"row": row, "found": row is not None}


class DbExecStep(_DbStep):
    """Outputs how many rows were changed, or those that RETURNING names."""

    def __init__(self, settings: DbExecSettings, env: StepEnvironment) -> None:
        """Connect to nothing yet. Raises FlowFileError."""
        self._returning = settings.returning
        self._ignores = settings.ignore_error
        self._redact = env.redact
        database = _database(settings, env, changes=True, returning=settings.returning)
        super().__init__(settings, env, database)

    def _shown(self, result: Result) -> tuple[Any, dict[str, Any]]:
        beside = {"affected_rows": result.affected}
        return (result.rows if self._returning else dict(beside)), beside

    def _failed(self, error: PenstockError) -> PenstockError | dict[str, Any]:
        if not self._ignores or not isinstance(error, PermanentError):
            return error
        error.mask(self._redact)
        said = {"code": error.code, "message": error.message, **error.context}
        return {"affected_rows": 0, "ignored_error": said}


def _database(
    settings: DbQuerySettings | DbExecSettings,
    env: StepEnvironment,
    *,
    changes: bool = False,
    only_first: bool = False,
    returning: bool = False,
) -> Database:
    asking = _asking(settings, changes=changes, only_first=only_first, returning=returning)
    if settings.database.startswith(_SQLITE):
        from transforms.steps.db_sqlite import SqliteDatabase  # noqa: PLC0415 - as its driver

        return SqliteDatabase(settings.database.removeprefix(_SQLITE), asking)
    from transforms.steps.db_pool import Pool  # noqa: PLC0415 - as its driver
    from transforms.steps.db_postgres import PostgresDatabase  # noqa: PLC0415 - as its driver
    from transforms.steps.outbox_table import OutboxTable  # noqa: PLC0415 - as its driver

    pool = None
    if env.common is not None:
        pool = env.common.setdefault("database connections", Pool(settings.connections))
    table = None if env.outbox is None else OutboxTable(env.outbox.table, env.flow)
    return PostgresDatabase(settings.database, asking, pool, table)


def _asking(
    settings: DbQuerySettings | DbExecSettings,
    *,
    changes: bool,
    only_first: bool = False,
    returning: bool = False,
) -> Asking:
    return Asking(
        statement=parse_statement(settings.query),
        timeout=settings.timeout,
        connections=settings.connections,
        max_rows=settings.max_rows,
        only_first=only_first,
        changes=changes,
        returning=returning,
        numeric_as_number=settings.numeric == "number",
    )


def _preflight(settings: DbQuerySettings | DbExecSettings, _folder: Path) -> Iterable[Check]:
    if settings.not_built():
        return []
    from transforms.steps import db_preflight  # noqa: PLC0415 - as the drivers

    asking = _asking(settings, changes=isinstance(settings, DbExecSettings))
    if settings.database.startswith(_SQLITE):
        return db_preflight.check_sqlite(settings.database.removeprefix(_SQLITE), asking)
    return db_preflight.check_postgres(settings.database, asking)


DB_QUERY = StepType(
    "step.db_query",
    DbQuerySettings,
    "Read rows from a database.",
    make=DbQueryStep,
    outside=True,
    preflight=_preflight,
    shared=("connections",),
)
DB_EXEC = StepType(
    "step.db_exec",
    DbExecSettings,
    "Change rows of a database.",
    make=DbExecStep,
    effect=True,
    preflight=_preflight,
    shared=("connections",),
)
