"""What was expected of a case against what happened. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from connectors.errors import PenstockError
from flows.testing.matching import ABSENT, Steps, differences
from flows.testing.model import (
    DeadLetterExpectation,
    ErrorExpectation,
    Expectation,
    PublishedExpectation,
    StepExpectation,
)
from flows.testing.running import EventOutcome, Happened, StepOutcome, error_dict, letter_dict
from transforms.executions import UNSET
from transforms.expressions import compile_jq
from transforms.expressions.errors import ExpressionError

_COMPARED = re.compile(r"(.+?)\s(==|!=|<=|>=|<|>)\s(.+)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Miss:
    """One expectation that was not met.

    `path` leads to it in the case; its last parts may lead to what the case does not have.
    """

    path: Steps
    message: str = ""
    """What to say where expected and found do not say it all."""
    expected: Any = ABSENT
    found: Any = ABSENT


def judge(expect: Expectation, happened: Happened) -> list[Miss]:
    """Return every expectation that was not met, in the order of the model."""
    return [
        *_outcomes(expect, happened),
        *_steps(expect, happened),
        *_published(expect, happened),
        *_dead_letters(expect, happened),
        *_stopped(expect, happened),
        *_asserted(expect, happened),
    ]


def _outcomes(expect: Expectation, happened: Happened) -> Iterator[Miss]:
    """Compare how each event ended; without a word on it, each is done and nothing has failed."""
    said = expect.outcome
    if said is None:
        if expect.dead_letters is not None or expect.stopped is not None:
            return
        said = "done"
    wanted = said if isinstance(said, list) else [said] * len(happened.events)
    for number, (outcome, event) in enumerate(zip(wanted, happened.events, strict=True)):
        if outcome != event.outcome:
            path: Steps = ("expect", "outcome")
            yield Miss(
                (*path, number) if isinstance(said, list) else path,
                _why(event, happened),
                outcome,
                event.outcome,
            )


def _why(event: EventOutcome, happened: Happened) -> str:
    error = event.error or happened.stopped
    if error is None:
        return f"event {event.id}"
    at = f" at step {event.step}" if event.step else ""
    return f"event {event.id}{at}: {error.message}"


def _steps(expect: Expectation, happened: Happened) -> Iterator[Miss]:
    for name, said in expect.steps.items():
        several = isinstance(said, list)
        wanted = said if isinstance(said, list) else [said] * len(happened.events)
        for number, (one, event) in enumerate(zip(wanted, happened.events, strict=True)):
            path: Steps = ("expect", "steps", name)
            yield from _step(one, event, name, (*path, number) if several else path)


def _step(wanted: StepExpectation, event: EventOutcome, name: str, path: Steps) -> Iterator[Miss]:
    outcome = event.steps[name]
    said = wanted.model_fields_set
    if wanted.ran is not None and wanted.ran != outcome.ran:
        yield Miss((*path, "ran"), f"event {event.id}", wanted.ran, outcome.ran)
    for key, contains in (("output", False), ("output_contains", True)):
        if key in said:
            yield from _output(getattr(wanted, key), outcome, (*path, key), contains=contains)
    status = (outcome.detail or {}).get("status", ABSENT)
    if wanted.status is not None and wanted.status != status:
        yield Miss((*path, "status"), "", wanted.status, status)
    if wanted.error is not None:
        yield from _error(wanted.error, outcome.error, (*path, "error"))


def _output(expected: Any, outcome: StepOutcome, path: Steps, *, contains: bool) -> Iterator[Miss]:
    if outcome.output is UNSET:
        why = "it ran without an output" if outcome.ran else "the step did not run"
        if outcome.error is not None:
            why = outcome.error.message
        yield Miss(path, why, expected, ABSENT)
        return
    for one in differences(expected, outcome.output, path, contains=contains):
        yield Miss(one.path, "", one.expected, one.found)


def _error(wanted: ErrorExpectation, error: PenstockError | None, path: Steps) -> Iterator[Miss]:
    if error is None:
        yield Miss(path, "there was no error", wanted.model_dump(exclude_unset=True), ABSENT)
    else:
        yield from _texts(wanted, error_dict(error), path)


def _texts(wanted: ErrorExpectation, found: dict[str, Any], path: Steps) -> Iterator[Miss]:
    """Compare what is said of an error or a dead letter: only that."""
    for key in type(wanted).model_fields:
        if key not in wanted.model_fields_set:
            continue
        expected = getattr(wanted, key)
        if key == "message_contains":
            if expected not in found["message"]:
                yield Miss((*path, key), "not in the message", expected, found["message"])
        elif expected != found[key]:
            yield Miss((*path, key), "", expected, found[key])


def _published(expect: Expectation, happened: Happened) -> Iterator[Miss]:
    if expect.published is None:
        return
    path: Steps = ("expect", "published")
    found = [one.as_dict() for one in happened.published]
    for number, (wanted, one) in enumerate(zip(expect.published, found, strict=False)):
        yield from _event(wanted, one, (*path, number))
    yield from _count(expect.published, found, path, "published event")


def _event(wanted: PublishedExpectation, found: dict[str, Any], path: Steps) -> Iterator[Miss]:
    for key in type(wanted).model_fields:
        if key not in wanted.model_fields_set:
            continue
        contains = key in {"data_contains", "attributes", "headers"}
        value = found["data" if key == "data_contains" else key]
        for one in differences(getattr(wanted, key), value, (*path, key), contains=contains):
            yield Miss(one.path, "", one.expected, one.found)


def _dead_letters(expect: Expectation, happened: Happened) -> Iterator[Miss]:
    if expect.dead_letters is None:
        return
    path: Steps = ("expect", "dead_letters")
    found = [letter_dict(one) for one in happened.dead_letters]
    for number, (wanted, one) in enumerate(zip(expect.dead_letters, found, strict=False)):
        yield from _texts(wanted, one, (*path, number))
    shown = [{key: one[key] for key in ("step", "code", "message")} for one in found]
    yield from _count(expect.dead_letters, shown, path, "dead letter")


def _count(
    wanted: list[PublishedExpectation] | list[DeadLetterExpectation],
    found: list[dict[str, Any]],
    path: Steps,
    noun: str,
) -> Iterator[Miss]:
    """Yield what is missing, and what is there and was not expected."""
    for number in range(len(found), len(wanted)):
        expected = wanted[number].model_dump(exclude_unset=True)
        yield Miss((*path, number), f"there is no such {noun}", expected, ABSENT)
    for number in range(len(wanted), len(found)):
        yield Miss((*path, number), f"one {noun} more than expected", ABSENT, found[number])


def _stopped(expect: Expectation, happened: Happened) -> Iterator[Miss]:
    path: Steps = ("expect", "stopped")
    if expect.stopped is not None:
        yield from _error(expect.stopped, happened.stopped, path)


def _asserted(expect: Expectation, happened: Happened) -> Iterator[Miss]:
    if not expect.assert_:
        return
    context = happened.as_dict()
    for number, text in enumerate(expect.assert_):
        path: Steps = ("expect", "assert", number)
        try:
            outputs = compile_jq(text).run(context)
        except PenstockError as error:
            yield Miss(path, error.message)
            continue
        if not outputs or outputs[0] is None or outputs[0] is False:
            yield _not_true(text, context, outputs, path)


def _not_true(text: str, context: dict[str, Any], outputs: list[Any], path: Steps) -> Miss:
    """Say what both sides of a comparison are, where the program is one."""
    sides = _COMPARED.fullmatch(text.strip())
    if sides is not None:
        before, pipe, _ = sides[1].rpartition("|")  # binds less than a comparison
        programs = (sides[1], f"{before}{pipe}{sides[3]}")
        try:
            left, right = (compile_jq(program).run(context) for program in programs)
        except (ExpressionError, PenstockError):
            pass
        else:
            if len(left) == len(right) == 1 and sides[2] == "==":
                return Miss(path, f"{text} is not true", right[0], left[0])
            if len(left) == len(right) == 1:
                return Miss(path, f"{text} is not true", ABSENT, left[0])
    if not outputs:
        return Miss(path, f"{text} has no output")
    return Miss(path, f"{text} is not true", ABSENT, outputs[0])
