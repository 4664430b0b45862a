"""Functions of SQL that each database writes in its own words."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Float, Integer
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement


class server_now(FunctionElement[float]):  # noqa: N801 - reads as the SQL function it is
    """The database's clock in seconds since the epoch: one clock for all workers' leases."""

    inherit_cache = True
    type = Float()


@compiles(server_now, "sqlite")
def _sqlite_now(_element: server_now, _compiler: Any, **_options: Any) -> str:
    return "((julianday('now') - 2440587.5) * 86400.0)"


@compiles(server_now, "postgresql")
def _postgresql_now(_element: server_now, _compiler: Any, **_options: Any) -> str:
    return "extract(epoch from clock_timestamp())::float8"


class whole(FunctionElement[int]):  # noqa: N801 - reads as the SQL function it is
    """The whole part of a number that is not negative."""

    inherit_cache = True
    type = Integer()


@compiles(whole, "sqlite")
def _sqlite_whole(element: whole, compiler: Any, **options: Any) -> str:
    return f"CAST({compiler.process(element.clauses, **options)} AS INTEGER)"


@compiles(whole, "postgresql")
def _postgresql_whole(element: whole, compiler: Any, **options: Any) -> str:
    return f"CAST(floor({compiler.process(element.clauses, **options)}) AS INTEGER)"
