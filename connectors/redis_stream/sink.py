"""The Redis sink: batches as pipelined XADDs, in transactions that keep the order of a stream.

A pipeline's commands fail one by one: if the server refuses the third for want of memory and takes
the fourth, the order is lost. Within MULTI and EXEC what the server refuses for a reason of its
own, it refuses as a whole (EXECABORT). In a cluster each stream is at one node, and so is its transaction.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence

from redis.exceptions import BusyLoadingError, ExecAbortError, RedisError, ResponseError

from connectors.batch import Column
from connectors.cloudevents import binary_headers, bodies, structured
from connectors.contracts import Check, Outgoing, SinkOpening, SinkTraits
from connectors.errors import FatalError, PenstockError, PermanentError, RetryableError
from connectors.redis_stream import preflight
from connectors.redis_stream.cluster import Links
from connectors.redis_stream.connection import Link
from connectors.redis_stream.decoding import PREFIX
from connectors.redis_stream.failures import at_start, label_of, translated
from connectors.redis_stream.group import refuse_cluster
from connectors.redis_stream.settings import RedisStreamSink
from connectors.rendering import EventTemplate

_LONGEST = 512 * 1024 * 1024
"""Bytes of a value that a server takes (proto-max-bulk-len); beyond, it ends the connection."""

_TRANSACTION_BYTES = 16 * 1024 * 1024

_MULTI = b"*1\r\n$5\r\nMULTI\r\n"
_EXEC = b"*1\r\n$4\r\nEXEC\r\n"


class RedisSink:
    """See `connectors.contracts.Sink`."""

    def __init__(self, name: str, settings: RedisStreamSink) -> None:
        self._name = name
        self._settings = settings
        self.traits = SinkTraits(
            ordered=True,
            delivery="at_least_once",
            topics=True,
            embeds=settings.format == "cloudevents_structured",
        )
        self._links: Links | None = None
        self._template: EventTemplate | None = None

    def preflight(self, topics: Sequence[str]) -> Iterable[Check]:
        """Check the server and each stream."""
        own = [self._settings.stream] if self._settings.stream else []
        return preflight.adding(self._settings, list(dict.fromkeys([*topics, *own])))

    def open(self, opening: SinkOpening) -> None:
        """Connect."""
        if self._settings.stream is not None:
            self._template = EventTemplate(self._settings.stream, opening.compile_template)
        links = Links(self._settings, name=self._name)
        try:
            # Of a cluster some node answers with the slots; each stream's own is asked when there is one.
            link = links.to(self._settings.stream or "")
            if self._settings.cluster is None:
                link.call("PING")
                refuse_cluster(link)
        except BusyLoadingError:
            pass  # it answers, and `deliver` tries again
        except RedisError as error:
            links.close()
            raise at_start(error, label_of(self._settings.url)) from None
        except FatalError:
            links.close()
            raise
        self._links = links

    def deliver(self, events: Outgoing) -> Mapping[int, PenstockError]:
        """Add the events and wait for the answers."""
        if not len(events):
            return {}
        failures: dict[int, PenstockError] = {}
        groups: Mapping[str, Sequence[int]]
        if events.topic is not None:
            groups = {events.topic: range(len(events))}
        elif self._template is not None:
            groups, failures = self._template.group(events)
        else:
            return dict.fromkeys(range(len(events)), _no_stream())
        counts, written = self._written(events)
        away: dict[Link | None, PenstockError] = {}
        for stream, places in groups.items():
            failed = self._add_where_it_is(stream, places, away, counts, written)
            failures |= (
                dict.fromkeys(places, failed) if isinstance(failed, PenstockError) else failed
            )
        return failures

    def _add_where_it_is(
        self,
        stream: str,
        places: Sequence[int],
        away: dict[Link | None, PenstockError],
        counts: Sequence[int],
        written: Sequence[bytes],
    ) -> dict[int, PenstockError] | PenstockError:
        """Add events to one stream; what holds for all of them is returned as one error.

        `away`: nodes that did not answer to this batch. To wait for each once is enough.
        """
        links = self._links
        assert links is not None, "deliver before open"  # noqa: S101
        if None in away:
            return away[None]
        try:
            link = links.to(stream)
        except FatalError as error:
            return error
        except RedisError as error:
            known = translated(error, label_of(self._settings.url))
            if known.code == "redis_unavailable":
                away[None] = known
            return known
        if link in away:
            return away[link]
        failed = self._add(link, stream, places, counts, written)
        again = next((e for e in failed.values() if isinstance(e, RetryableError)), None)
        if again is not None:
            links.ask_again()
            if again.code == "redis_unavailable":
                away[link] = again
        return failed

    # --- from events to commands ------------------------------------------------------------------

    def _written(self, events: Outgoing) -> tuple[Sequence[int], Sequence[bytes]]:
        """Return each event's fields: in how many parts, and packed."""
        written = self._settings.format
        field = self._settings.data_field.encode()
        if written == "cloudevents_binary":
            rows = [
                _parts(headers, field, body)
                for headers, body in zip(
                    binary_headers(events, PREFIX), bodies(events), strict=True
                )
            ]
            return [len(parts) for parts in rows], [b"".join(map(_bulk, parts)) for parts in rows]
        values: Column = list(structured(events) if written != "json" else events.values)
        if written == "json" and None in values:
            values = [b"null" if value is None else value for value in values]
        name = _bulk(field)
        return [2] * len(values), [b"%b$%d\r\n%b\r\n" % (name, len(v), v) for v in values]

    def _trims(self, stream: str) -> list[list[bytes]]:
        """Return the commands that trim the stream."""
        found: list[list[bytes]] = []
        name = stream.encode()
        if self._settings.max_length is not None:
            found.append([b"XTRIM", name, b"MAXLEN", b"~", b"%d" % self._settings.max_length])
        if self._settings.max_age is not None:
            oldest = int((time.time() - self._settings.max_age) * 1000)
            found.append([b"XTRIM", name, b"MINID", b"~", b"%d" % oldest])
        return found

    # --- sending ----------------------------------------------------------------------------------

    def _add(
        self,
        link: Link,
        stream: str,
        places: Sequence[int],
        counts: Sequence[int],
        written: Sequence[bytes],
    ) -> dict[int, PenstockError]:
        """Add events to one stream, in order; behind one that has to be tried again none is added."""
        failures: dict[int, PenstockError] = {}
        sound = []
        for place in places:
            if len(written[place]) > _LONGEST:
                failures[place] = _too_large(len(written[place]))
            else:
                sound.append(place)
        start = b"".join(map(_bulk, (b"XADD", stream.encode(), b"*")))
        starts = {count: b"*%d\r\n%b" % (count + 3, start) for count in set(counts)}
        at = 0
        while at < len(sound):
            end = self._end(sound, at, written)
            part = sound[at:end]
            # Once per transaction: to trim costs a look at the stream.
            trims = self._trims(stream)
            commands = [_MULTI, *[starts[counts[k]] + written[k] for k in part]]
            commands += [b"*%d\r\n" % len(trim) + b"".join(map(_bulk, trim)) for trim in trims]
            commands.append(_EXEC)
            failed = self._transact(link, stream, b"".join(commands), len(part), len(trims))
            failures |= {part[index]: error for index, error in failed.items()}
            if any(not isinstance(error, PermanentError) for error in failed.values()):
                error = next(e for e in failed.values() if not isinstance(e, PermanentError))
                return failures | dict.fromkeys(sound[end:], error)
            at = end
        return failures

    def _end(self, sound: Sequence[int], at: int, written: Sequence[bytes]) -> int:
        """Return where a transaction that begins at `at` ends: by number and by bytes."""
        most = min(len(sound), at + self._settings.pipeline_size)
        weight = 0
        for end in range(at, most):
            weight += len(written[sound[end]])
            if weight > _TRANSACTION_BYTES:
                return end + 1
        return most

    def _transact(
        self, link: Link, stream: str, packed: bytes, events: int, trims: int
    ) -> dict[int, PenstockError]:
        """Send one transaction; return its failed events by place."""
        try:
            answers = link.send(packed, events + trims + 2)
        except RedisError as error:
            return dict.fromkeys(range(events), translated(error, link.label))
        done = answers[-1]
        if isinstance(done, ResponseError):
            refused = next((a for a in answers[:-1] if isinstance(a, ResponseError)), done)
            cause = refused if isinstance(done, ExecAbortError) else done
            return dict.fromkeys(range(events), self._translated(cause, link, stream))
        return {
            index: self._translated(answer, link, stream)
            for index, answer in enumerate(done[:events])
            if isinstance(answer, RedisError)
        }

    def _translated(self, error: RedisError, link: Link, stream: str) -> PenstockError:
        found = translated(error, link.label, stream=stream)
        of_event = self._template is not None and not self._template.constant
        if of_event and found.code == "redis_wrong_type":  # that event's name, not the flow's
            return PermanentError(found.message, code=found.code, hint=found.hint)
        return found

    # --- the end ----------------------------------------------------------------------------------

    def settled_state(self) -> None:
        """Keep nothing: Redis has it."""

    def close(self) -> None:
        """Disconnect."""
        links, self._links = self._links, None
        if links is not None:
            links.close()


def _bulk(part: bytes) -> bytes:
    return b"$%d\r\n%b\r\n" % (len(part), part)


def _parts(headers: Sequence[tuple[str, bytes]], name: bytes, body: bytes | None) -> list[bytes]:
    parts = [part for header, value in headers for part in (header.encode(), value)]
    return parts if body is None else [*parts, name, body]


def _no_stream() -> FatalError:
    return FatalError(
        "the publish step names no topic, and the Redis module has no stream.",
        code="redis_no_stream",
        hint="Add `topic:` to the step's config or `stream:` to the module's.",
    )


def _too_large(size: int) -> PermanentError:
    return PermanentError(
        f"the event is {size:,} bytes, and Redis takes 512 MB.",
        code="message_too_large",
        hint="Publish less of it.",
    )
