"""Ingest: which events of a batch start an execution of a pipeline, and which fail at the door."""

from __future__ import annotations

import fnmatch
import re
import time
from collections.abc import Callable
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from connectors.batch import Batch, Column
from connectors.errors import PenstockError, PermanentError
from schema_registry.validation import Validator
from transforms.executions import Ended, Executions, Wait
from transforms.expressions import Program, compile_jq

if TYPE_CHECKING:
    from flows.plan import PipelinePlan
    from flows.runtime.parking import Parking
    from flows.runtime.settled_before import SettledBefore

_NOT_TRIGGERED = Ended("not_triggered")
_PARKED, _BEHIND = Ended("parked"), Wait(0)


class Ingest:
    """Turns a batch into a pipeline's executions: decode, type, condition, schema, key.

    `reads_data` is false for a pipeline that passes values through unread: then nothing is decoded.
    """

    def __init__(
        self,
        plan: PipelinePlan,
        flow: str,
        validator: Validator | None,
        *,
        reads_data: bool,
        parking: Parking,
        mask: Callable[[Any], Any] | None = None,
        spread: bool = False,
    ) -> None:
        """`spread`: executions go on in other processes, and are lined up there: see `line_up`."""
        self._pipeline = plan.name
        self._flow = flow
        self._validator = validator
        self._mask = mask
        self._schema = plan.schema or ""
        self._on_invalid = plan.on_invalid
        self._reads_data = reads_data or validator is not None
        self._type = _type_pattern(plan.event_type)
        self._types: dict[str, bool] = {}
        self._when = compile_jq(plan.when) if plan.when else None
        self._key = compile_jq(plan.key) if plan.key else None
        self._order = plan.order
        self._parks = plan.parks
        self._parking = parking
        self._spread = spread
        self.run = ""
        """Part of its executions' ids: which job they are of; "" for live ones."""
        self.settled_before: SettledBefore | None = None
        """What a cluster had settled before a crash, and comes again."""

    def __call__(self, batch: Batch) -> Executions:
        """Return the executions; what goes no further is in their `ended` already."""
        executions = self._admitted(batch)
        if self.settled_before:
            self.settled_before(executions)
        if not self._spread:
            self.line_up(executions)
        return executions

    def line_up(self, executions: Executions) -> None:
        """Say what order is kept by, and park what comes behind an execution that waits here."""
        if self._parks or len(self._parking):
            self.keep_lanes(executions)
            self._hold_back(executions)

    def replayed(self, batch: Batch) -> Executions:
        """Return the executions of dead letters' events; none waits behind another yet."""
        executions = self._admitted(batch)
        self.keep_lanes(executions)
        return executions

    def _admitted(self, batch: Batch) -> Executions:
        executions = Executions(events=batch, pipeline=self._pipeline)
        if self.run:
            executions.runs = dict.fromkeys(range(batch.size), self.run)
        executions.started = now = time.time()
        executions.base_meta = {
            "flow": self._flow,
            "pipeline": self._pipeline,
            "started_at": datetime.fromtimestamp(now, timezone.utc).isoformat(),
        }
        if self._reads_data:
            batch.column("data")
        if batch.errors:
            self._fail_undecoded(executions)
        if self._type is not None:
            self._match_type(executions)
        if self._when is not None:
            self._match_condition(executions, self._when)
        if self._validator is not None:
            self._check_schema(executions, self._validator)
        if self._key is not None:
            executions.keys = self._own_keys(executions, self._key)
        return executions

    def keep_lanes(self, executions: Executions) -> None:
        """Say what order is kept by."""
        if self._order == "none":
            executions.takes_turns = False
            return
        if self._order == "partition":
            executions.lanes = executions.events.column("partition")
        else:
            executions.lanes = executions.key_column()

    def _hold_back(self, executions: Executions) -> None:
        """Park what comes behind an execution that waits."""
        lanes = executions.lanes
        if lanes is None or not len(self._parking):
            return
        blocked = self._parking.blocked
        behind = [index for index, lane in enumerate(lanes) if lane in blocked]
        if executions.ended:
            behind = [index for index in behind if index not in executions.ended]
        if not behind:
            return
        for index, execution in zip(behind, executions.ids_of(behind), strict=True):
            if self._parking.has(execution):
                executions.end(index, Ended("repeated"))  # the one that waits will do it
            else:
                executions.waits[index] = _BEHIND
                executions.end(index, _PARKED)

    def _fail_undecoded(self, executions: Executions) -> None:
        for index, error in executions.events.errors.items():
            executions.end(index, Ended("failed", None, error))

    def _match_type(self, executions: Executions) -> None:
        """End what the glob doesn't match. Types are few: each is matched once per worker."""
        known = self._types
        pattern = self._type
        assert pattern is not None  # noqa: S101 - the caller looked
        types = executions.events.column("type")
        if executions.events.errors:
            self._fail_undecoded(executions)
        for index, name in enumerate(types):
            matches = known.get(name)
            if matches is None:
                matches = bool(pattern.fullmatch(name or ""))
                if len(known) < 10_000:
                    known[name] = matches
            if not matches:
                executions.end(index, _NOT_TRIGGERED)

    def _match_condition(self, executions: Executions, when: Program) -> None:
        indexes = executions.going(0)
        values, errors = when.column(executions, indexes)
        for index, value in zip(indexes, values, strict=True):
            error = errors.get(index)
            if error is not None:
                executions.end(index, Ended("failed", None, error))
            elif value is None or value is False:
                executions.end(index, _NOT_TRIGGERED)

    def _check_schema(self, executions: Executions, validator: Validator) -> None:
        if self._on_invalid == "pass":
            return
        data = executions.events.column("data")
        envelopes = validator.envelope_problems(executions.events)
        going = executions.going(0)
        fits = list(map(validator.is_valid, executions.picked(data, going)))
        if all(fits) and not envelopes:
            return
        for index, data_fits in zip(going, fits, strict=True):
            if data_fits and index not in envelopes:
                continue
            if self._on_invalid == "skip":
                executions.end(index, Ended("skipped"))
                continue
            problems = envelopes.get(index, []) + validator.problems(data[index], self._mask)
            executions.end(index, Ended("failed", None, self._invalid(problems)))

    def _invalid(self, problems: list[str]) -> PermanentError:
        return PermanentError(
            f"the event does not fit schema {self._schema}: {'; '.join(problems[:5])}.",
            code="schema_invalid",
            hint="Mend the producer or the schema, then replay.",
            schema=self._schema,
            problems=problems,
        )

    def _own_keys(self, executions: Executions, program: Program) -> Column:
        indexes = executions.going(0)
        values, errors = program.column(executions, indexes)
        keys: Column = [None] * executions.events.size
        for index, value in zip(indexes, values, strict=True):
            error: PenstockError | None = errors.get(index)
            if error is not None:
                executions.end(index, Ended("failed", None, error))
            elif value is not None:
                keys[index] = value if isinstance(value, str) else _key_text(value)
        return keys


def _key_text(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def _type_pattern(glob: str | None) -> re.Pattern[str] | None:
    if glob is None or glob == "*":
        return None
    return re.compile(fnmatch.translate(glob))
