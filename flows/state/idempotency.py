"""Idempotency keys in the state store: who has one, until when, and what came of it.

    free ── reserve ──► held ──┬── done: remembered for its time to live ──► free
      ▲                        ├── held: its execution is parked, and keeps it
      └── released, expired ◄──┘

A key that is held has an end, prolonged while its execution runs (flows.runtime.key_keeper), so
that a worker which is gone for good does not keep it for ever. Its holder is an execution's id: the
same execution, delivered again after a crash, may claim it again at any time. Times are the
database's, one clock for all workers.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from operator import itemgetter
from threading import Lock
from typing import Any, Protocol

import orjson
from sqlalchemy import Connection, and_, bindparam, case, delete, select, update
from sqlalchemy.dialects import postgresql, sqlite

from flows.state.database import Database, transaction
from flows.state.direct import Direct
from flows.state.records import Claim, Held, KeyOutcome, Settlement
from flows.state.rows import Row, storable
from flows.state.tables import idempotency_keys as _keys
from flows.state.tables import key_outcomes, server_now


class KeyStore(Protocol):
    """Where keys are kept. Safe from any thread; raises RetryableError while it is away, FatalError.

    What one call changes is changed together, and is durable (as far as the store is) when it
    returns.
    """

    def reserve(self, claims: Sequence[Claim], seconds: float) -> list[Held | None]:
        """Take the keys that are free or the claimants' own, for so long; None for those taken.

        No two claims have the same digest. Of two that claim a free key at once, one gets it.
        """

    def settle(self, outcomes: Sequence[KeyOutcome]) -> None:
        """Say what becomes of keys. What their holders no longer have is left as it is."""

    def prolong(self, claims: Sequence[Claim], seconds: float) -> None:
        """Let what is still held end later: so many seconds from now."""

    def close(self) -> None:
        """Close the connection."""


_UPSERT: dict[str, Any] = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}


def _reserving(dialect: str) -> Any:
    """Take what is free. Rows it does not take are locked by PostgreSQL all the same."""
    new = _UPSERT[dialect](_keys)
    own = and_(_keys.c.holder == new.excluded.holder, _keys.c.done == 0)
    later = and_(own, _keys.c.expires_at > new.excluded.expires_at)
    return new.on_conflict_do_update(
        index_elements=[_keys.c.flow, _keys.c.digest],
        set_={
            "scope": new.excluded.scope,
            "holder": new.excluded.holder,
            "fingerprint": new.excluded.fingerprint,
            "key": new.excluded.key,
            "tenant": new.excluded.tenant,
            "done": 0,
            "result": None,
            # A parked execution's key is held for longer than a running one's.
            "expires_at": case((later, _keys.c.expires_at), else_=new.excluded.expires_at),
        },
        where=own | (_keys.c.expires_at <= bindparam("now")),
    )


_RESERVED = (
    "flow",
    "digest",
    "scope",
    "holder",
    "fingerprint",
    "key",
    "tenant",
    "done",
    "expires_at",
)

_SHOWN = 200
"""Characters of a key that are kept for people."""

_now = select(server_now())

_found = select(
    _keys.c.digest, _keys.c.holder, _keys.c.fingerprint, _keys.c.done, _keys.c.result
).where(_keys.c.flow == bindparam("flow"), _keys.c.digest.in_(bindparam("digests", expanding=True)))

_still_held = and_(
    _keys.c.flow == bindparam("of_flow"),
    _keys.c.digest == bindparam("of_digest"),
    _keys.c.holder == bindparam("of_holder"),
    _keys.c.done == 0,
)

_settle = Direct(
    update(_keys)
    .where(_still_held)
    .values(
        holder=bindparam("then_of"),
        done=bindparam("is_done"),
        result=bindparam("its_result"),
        expires_at=bindparam("until"),
    )
)

_forget = Direct(
    delete(_keys).where(
        _keys.c.flow == bindparam("of_flow"),
        _keys.c.digest == bindparam("of_digest"),
        _keys.c.holder == bindparam("of_holder"),
        _keys.c.done == 1,
    )
)

_prolong = Direct(
    update(_keys)
    .where(_still_held, _keys.c.expires_at.between(bindparam("now"), bindparam("until")))
    .values(expires_at=bindparam("until"))
)


class StateKeys:
    """The keys of one flow in its state store, over a connection of their own."""

    def __init__(self, url: str, flow: str) -> None:
        """Open the state, whose tables are there. Raises FatalError, RetryableError."""
        self._flow = flow
        self._database = Database(url, create=False)
        self._database.opened()
        self._reserve = Direct(_reserving(self._database.dialect), _RESERVED)
        self._lock = Lock()

    def reserve(self, claims: Sequence[Claim], seconds: float) -> list[Held | None]:
        """Take the keys that are free or the claimants' own; see KeyStore."""
        if not claims:
            return []
        rows: list[Row] = [
            {
                "flow": self._flow,
                "digest": claim.digest,
                "scope": storable(claim.scope),
                "holder": claim.holder,
                "fingerprint": claim.fingerprint,
                "key": None if claim.key is None else shown_text(claim.key),
                "tenant": None if claim.tenant is None else shown_text(claim.tenant),
                "done": 0,
            }
            for claim in claims
        ]
        # In one order everywhere, so that two workers' transactions never wait for each other.
        rows.sort(key=itemgetter("digest"))

        def work(connection: Connection) -> dict[bytes, Held]:
            with transaction(connection):
                now = connection.execute(_now).scalar_one()
                for row in rows:
                    row["now"], row["expires_at"] = now, now + seconds
                # No RETURNING, which takes a call a row (measured: six times as long): the count
                # says whether there is anything to look for.
                if self._reserve.execute(connection, rows) == len(rows):
                    return {}
                found = connection.execute(
                    _found, {"flow": self._flow, "digests": [row["digest"] for row in rows]}
                )
                return {
                    bytes(digest): Held(holder, bytes(fingerprint), bool(done), result)
                    for digest, holder, fingerprint, done, result in found
                }

        with self._lock:
            found = self._database.run(work)
        return [_unless_own(claim, found.get(claim.digest)) for claim in claims]

    def settle(self, outcomes: Sequence[KeyOutcome]) -> None:
        """Say what becomes of keys; see KeyStore."""
        self._execute(_settle, _outcome_rows(self._flow, outcomes))

    def prolong(self, claims: Sequence[Claim], seconds: float) -> None:
        """Let what is still held end later; see KeyStore."""
        rows: list[Row] = [{**_of(self._flow, claim), "seconds": seconds} for claim in claims]
        self._execute(_prolong, sorted(rows, key=itemgetter("of_digest")))

    def _execute(self, statement: Direct, rows: list[Row]) -> None:
        def work(connection: Connection) -> None:
            with transaction(connection):
                statement.execute(connection, _timed(connection, rows))

        if rows:
            with self._lock:
                self._database.run(work)

    def close(self) -> None:
        """Close the connection."""
        self._database.close()


def digest_of(*parts: str) -> bytes:
    """Return the 16 bytes by which a key is known: a hash of it, and of what it is a key of."""
    text = "\x00".join(parts)
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def shown_text(text: str) -> str:
    """Return what is kept of a key's text, or a tenant's, for people."""
    return storable(text[:_SHOWN])


def _unless_own(claim: Claim, held: Held | None) -> Held | None:
    """Return what stands against a claim: not what it has got, now or before."""
    if held is not None and held.holder == claim.holder and not held.done:
        return None
    return held


def _of(flow: str, claim: Claim) -> Row:
    return {"of_flow": flow, "of_digest": claim.digest, "of_holder": claim.holder}


def _outcome_rows(flow: str, outcomes: Sequence[KeyOutcome]) -> list[Row]:
    rows: list[Row] = [
        {
            **_of(flow, each.claim),
            # Of a released key nobody is the holder, so nobody prolongs or finishes it.
            "then_of": "" if each.outcome == "released" else each.claim.holder,
            "is_done": int(each.outcome == "done"),
            "its_result": each.result,
            "seconds": each.seconds,
        }
        for each in outcomes
    ]
    return sorted(rows, key=itemgetter("of_digest"))


def _timed(connection: Connection, rows: list[Row]) -> list[Row]:
    """Return rows with an end by the database's clock: read once, not for each row."""
    now = connection.execute(_now).scalar_one()
    return [{**row, "now": now, "until": now + row["seconds"]} for row in rows]


# --- within the settle transaction ------------------------------------------------------------


def record_keys(
    connection: Connection, flow: str, shard: str, settlements: Sequence[Settlement]
) -> None:
    """Write what becomes of keys, within the transaction that settles their executions."""
    outcomes = [each for settled in settlements for each in settled.keys]
    rows = _outcome_rows(flow, [each for each in outcomes if each.outcome != "forgotten"])
    if rows:
        _settle.execute(connection, _timed(connection, rows))
    forgotten = [_of(flow, each.claim) for each in outcomes if each.outcome == "forgotten"]
    if forgotten:
        _forget.execute(connection, sorted(forgotten, key=itemgetter("of_digest")))
    elsewhere: dict[str, list[KeyOutcome]] = {}
    for settled in settlements:
        if settled.keys_elsewhere:
            elsewhere.setdefault(settled.pipeline, []).extend(settled.keys_elsewhere)
    if not elsewhere:
        return
    # What the settlement before has noted was told before this one was begun.
    connection.execute(
        delete(key_outcomes).where(
            key_outcomes.c.flow == flow,
            key_outcomes.c.shard == shard,
            key_outcomes.c.pipeline.in_(elsewhere),
        )
    )
    connection.execute(
        key_outcomes.insert(),
        [
            {"flow": flow, "shard": shard, "pipeline": pipeline, "outcomes": _text_of(outcomes)}
            for pipeline, outcomes in elsewhere.items()
        ],
    )


def _text_of(outcomes: Sequence[KeyOutcome]) -> str:
    return orjson.dumps(
        [
            (
                each.claim.digest.hex(),
                each.claim.scope,
                each.claim.holder,
                each.claim.fingerprint.hex(),
                each.outcome,
                each.seconds,
                each.result,
            )
            for each in outcomes
        ]
    ).decode()


class NotedOutcomes:
    """What was settled of a pipeline whose keys another store keeps, and may not have been told."""

    def __init__(self, url: str, flow: str, pipeline: str) -> None:
        """Connect to nothing yet. Raises FatalError."""
        self._database = Database(url, create=False)
        self._database.opened()
        self._mine = and_(key_outcomes.c.flow == flow, key_outcomes.c.pipeline == pipeline)

    def tell(self, keys: KeyStore) -> None:
        """Tell `keys` what a crash may have kept from it, and forget it. Raises as both stores do.

        At a worker's start. What another, living worker has noted is told twice, which changes
        nothing.
        """
        noted = select(key_outcomes.c.shard, key_outcomes.c.outcomes).where(self._mine)
        for shard, text in self._database.run(lambda connection: list(connection.execute(noted))):
            keys.settle(_outcomes_of(text))
            told = delete(key_outcomes).where(
                self._mine, key_outcomes.c.shard == shard, key_outcomes.c.outcomes == text
            )

            def forget(connection: Connection, told: Any = told) -> None:
                with transaction(connection):
                    connection.execute(told)

            self._database.run(forget)

    def close(self) -> None:
        """Close the connection."""
        self._database.close()


def _outcomes_of(text: str) -> list[KeyOutcome]:
    return [
        KeyOutcome(
            Claim(bytes.fromhex(digest), scope, holder, bytes.fromhex(fingerprint)),
            outcome,
            seconds,
            result,
        )
        for digest, scope, holder, fingerprint, outcome, seconds, result in orjson.loads(text)
    ]
