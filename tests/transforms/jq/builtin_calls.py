"""Calls builtins by name, as a program does."""

from __future__ import annotations

from typing import Any

import pytest

from transforms.jq.builtins import FUNCTIONS
from transforms.jq.errors import JqError
from transforms.jq.json_text import to_json

Row = tuple[str, Any, list[Any], Any]
"""Name, input, arguments, and the only output; `Many` for several, `Fails` for an error's value."""


class Many(list[Any]):
    """Outputs of a builtin that has any number of them."""


class Fails(str):
    """What `catch` sees."""

    __slots__ = ()


def check(row: Row) -> None:
    """Assert that a builtin gives what a row says, written as JSON so that 3 and 3.0 differ from nothing."""
    name, value, arguments, wanted = row
    builtin = FUNCTIONS[name, len(arguments)]
    if isinstance(wanted, Fails):
        with pytest.raises(JqError) as failed:
            list(builtin.call(value, *arguments)) if builtin.many else builtin.call(
                value, *arguments
            )
        assert failed.value.value == wanted
        return
    found = builtin.call(value, *arguments)
    assert to_json(list(found) if builtin.many else found) == to_json(
        list(wanted) if isinstance(wanted, Many) else wanted
    )


def name_of(row: Row) -> str:
    """Return what a test of a row is called."""
    name, value, arguments, _ = row
    return f"{to_json(value)[:30]}|{name}({'; '.join(to_json(one)[:30] for one in arguments)})"
