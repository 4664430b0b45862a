"""Which dead letters a command or a route means: a filter the store applies, and jq over events."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from flows.conditions import condition, true_for
from flows.runtime.reviving import revived
from flows.state.contracts import StateStore
from flows.state.letter_filter import LetterFilter
from flows.state.records import DeadLetter
from flows.state.rows import cursor as cursor_behind
from transforms.executions import Executions
from transforms.expressions import Program

PAGE = 500
"""Dead letters that are looked at, and acted on, at once."""


@dataclass(frozen=True, slots=True)
class Selection:
    """Which dead letters: a filter, and jq that must be true of each event's context."""

    wanted: LetterFilter
    where: str | None = None

    def text(self) -> str:
        """Return it as JSON, to be kept with the replay."""
        return json.dumps(self.wanted.as_dict() | ({"where": self.where} if self.where else {}))

    @classmethod
    def of_text(cls, text: str) -> Selection:
        """Return the selection that `text` was made of."""
        asked: dict[str, Any] = json.loads(text)
        return cls(LetterFilter.of_dict(asked), asked.get("where"))


def pages(
    store: StateStore,
    selection: Selection,
    *,
    after: str | None = None,
    status: str | None = "waiting",
) -> Iterator[tuple[list[DeadLetter], str]]:
    """Yield dead letters page by page, newest failure first, each with the cursor behind it.

    Those of `status`, or with None of any. Raises FlowFileError for jq that can't be read.
    """
    wanted = replace(selection.wanted, status=status)
    where = None if selection.where is None else condition(selection.where)
    while True:
        found = store.letters.page(wanted, PAGE, after)
        if not found:
            return
        after = cursor_behind(found[-1])
        yield (found if where is None else matching(found, where)), after
        if len(found) < PAGE:
            return


def matching(letters: Sequence[DeadLetter], where: Program) -> list[DeadLetter]:
    """Return those for whose event `where` is true; one for which it fails does not match."""
    chosen = true_for(where, executions_of(letters), range(len(letters)))
    return [letters[index] for index in chosen]


def count(store: StateStore, selection: Selection, *, status: str | None = "waiting") -> int:
    """Return how many dead letters `pages` would yield."""
    if selection.where is None:
        return store.letters.count(replace(selection.wanted, status=status))
    return sum(len(letters) for letters, _ in pages(store, selection, status=status))


def executions_of(letters: Sequence[DeadLetter]) -> Executions:
    """Return the letters' events as executions: what jq programs read."""
    return Executions(
        revived(letters, [None] * len(letters)), letters[0].pipeline if letters else ""
    )
