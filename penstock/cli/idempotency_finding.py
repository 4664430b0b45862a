"""Finds idempotency keys in all stores that a flow has them in, and frees one."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import typer

from connectors.errors import FlowFileError
from penstock.cli.idempotency_report import meaning, named

if TYPE_CHECKING:
    from flows.state.kept_keys import KeptKey, KeyShelf
    from penstock.cli.stored import Stored

_HASH = re.compile(r"[0-9a-f]{4,32}")


@contextmanager
def open_shelves(stored: Stored) -> Iterator[list[KeyShelf]]:
    """Open the state store's keys, and those in each Redis that the flow's file names."""
    with ExitStack() as opened:
        shelves: list[KeyShelf] = [stored.store.kept_keys(stored.flow)]
        pipelines: dict[str, list[str]] = {}
        for pipeline in () if stored.plan is None else stored.plan.pipelines:
            if pipeline.idempotency is not None and pipeline.idempotency.store != "state":
                pipelines.setdefault(pipeline.idempotency.store, []).append(pipeline.name)
        if pipelines and stored.flow is not None:
            from flows.state.redis_shelf import RedisShelf  # noqa: PLC0415 - redis takes time

            for url, names in pipelines.items():
                shelf = RedisShelf(url, stored.flow, names)
                opened.callback(shelf.close)
                shelves.append(shelf)
        yield shelves


def page_of(
    shelves: Sequence[KeyShelf], pipeline: str | None, statuses: Sequence[str], limit: int
) -> list[KeptKey]:
    """Return keys of all stores: those that are held first, of each those that end first first."""
    found = [
        key
        for shelf in shelves
        for key in shelf.page(pipeline=pipeline, statuses=statuses, limit=limit)
    ]
    found.sort(key=lambda key: (key.status == "done", key.ends_in))
    return found[:limit]


def find_key(
    shelves: Sequence[KeyShelf], text: str, tenant: str | None
) -> tuple[KeyShelf, KeptKey]:
    """Return a key and where it is. Raises FlowFileError `key_unknown` or `key_ambiguous`."""
    if text.endswith((".yaml", ".yml")):
        raise FlowFileError(
            f"{text} is a flow file, not a key.",
            code="key_unknown",
            hint="The key comes first: penstock idempotency show KEY FLOW.yaml",
        )
    found = [(shelf, key) for shelf in shelves for key in shelf.find_text(text, tenant)]
    prefix = text.strip().lower()
    if not found and tenant is None and _HASH.fullmatch(prefix):
        found = [(shelf, key) for shelf in shelves for key in shelf.find(prefix)]
    if not found:
        raise FlowFileError(
            f"nobody has the key {text!r}{'' if tenant is None else f' of tenant {tenant}'}.",
            code="key_unknown",
            hint="It is free. `penstock idempotency list` shows those that are not; keys in Redis"
            " are found where the flow file is named, and those of a tenant with --tenant.",
        )
    if len(found) > 1:
        shown = ", ".join(f"{key.digest} ({key.scope})" for _, key in found[:5])
        raise FlowFileError(
            f"{text!r} fits several keys: {shown}{', …' if len(found) > 5 else ''}.",
            code="key_ambiguous",
            hint="Give the hash of the one that you mean.",
        )
    return found[0]


def confirm_release(key: KeptKey) -> bool:
    """Say what freeing a key means, and ask. Raises FlowFileError where nobody can answer."""
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise FlowFileError(
            f"{named(key)} is not free: {meaning(key)}",
            code="usage",
            hint="Add --yes to free it all the same.",
        )
    typer.echo(meaning(key), err=True)
    return typer.confirm(f"Free {named(key)}?", err=True)


def free_key(shelf: KeyShelf, key: KeptKey) -> None:
    """Free a key. Raises FlowFileError when it is no longer as it was looked at."""
    if not shelf.free(key):
        raise FlowFileError(
            f"{named(key)} has changed meanwhile; nothing was freed.",
            code="key_changed",
            hint="Look at it with `penstock idempotency show`.",
        )
