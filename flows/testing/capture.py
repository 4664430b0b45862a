"""Stands where sinks and the state store would: keeps what reaches them, and reaches nothing."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from connectors.contracts import Attribute, Check, Outgoing, SinkOpening, SinkTraits
from connectors.errors import PenstockError
from flows.runtime.halt import Halt
from flows.state.records import DeadLetter, Settlement
from flows.state.sagas import Saga

if TYPE_CHECKING:
    from flows.plan import SinkPlan

_MOST_WAITS = 20
"""Retries of a sink that stays away, before a case ends as a run would that is stopped then."""


@dataclass(frozen=True, slots=True)
class Published:
    """An event that a publish step has handed to a sink."""

    sink: str
    topic: str | None
    step: str | None
    key: str | None
    data: Any
    attributes: Mapping[str, Any]
    headers: Mapping[str, str]

    def as_dict(self) -> dict[str, Any]:
        """Return it as jq programs and reports see it."""
        return {
            "sink": self.sink,
            "topic": self.topic,
            "step": self.step,
            "type": self.attributes.get("type"),
            "key": self.key,
            "data": self.data,
            "attributes": dict(self.attributes),
            "headers": dict(self.headers),
        }


Refuse = Callable[[], PenstockError | None]
"""The error of the next event that a mocked publish step hands over; None: it is taken."""


class CaptureSink:
    """A sink that takes everything, but for what a mock refuses; `connectors.contracts.Sink`."""

    def __init__(
        self,
        plan: SinkPlan,
        into: list[Published],
        traits: SinkTraits,
        *,
        step: str | None = None,
        refuse: Refuse | None = None,
    ) -> None:
        self._plan = plan
        self._into = into
        self.traits = traits
        self._step = step
        self._refuse = refuse

    def of_step(self, step: str, refuse: Refuse | None) -> CaptureSink:
        """Return this sink as one publish step sees it."""
        return CaptureSink(self._plan, self._into, self.traits, step=step, refuse=refuse)

    def preflight(self, topics: Sequence[str]) -> Iterable[Check]:  # noqa: ARG002 - the contract's
        """There is nothing to reach."""
        return []

    def open(self, opening: SinkOpening) -> None:
        """There is nothing to open."""

    def deliver(self, events: Outgoing) -> Mapping[int, PenstockError]:
        """Keep the events."""
        attributes = events.attributes()
        headers = _headers(self._plan, events)
        settings = self._plan.settings
        topic = events.topic or getattr(settings, "topic", None)
        failed: dict[int, PenstockError] = {}
        for place, (value, key) in enumerate(zip(events.values, events.keys, strict=True)):
            error = self._refuse() if self._refuse is not None else None
            if error is not None:
                failed[place] = error
                continue
            self._into.append(
                Published(
                    sink=self._plan.name,
                    topic=topic,
                    step=self._step,
                    key=key,
                    data=_decoded(value),
                    attributes={"specversion": "1.0", **_at(attributes, place)},
                    headers=headers[place],
                )
            )
        return failed

    def settled_state(self) -> Mapping[str, str] | None:
        """Nothing is kept between runs."""
        return None

    def close(self) -> None:
        """Nothing is held."""


@dataclass(slots=True)
class Settled:
    """Stands where the committer would, and keeps the outcome."""

    dead_letters: list[DeadLetter] = field(default_factory=list)
    ticket = 0

    def settle(self, settlement: Settlement) -> None:
        """Keep one batch's outcome."""
        self.dead_letters += settlement.dead_letters

    def flush(self) -> None:
        """There is nothing to wait for."""


class Unkept:
    """Stands where the state store would keep sagas: a case has no crash to come back from."""

    def save(self, sagas: Sequence[Saga]) -> None:
        """Nothing is kept."""

    def load(self, pipeline: str, ids: Sequence[str]) -> list[Saga]:  # noqa: ARG002 - the contract's
        """Nothing was kept."""
        return []


class PatientHalt(Halt):
    """A worker's halt whose waits take no time, and come to an end."""

    __slots__ = ("_waits",)

    def __init__(self) -> None:
        super().__init__()
        self._waits = 0

    def wait(self, seconds: float) -> bool:  # noqa: ARG002 - no time passes in a test
        """Return at once; whether to stop."""
        self._waits += 1
        return self.asked() or self._waits > _MOST_WAITS


def _at(attributes: Mapping[str, Attribute], place: int) -> dict[str, Any]:
    """Return the attributes of one event, without those that are absent from it."""
    found = {
        name: value[place] if isinstance(value, list) else value
        for name, value in attributes.items()
    }
    return {name: value for name, value in found.items() if value is not None}


def _decoded(value: bytes | None) -> Any:
    """Return the data; integers of any size stay exact, what is no JSON reads as text."""
    if value is None:
        return None
    try:
        return json.loads(value)
    except ValueError:
        return value.decode("utf-8", "replace")


def _headers(plan: SinkPlan, events: Outgoing) -> list[dict[str, str]]:
    """Return the headers per event that the sink's format makes of the attributes."""
    settings = plan.settings
    kafka = plan.type in {"sink.kafka", "messaging.kafka"}
    shape = getattr(settings, "publish_format" if kafka else "format", None)
    if shape != "cloudevents_binary":
        return [{} for _ in range(len(events))]
    from connectors.cloudevents import (  # noqa: PLC0415 - only such sinks need it
        HTTP_PREFIX,
        KAFKA_PREFIX,
        binary_headers,
    )

    rows = binary_headers(events, KAFKA_PREFIX if kafka else HTTP_PREFIX)
    return [{name: value.decode("utf-8", "replace") for name, value in row} for row in rows]
