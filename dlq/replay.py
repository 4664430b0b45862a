"""Asking for a replay: which dead letters, edited how, at what rate; and going on with one."""

from __future__ import annotations

import getpass
import json
import socket
from collections.abc import Callable, Collection
from dataclasses import asdict, dataclass
from typing import Any

from connectors.errors import FlowFileError, PenstockError, RetryableError
from connectors.failpoints import fail_point
from dlq.selection import Selection, pages
from flows.runtime.reviving import event_of
from flows.state.contracts import StateStore
from flows.state.jsontext import json_text
from flows.state.letter_documents import when
from flows.state.records import DeadLetter
from flows.state.replays import Chosen, Replay
from transforms.expressions import Program, compile_jq

_TRIES = 5


@dataclass(frozen=True, slots=True)
class Request:
    """What somebody asks for."""

    selection: Selection
    by: str
    edit: str | None = None
    rate: float | None = None
    from_step: bool = False


def somebody() -> str:
    """Return who runs this process, as `user@host`."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        user = "somebody"
    return f"{user}@{socket.gethostname()}"


def ask(store: StateStore, request: Request) -> Replay:
    """Record a replay, take the dead letters it selects, and let the flow's workers begin.

    Raises FlowFileError as `begin` and `select` do; nothing is replayed then.
    """
    return select(store, begin(store, request))


def begin(store: StateStore, request: Request) -> int:
    """Record a replay, its selection still to come; return its number.

    Raises ExpressionError for an `edit` or `where` that does not compile.
    """
    flow = request.selection.wanted.flow
    assert flow is not None  # noqa: S101 - a replay is one flow's
    for program in (request.edit, request.selection.where):
        if program is not None:
            compile_jq(program)
    return store.replays.begin(
        flow,
        by=request.by,
        selection=request.selection.text(),
        edit=request.edit,
        rate=request.rate,
        from_step=request.from_step,
    )


def select(store: StateStore, number: int, seen: Callable[[int], None] = lambda _: None) -> Replay:
    """Take what a replay selects, from where it was interrupted, and let it begin.

    `seen` is told how many were taken, after each page. Raises FlowFileError for an edit that
    fails for an event: nothing is replayed then.
    """
    try:
        return _select(store, number, seen)
    except FlowFileError:
        store.replays.cancel(number)
        raise


def _select(store: StateStore, number: int, seen: Callable[[int], None]) -> Replay:
    replay = find_replay(store, number)
    selection = Selection.of_text(replay.selection)
    edit = None if replay.edit is None else compile_jq(replay.edit)
    if replay.status == "selecting":
        taken = replay.total
        for letters, cursor in pages(store, selection, after=replay.cursor):
            chosen = [
                Chosen(each, None if edit is None else edited(each, edit)) for each in letters
            ]
            added = _patiently(lambda c=chosen, at=cursor: store.replays.add(replay, c, at))  # type: ignore[misc]
            if added is None:
                break  # somebody else has completed or cancelled it
            taken += added
            seen(taken)
            fail_point("mid_replay_selection")
        store.replays.start(number)
    return find_replay(store, number)


def edited(letter: DeadLetter, edit: Program) -> str:
    """Return the event's data as JSON after `edit`, whose input it is.

    Data that is not JSON is edited as text. Raises FlowFileError `edit_failed`.
    """
    data = data_of(letter)
    try:
        outputs = edit.run(data)
    except PenstockError as error:
        raise FlowFileError(
            f"the edit fails for dead letter {letter.id}: {error.message}",
            code="edit_failed",
            hint="Its input is the event's data. Try it: penstock try JQ --input FILE.",
        ) from None
    if len(outputs) != 1:
        raise FlowFileError(
            f"the edit has {len(outputs)} outputs for dead letter {letter.id}, and needs one.",
            code="edit_failed",
            hint="Its one output is the event's new data.",
        )
    return json_text(outputs[0]).decode()


def data_of(letter: DeadLetter) -> Any:
    """Return the event's data: of bytes that are not JSON, their text."""
    _, raw, _ = event_of(letter)
    raw = letter.wire if raw is None else raw
    if raw is None:
        return None
    try:
        return json.loads(raw.decode())  # given bytes, it would pass over a byte order mark
    except ValueError:
        return raw.decode("utf-8", "replace")


def find_replay(store: StateStore, number: int) -> Replay:
    """Return the replay of this number. Raises FlowFileError `replay_unknown`."""
    found = store.replays.get(number)
    if found is None:
        raise FlowFileError(
            f"there is no replay {number}.",
            code="replay_unknown",
            hint="`penstock dlq replays` lists them.",
        )
    return found


def return_orphans(store: StateStore, number: int, sources: Collection[str]) -> None:
    """Return entries of sources that the flow no longer has: no worker would ever take them."""
    for source in store.replays.open_sources(number):
        if source not in sources:
            store.replays.give_back_source(
                number, source, "source_gone", f"the flow no longer reads the source {source}."
            )


def replay_document(replay: Replay) -> dict[str, Any]:
    """Return a replay, JSON-able."""
    shown = asdict(replay)
    del shown["cursor"]
    shown["selection"] = json.loads(replay.selection)
    shown["from_step"] = bool(replay.from_step)
    shown["created_at"] = when(replay.created_at)
    shown["finished_at"] = None if replay.finished_at is None else when(replay.finished_at)
    return shown


def _patiently(call: Callable[[], int | None]) -> int | None:
    """Call again what another transaction was in the way of."""
    for left in reversed(range(_TRIES)):
        try:
            return call()
        except RetryableError:
            if not left:
                raise
    raise AssertionError
