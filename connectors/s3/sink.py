"""`sink.s3`: events are staged with every batch, and written as objects of many.

After a crash the state store knows which pieces were settled. What is behind them is undone: pieces, and
objects with lines of theirs, are deleted; their events come again. See objects.py.
"""

from __future__ import annotations

import contextlib
import secrets
import time
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from threading import Condition, Thread

import structlog

from connectors.contracts import Check, Outgoing, SinkOpening, SinkTraits
from connectors.errors import FatalError, PenstockError, PermanentError
from connectors.rendering import EventTemplate
from connectors.s3.bucket import Bucket
from connectors.s3.content import Content, content_of, finished
from connectors.s3.objects import (
    OpenObject,
    Settled,
    new_start,
    object_name,
    pack_piece,
    read_piece,
    read_state,
)
from connectors.s3.settings import S3Sink as S3SinkSettings

log = structlog.get_logger("penstock.sink")

_NOT_YET_DURABLE = 100
"""States that were returned last may still be on their way to the state store: what they need stays."""
_HELD = 256_000_000
"""Bytes of open objects that are held in memory; beyond, the largest are written early."""
_PRUNE_EVERY = 64
_CLOSING = 20.0
"""Seconds in which open objects are written at the end; what is left is staged, and written later."""
_SILENT = 3.0
"""Seconds without a sign of S3 after which the end waits for it no longer."""
_AGAIN = 5.0
"""Seconds until an object that could not be written is tried again."""


class S3Sink:
    """The sink. `deliver` stages; objects are written by it, or by a thread when they get old."""

    def __init__(self, name: str, settings: S3SinkSettings) -> None:
        self._name = name
        self._settings = settings
        self.traits = SinkTraits(
            ordered=True,
            delivery="effectively_once",
            embeds=settings.format != "json",
        )
        self._template: EventTemplate
        self._content: Content
        self._bucket: Bucket | None = None
        self._life = ""
        self._start = ""
        self._starts: list[tuple[int, str]] = []
        self._piece = 0
        self._number = 0
        self._objects: dict[str, OpenObject] = {}
        self._needed: deque[int] = deque(maxlen=_NOT_YET_DURABLE)
        self._kept_from = 1
        self._turn = Condition()
        """Held by whoever uses the bucket or the objects: the dataflow's thread, or the timer's."""
        self._timer: Thread | None = None
        self._closing = False
        self._left_behind = False
        """The timer's thread is not waited for any longer: it makes no more calls."""
        self._heard: float | None = None
        """When S3 last took something of the object that is being written, or was asked; monotonic."""

    def preflight(self, topics: Sequence[str]) -> Iterable[Check]:  # noqa: ARG002 - it has none
        """Ask for the bucket; write nothing."""
        bucket = None
        try:
            bucket = Bucket(self._settings)
            bucket.check()
        except PenstockError as error:
            away = error.code == "s3_unavailable"
            yield Check("bucket", ok=False, found=error.message, hint=error.hint, unreachable=away)
        else:
            yield Check("bucket", ok=True, found=self._settings.bucket)
        finally:
            if bucket is not None:
                bucket.close()

    def open(self, opening: SinkOpening) -> None:
        """Undo what was not settled, and take up the objects that were open."""
        self._template = EventTemplate(self._settings.object_key, opening.compile_template)
        self._content = content_of(self._settings, opening.compile_jq)
        settled = read_state(opening.state)
        bucket = Bucket(self._settings)
        self._start = new_start(settled, time.time())
        try:
            bucket.check()
            if settled is None:
                self._life, self._piece, self._starts = secrets.token_hex(8), 0, []
            else:
                self._life, self._piece = settled.life, settled.piece
                self._starts = list(settled.starts)
                self._recover(bucket, settled)
        except PenstockError as error:
            bucket.close()
            raise _fatal(error) from error
        self._starts.append((self._piece + 1, self._start))
        self._kept_from = self._first_needed()
        self._bucket = bucket
        self._closing = self._left_behind = False
        self._timer = Thread(target=self._watch, name=f"s3-{self._name}", daemon=True)
        self._timer.start()

    def _recover(self, bucket: Bucket, settled: Settled) -> None:
        """Delete what is not settled; fill the open objects anew.

        Those that were begun under other settings, and can't be gone on with, are written as they are.
        """
        self._objects, unneeded = _take_up(bucket, settled, self._folder(settled.life))
        bucket.delete(unneeded)
        for one in [one for one in self._objects.values() if not self._content.fits(one)]:
            content, kind = finished(one, self._settings)
            bucket.write(one.name, content, kind, last=one.last, start=self._start)
            del self._objects[one.key]
        self._forget_starts(self._first_needed())

    def _folder(self, life: str) -> str:
        return f"{self._settings.staging_prefix}/{life}/"

    def _next_name(self, key: str) -> str:
        self._number += 1
        return object_name(key, self._start, self._number, self._content.ending)

    def undo_unsettled(self, state: Mapping[str, str]) -> None:
        """Undo what a lost writer had not settled, and write its open objects as they are settled."""
        settled = read_state(state)
        if settled is None:
            return
        start = new_start(settled, time.time())
        bucket = Bucket(self._settings)
        try:
            folder = self._folder(settled.life)
            objects, unneeded = _take_up(bucket, settled, folder)
            bucket.delete(key for key in unneeded if not key.startswith(folder))
            for one in objects.values():
                content, kind = finished(one, self._settings)
                bucket.write(one.name, content, kind, last=one.last, start=start)
            bucket.delete(list(bucket.listed(folder)))
        except PenstockError as error:
            raise _fatal(error) from error
        finally:
            bucket.close()

    def deliver(self, events: Outgoing) -> Mapping[int, PenstockError]:
        """Stage the events and wait until they are durable; write what is large enough."""
        if not len(events):
            return {}
        groups, failures = self._template.group(events)
        prepared = self._content.prepared(events)
        failures.update(prepared.failures)
        with self._turn:
            packed = []
            piece = self._piece + 1
            chosen: dict[str, OpenObject] = {}
            for key, indexes in groups.items():
                if prepared.failures:
                    indexes = [k for k in indexes if k not in prepared.failures]  # noqa: PLW2901 - less of it
                    if not indexes:
                        continue
                error = _unusable(key)
                if error is not None:
                    failures.update(dict.fromkeys(indexes, error))
                    continue
                one = self._objects.get(key)
                if one is None:
                    one = OpenObject(key, self._next_name(key), piece, opened=time.time())
                chosen[key] = one
                packed.append((key, one.name, len(indexes), prepared.part(indexes)))
            if not packed:
                return failures
            try:
                self._stage(piece, pack_piece(packed))
            except PenstockError as failed:
                return dict.fromkeys(range(len(events)), failed) | failures
            self._piece = piece
            for key, _, count, content in packed:
                chosen[key].add(content, count, piece)
                self._content.compact(chosen[key])
            self._objects.update(chosen)
            self._write_full()
            self._prune()
            self._turn.notify()
        return failures

    def _stage(self, piece: int, content: bytes) -> None:
        assert self._bucket is not None  # noqa: S101 - the contract: open comes first
        self._bucket.stage(f"{self._folder(self._life)}{piece:012d}-{self._start}", content)

    def _write_full(self) -> None:
        limits = self._settings.roll
        full = [
            one
            for one in self._objects.values()
            if one.events >= limits.events or one.size >= limits.size
        ]
        held = sum(one.size for one in self._objects.values()) - sum(one.size for one in full)
        if held > _HELD:
            for one in sorted(self._objects.values(), key=lambda one: -one.size):
                if one not in full and held > _HELD // 2:
                    full.append(one)
                    held -= one.size
        for one in full:
            # What can't be written now is tried again by the timer: its events are staged.
            if not self._written(one):
                return

    def _written(self, one: OpenObject) -> bool:
        assert self._bucket is not None  # noqa: S101 - the contract: open comes first
        try:
            content, kind = finished(one, self._settings)
            self._hear()
            self._bucket.write(
                one.name, content, kind, last=one.last, start=self._start, hear=self._hear
            )
        except PenstockError as error:
            log.warning(
                "an object could not be written yet", sink=self._name, key=one.name, why=str(error)
            )
            return False
        finally:
            self._heard = None
        del self._objects[one.key]
        return True

    def _hear(self, _size: int = 0) -> None:
        self._heard = time.monotonic()

    def _watch(self) -> None:
        """Write objects once they are old enough; at the end, those that are open."""
        age = self._settings.roll.age
        with self._turn:
            while not self._closing:
                oldest = min((one.opened for one in self._objects.values()), default=None)
                wait = None if oldest is None else oldest + age - time.time()
                if wait is None or wait > 0:
                    # Bounded, as the wall clock may be set.
                    self._turn.wait(None if wait is None else min(wait, 60.0))
                    continue
                due = [o for o in self._objects.values() if o.opened + age <= time.time()]
                # The others are not to wait for one that fails; at the end all are written alike.
                written = [not self._closing and self._written(one) for one in due]
                if not all(written) and not self._closing:
                    self._turn.wait(_AGAIN)
            self._write_open()
        self._disconnect()

    def _write_open(self) -> None:
        until = time.monotonic() + _CLOSING
        for one in list(self._objects.values()):
            if self._left_behind or time.monotonic() > until or not self._written(one):
                break
        if not self._left_behind:
            self._tell_what_is_left()

    def _tell_what_is_left(self) -> None:
        if left := len(self._objects):
            log.warning("objects stay staged until the next start", sink=self._name, left=left)

    def _first_needed(self) -> int:
        return min((one.first for one in self._objects.values()), default=self._piece + 1)

    def _prune(self) -> None:
        """Delete pieces that no state needs which may be read again."""
        if len(self._needed) < _NOT_YET_DURABLE or self._piece % _PRUNE_EVERY:
            return
        assert self._bucket is not None  # noqa: S101 - the contract: open comes first
        until = self._needed[0]
        numbers = range(self._kept_from, until)
        folder = self._folder(self._life)
        names = [f"{folder}{n:012d}-{self._start_of(n)}" for n in numbers]
        with contextlib.suppress(PenstockError):  # they cost a little room until the next time
            self._bucket.delete(names)
            self._kept_from = until
            self._forget_starts(until)

    def _forget_starts(self, until: int) -> None:
        """Forget which start wrote the pieces before `until`."""
        past = [first for first, _ in self._starts if first <= until]
        if past:
            self._starts = [each for each in self._starts if each[0] >= past[-1]]

    def _start_of(self, piece: int) -> str:
        return next(start for first, start in reversed(self._starts) if first <= piece)

    def settled_state(self) -> Mapping[str, str] | None:
        """Return the open objects, and the last piece."""
        with self._turn:
            self._needed.append(self._first_needed())
            return Settled(self._life, self._piece, tuple(self._starts), self._objects).to_mapping()

    def close(self) -> None:
        """Write what is open: a run that is over leaves nothing that only the sink can read.

        The timer's thread does it, so that an S3 which says nothing is not waited for: what is not
        written is staged, and the next start writes it.
        """
        timer, self._timer = self._timer, None
        if timer is None:
            return
        self._closing = True
        while timer.is_alive() and not self._is_silent():
            if self._turn.acquire(timeout=0.05):  # it may be within a call
                self._turn.notify()
                self._turn.release()
            timer.join(0.05)
        if timer.is_alive():
            self._left_behind = True  # it ends, and disconnects, with the call that it is in
            self._tell_what_is_left()
        else:
            self._disconnect()  # nothing, unless the thread broke

    def _is_silent(self) -> bool:
        heard = self._heard
        return heard is not None and time.monotonic() > heard + _SILENT

    def _disconnect(self) -> None:
        bucket, self._bucket = self._bucket, None
        if bucket is not None:
            bucket.close()
        self._objects = {}


def _take_up(
    bucket: Bucket, settled: Settled, folder: str
) -> tuple[dict[str, OpenObject], list[str]]:
    """Return the objects that are to be gone on with, filled, and the keys that are to be deleted.

    An object that was written, with nothing but settled lines, stays: it is complete.
    """
    keys = list(bucket.listed(folder))
    numbers = {key: _number(key, folder) for key in keys}
    unneeded = []
    strangers: set[str] = set()
    for key in keys:
        if numbers[key] > settled.piece:
            strangers.update(name for _, name, _, _ in read_piece(bucket.read(key)))
    found: dict[str, OpenObject] = {}
    names = {one.name for one in settled.open_objects.values()}
    unneeded += sorted(strangers - names)
    for one in settled.open_objects.values():
        last = bucket.last_piece_of(one.name)
        if last is not None and last <= settled.piece:
            continue
        if last is not None:
            unneeded.append(one.name)
        found[one.key] = OpenObject(one.key, one.name, one.first, opened=one.opened)
    first = min((one.first for one in found.values()), default=settled.piece + 1)
    for number in range(first, settled.piece + 1):
        piece = f"{folder}{number:012d}-{settled.start_of(number)}"
        for key, name, events, lines in read_piece(bucket.read(piece)):
            one_open = found.get(key)
            if one_open is not None and number >= one_open.first and lines and name:
                one_open.add(lines, events, number)
    # Pieces last: while they are there, this can be done again.
    needed = {f"{folder}{n:012d}-{settled.start_of(n)}" for n in range(first, settled.piece + 1)}
    unneeded += [key for key in keys if key not in needed]
    return found, unneeded


def _number(key: str, folder: str) -> int:
    try:
        return int(key[len(folder) :].partition("-")[0])
    except ValueError as error:
        raise FatalError(
            f"{key} in the bucket is none of the sink's pieces.",
            code="s3_staging",
            hint="Something else writes under the staging prefix: give the sink one of its own.",
        ) from error


def _unusable(key: str) -> PermanentError | None:
    parts = key.split("/")
    if key and len(key.encode()) <= 900 and "" not in parts and not {".", ".."} & set(parts):
        return None
    return PermanentError(
        f"the event's key {key[:200]!r} can't be an object's.",
        code="s3_key",
        hint="Check what `key` renders to.",
    )


def _fatal(error: PenstockError) -> FatalError:
    if isinstance(error, FatalError):
        return error
    return FatalError(error.message, code=error.code, hint=error.hint, unreachable=True)
