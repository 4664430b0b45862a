"""Masks what `history.redact` names before a batch is recorded.

What stands at a path is masked, and so is every other place of the recorded execution that holds the
same: outputs that were made of it, errors that quote it, its key and subject. Dead letters and parked
executions keep their events whole, since they are to run again.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from typing import Any

from connectors.batch import Batch, Change, Column
from connectors.errors import PenstockError, PermanentError
from flows.spec.redactions import Redaction, masked_at
from flows.spec.secrets import MASK
from flows.state.errors import error_of, error_row
from flows.state.history import ATTRIBUTES, NOT_RECORDED
from flows.state.jsontext import json_text
from transforms.executions import UNSET, Duplicate, Executions

_SHORTEST = 4
"""Characters of a value that is masked wherever it stands: `42` is in too much that is none of it."""


def redacted(
    executions: Executions, redactions: Sequence[Redaction]
) -> tuple[Executions, Collection[int]]:
    """Return the executions as they are to be recorded, and the indexes of those that were masked."""
    batch = executions.events
    # Everything is made now: what a source makes columns of may hold what is masked here.
    columns = {name: list(batch.column(name)) for name in ATTRIBUTES}
    columns["raw"] = [None] * batch.size
    columns["change"] = [None] * batch.size
    made = replace(
        executions,
        events=Batch(batch.size, columns, after={}),
        outputs={name: list(column) for name, column in executions.outputs.items()},
        details={name: list(column) for name, column in executions.details.items()},
        encoded={},
        ended=dict(executions.ended),
        passed_over={step: dict(found) for step, found in executions.passed_over.items()},
        keys=None if executions.keys is None else list(executions.keys),
        duplicates=dict(executions.duplicates),
        undone=dict(executions.undone),
        resumed=dict(executions.resumed),
    )
    made.events.errors = dict(batch.errors)
    changed = []
    for index in range(batch.size):
        ended = executions.ended.get(index)
        if ended is None or ended.outcome not in NOT_RECORDED:
            masking = _Masking()
            _mask(executions, made, index, redactions, masking)
            if masking.any:
                changed.append(index)
    return made, changed


class _Masking:
    """What was masked of one execution."""

    def __init__(self) -> None:
        self.any = False
        self._texts: set[str] = set()
        self._numbers: set[int | float] = set()

    def mask(self, value: Any) -> str:
        """Return what is recorded instead, and remember what it was."""
        self.any = True
        for each in _leaves(value):
            if isinstance(each, str) and len(each) >= _SHORTEST:
                self._texts.add(each)
            elif type(each) in {int, float} and len(str(each)) >= _SHORTEST:
                self._numbers.add(each)
        return MASK

    def text(self, text: str) -> str:
        """Return a text without what was masked."""
        for each in sorted(self._texts, key=len, reverse=True):
            # Errors quote values as JSON, and the beginning of those that are long.
            for form in dict.fromkeys((each, json_text(each).decode()[1:-1])):
                text = _without_beginnings(text.replace(form, MASK), form)
        for number in self._numbers:
            text = text.replace(str(number), MASK)
        return text

    def everywhere(self, value: Any) -> Any:
        """Return a value without what was masked, wherever it stands."""
        if not self._texts and not self._numbers:
            return value
        match value:
            case str():
                return self.text(value)
            case dict():
                return {k: self.everywhere(each) for k, each in value.items()}
            case list() | tuple():
                return [self.everywhere(each) for each in value]
            case bool():
                return value
            case int() | float():
                return MASK if value in self._numbers else value
            case _:
                return value

    def error(self, error: PenstockError | None) -> PenstockError | None:
        """Return a copy of an error without what was masked; others may share the error."""
        if error is None or not (self._texts or self._numbers):
            return error
        copied = error_of(error_row(error))
        if copied is not None:
            copied.mask(self.text)
            copied.context = self.everywhere(copied.context)
        return copied


def _without_beginnings(text: str, secret: str) -> str:
    """Return a text without the beginnings of a secret that `…` follows: somebody has cut it there."""
    at = text.find("…")
    while at >= 0:
        length = min(at, len(secret))
        while length >= _SHORTEST and text[at - length : at] != secret[:length]:
            length -= 1
        if length >= _SHORTEST:
            text = text[: at - length] + MASK + text[at:]
            at += len(MASK) - length
        at = text.find("…", at + 1)
    return text


def _mask(
    was: Executions,
    made: Executions,
    index: int,
    redactions: Sequence[Redaction],
    masking: _Masking,
) -> None:
    columns = made.events.columns
    _mask_event(was, columns, index, redactions, masking)
    for each in redactions:
        if each.is_step:
            _mask_step(made, index, each, masking)
    if not masking.any:
        return
    for found in (made.outputs, made.details):
        for column in found.values():
            if column[index] is not UNSET:
                column[index] = masking.everywhere(column[index])
    for name in ("subject", "key", "extensions"):
        columns[name][index] = masking.everywhere(columns[name][index])
    columns["raw"][index] = _again(columns["raw"][index], masking)
    change = columns["change"][index]
    if change is not None:
        before, after = map(masking.everywhere, (change.before, change.after))
        columns["change"][index] = Change(change.operation, before, after)
    if made.keys is not None:
        made.keys[index] = masking.everywhere(made.keys[index])
    ended = made.ended.get(index)
    if ended is not None:
        made.ended[index] = replace(ended, error=masking.error(ended.error))
    for errors in made.passed_over.values():
        if index in errors:
            errors[index] = masking.error(errors[index])
    refused = made.events.errors.get(index)
    if refused is not None:
        masked = masking.error(refused)
        if isinstance(masked, PermanentError):
            made.events.errors[index] = masked
    if index in made.undone:
        made.undone[index] = masking.everywhere(made.undone[index])
    duplicate = made.duplicates.get(index)
    if duplicate is not None and duplicate.result is not None:
        result = json_text(masking.everywhere(json.loads(duplicate.result))).decode()
        made.duplicates[index] = Duplicate(duplicate.original, result)
    before_it = made.resumed.get(index)
    if before_it is not None:
        tries = json_text(masking.everywhere(json.loads(before_it.tries))).decode()
        made.resumed[index] = replace(before_it, tries=tries)


def _mask_event(
    was: Executions,
    columns: dict[str, Column],
    index: int,
    redactions: Sequence[Redaction],
    masking: _Masking,
) -> None:
    raw: bytes | None = was.events.column("raw")[index]
    change: Change | None = was.events.column("change")[index]
    of_data = [each.parts for each in redactions if each.root == "data" and not each.is_step]
    if raw is not None:
        try:
            data = json.loads(raw)
        except ValueError:
            # What can't be read can't be looked through: nothing of it is recorded.
            looked_for = any(not each.is_step for each in redactions)
            columns["raw"][index] = json_text(masking.mask(None)) if looked_for else raw
        else:
            masked = data
            for parts in of_data:
                masked = masked_at(masked, parts, masking.mask)
            for side in ("before", "after"):  # of a change whose data has both
                if isinstance(masked, dict) and side in masked and change is not None:
                    masked = _side(masked, side, redactions, masking)
            columns["raw"][index] = raw if masked == data else json_text(masked)
    if change is not None:
        sides = []
        for side, value in (("before", change.before), ("after", change.after)):
            found = value
            own = [e.parts for e in redactions if e.root == side and not e.is_step]
            # What is masked in a row is so in the row that it was.
            for parts in (*of_data, *own):
                found = masked_at(found, parts, masking.mask)
            sides.append(found)
        columns["change"][index] = Change(change.operation, *sides)


def _side(
    data: dict[str, Any], side: str, redactions: Sequence[Redaction], masking: _Masking
) -> dict[str, Any]:
    for each in redactions:
        if each.root == side and not each.is_step:
            data = {**data, side: masked_at(data[side], each.parts, masking.mask)}
    return data


def _mask_step(made: Executions, index: int, redaction: Redaction, masking: _Masking) -> None:
    outputs, details = made.outputs.get(redaction.root), made.details.get(redaction.root)
    has_output = outputs is not None and outputs[index] is not UNSET
    shown: dict[str, Any] = {}
    if details is not None and details[index]:
        shown |= details[index]
    if outputs is not None and has_output:
        shown["output"] = outputs[index]
    if not shown:
        return
    if not redaction.parts:
        masked: Any = {name: masking.mask(value) for name, value in shown.items()}
    else:
        masked = masked_at(shown, redaction.parts, masking.mask)
    if outputs is not None and has_output:
        outputs[index] = masked.pop("output")
    if details is not None and details[index]:
        masked.pop("output", None)
        details[index] = masked


def _again(raw: bytes | None, masking: _Masking) -> bytes | None:
    """Return the data without what was masked, wherever else in it that stands."""
    if raw is None:
        return None
    try:
        data = json.loads(raw)
    except ValueError:
        return raw
    masked = masking.everywhere(data)
    return raw if masked == data else json_text(masked)


def _leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        for each in value.values():
            yield from _leaves(each)
    elif isinstance(value, list):
        for each in value:
            yield from _leaves(each)
    else:
        yield value
