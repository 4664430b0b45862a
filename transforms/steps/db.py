"""`step.db_query` and `step.db_exec`: SQL; modelled and validated, not built yet."""

from __future__ import annotations

from typing import Annotated, Literal

from annotated_types import Ge, MinLen
from pydantic import AfterValidator, AliasChoices, Field

from connectors.settings import Duration, Settings, TemplateValue
from transforms.contracts import StepType


def _check_query(value: str) -> str:
    if "{{" in value:
        raise ValueError("a statement without {{ }}: values go into params, where they are safe")
    return value


Query = Annotated[str, MinLen(1), AfterValidator(_check_query)]


class _Statement(Settings):
    """What both take."""

    database: Annotated[str, MinLen(1), "secret"] = Field(
        validation_alias=AliasChoices("database", "module")
    )
    """Database to ask: its module's name, or a `postgresql://` or `sqlite://` URL."""
    query: Query
    """The statement, with `?` or `$1`, `$2`, … where `params` go."""
    params: list[TemplateValue] = Field(default=[], validation_alias=AliasChoices("params", "args"))
    """Values for the placeholders, in order."""
    timeout: Annotated[Duration, Ge(0.01)] = 30.0
    """How long the statement may take."""


class DbQuerySettings(_Statement):
    """Configuration of `step.db_query`."""

    mode: Literal["list", "many", "single", "one"] = "list"
    """`list` (or `many`): every row; `single` (or `one`): the first row, and whether there is one."""


class DbExecSettings(_Statement):
    """Configuration of `step.db_exec`."""

    returning: bool = False
    """The statement has a RETURNING clause, and its rows are the output."""
    ignore_error: bool = False
    """Go on when the statement fails; the output tells."""


DB_QUERY = StepType("step.db_query", DbQuerySettings, "Read rows from a database.")
DB_EXEC = StepType("step.db_exec", DbExecSettings, "Change rows of a database.", effect=True)
