"""Idempotency keys as JSON, and as text for people."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from penstock.cli.amounts import show_age
from penstock.cli.output import print_table, printable

if TYPE_CHECKING:
    from flows.state.kept_keys import KeptKey

_HELD = {
    "in_flight": "in flight",
    "waiting": "waiting",
    "done": "done",
}


def named(key: KeptKey) -> str:
    """Return what a key is called in a sentence."""
    return f"key {printable(key.digest if key.key is None else key.key)} of {key.scope}"


def meaning(key: KeptKey) -> str:
    """Return what freeing the key means."""
    if key.status == "done":
        return (
            f"The next event with it does the work again: what execution {key.holder} has done stays"
            " done."
        )
    if key.status == "waiting":
        return (
            f"Execution {key.holder}, which waits, claims it again when it goes on, and waits for"
            " whoever has it by then. What it has done so far may be done twice."
        )
    return (
        f"If execution {key.holder} still runs, it goes on: another event with the key may act beside"
        " it, and later ones may act once more."
    )


def summary(key: KeptKey) -> dict[str, Any]:
    """Return what a list shows, JSON-able."""
    return {
        "hash": key.digest,
        "flow": key.flow,
        "scope": key.scope,
        "key": key.key,
        "tenant": key.tenant,
        "status": key.status,
        "holder": key.holder,
        "ends_in_seconds": round(key.ends_in, 3),
        "store": key.store,
    }


def detail(key: KeptKey) -> dict[str, Any]:
    """Return all of it, JSON-able."""
    import orjson  # noqa: PLC0415 - only for JSON

    result = None if key.result is None else orjson.Fragment(key.result)
    return {**summary(key), "result": result}


def print_list(found: Sequence[KeptKey]) -> None:
    """Print keys as a table."""
    if not found:
        print("No keys.")
        return
    print_table(
        ["STATUS", "OF", "TENANT", "KEY", ">ENDS IN", "EXECUTION", "HASH"],
        [
            (
                _HELD[key.status],
                key.scope,
                key.tenant or "-",
                "-" if key.key is None else key.key,
                show_age(key.ends_in),
                key.holder,
                key.digest,
            )
            for key in found
        ],
    )


def print_key(key: KeptKey) -> None:
    """Print all of a key."""
    ends = {
        "done": "remembered for another",
        "waiting": "kept for another",
        "in_flight": "leased for another",
    }
    facts = [
        ("key", "(only its hash is known)" if key.key is None else key.key),
        ("hash", key.digest),
        ("of", f"{key.scope}, flow {key.flow}"),
        ("tenant", key.tenant or ""),
        ("kept in", "the state store" if key.store == "state" else f"Redis, {key.store}"),
        ("status", _status(key)),
        ("ends", f"{ends[key.status]} {show_age(key.ends_in)}"),
        ("result", key.result or ""),
    ]
    for name, value in facts:
        if value:
            print(f"{name + ':':<9}{printable(value)}")


def _status(key: KeptKey) -> str:
    match key.status:
        case "done":
            return f"done by execution {key.holder}"
        case "waiting":
            return f"held by execution {key.holder}, which waits (`penstock state parked`)"
        case _:
            return f"held by execution {key.holder}, which runs, or whose worker is gone"
