"""The tries of an execution, as dead letters tell them: a JSON list, in the order of their times."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

import orjson

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement

NONE = "[]"

_MOST = 50
"""Tries that are kept of one execution: the first, and the newest."""

_MESSAGE = 300
"""Characters of a message that are kept of each; the dead letter has all of the last one's."""

_LONGEST = 60_000
"""Characters of a list to which another one is still added."""


def with_try(
    tries: str, *, at: float, step: str | None, code: str, message: str, after: float | None = None
) -> str:
    """Return the list with one more. `after`: seconds until the next was to begin; None: no more."""
    made: list[dict[str, Any]] = orjson.loads(tries)
    stamp = datetime.fromtimestamp(at, timezone.utc).isoformat(timespec="milliseconds")
    one: dict[str, Any] = {
        "at": stamp.replace("+00:00", "Z"),
        "step": step,
        "code": code,
        "message": message if len(message) <= _MESSAGE else message[: _MESSAGE - 1] + "…",
    }
    if after is not None:
        one["after"] = round(after, 3)
    made.append(one)
    made.sort(key=lambda each: str(each["at"]))
    if len(made) > _MOST:
        del made[1 : len(made) - _MOST + 1]
    # Without a surrogate's half, which no JSON text may hold: a server may have said one.
    return _text(made)


def _text(value: Any) -> str:
    try:
        return orjson.dumps(value).decode()
    except TypeError:
        for each in value:
            each["message"] = each["message"].encode("utf-8", "replace").decode()
        return orjson.dumps(value).decode()


def joined(before: Any, new: Any) -> ColumnElement[str]:
    """Return the SQL of one list behind the other; only the new one where it would get too long."""
    # `penstock test` needs the rest of this module, and starts without SQLAlchemy.
    from sqlalchemy import case, func  # noqa: PLC0415

    both = func.substr(before, 1, func.length(before) - 1).concat(",").concat(func.substr(new, 2))
    too_long = func.length(before) + func.length(new) > _LONGEST
    return case((before == NONE, new), (new == NONE, before), (too_long, new), else_=both)
