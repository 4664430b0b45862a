"""What the errors of a Redis server mean: who has to act, and what they can do about it."""

from __future__ import annotations

from urllib.parse import urlsplit

from redis.exceptions import (
    AskError,
    AuthenticationError,
    AuthorizationError,
    BusyLoadingError,
    ClusterCrossSlotError,
    MovedError,
    NoPermissionError,
    ReadOnlyError,
    RedisError,
    ResponseError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from connectors.errors import FatalError, PenstockError, PermanentError, RetryableError

_PASSES = (
    "OOM",
    "READONLY",
    "read only",
    "used memory",
    "LOADING",
    "CLUSTERDOWN",
    "MASTERDOWN",
    "NOREPLICAS",
    "TRYAGAIN",
    "MISCONF",
    "BUSY",
    "UNBLOCKED",
)
"""Words of refusals that pass by themselves: no memory left, a failover, a slow script."""


class ElsewhereError(ResponseError):
    """A node of a cluster does not have a stream's slot any more, or is just handing it over."""


def label_of(url: str) -> str:
    """Return host, port and database of a URL, without what is secret in it."""
    parts = urlsplit(url)
    return f"{parts.hostname}:{parts.port or 6379}{parts.path}"


def said_by(error: RedisError) -> str:
    """Return a server's or client's words, with the code that redis-py takes off them."""
    words = " ".join(str(error).split()).rstrip(".")
    code = str(getattr(error, "status_code", None) or "")
    return words if not code or words.startswith(code) else f"{code} {words}"


def is_missing_group(error: RedisError) -> bool:
    """Whether the stream or its group is not there (any more)."""
    return "NOGROUP" in said_by(error)


def is_replica(error: RedisError) -> bool:
    """Whether the server refuses since it is a replica, perhaps since a failover."""
    return isinstance(error, ReadOnlyError) or said_by(error).startswith(("READONLY", "MASTERDOWN"))


def translated(error: RedisError, label: str, *, stream: str = "") -> PenstockError:
    """Return what an operator sees: may it pass by itself, and what to do."""
    said = said_by(error)
    about = f"the stream {stream} of Redis {label}" if stream else f"Redis {label}"
    if isinstance(error, ElsewhereError):
        return RetryableError(
            f"{about} is on its way to another node: {said}.",
            code="redis_slot_moved",
            hint="It is tried again, at the node that the cluster names then.",
        )
    if isinstance(error, (AuthenticationError, AuthorizationError)):
        return FatalError(
            f"Redis {label} refused the login: {said}.",
            code="redis_authentication",
            hint="Check user and password in `url`.",
        )
    if isinstance(error, NoPermissionError):
        return FatalError(
            f"this user may not do that at {about}: {said}.",
            code="redis_not_authorised",
            hint="A reader needs XREADGROUP, XACK, XCLAIM, XAUTOCLAIM, XPENDING, XINFO and XGROUP on"
            " its streams; a writer XADD, XTRIM, MULTI and EXEC; in a cluster both need CLUSTER SLOTS: see"
            " ACL SETUSER.",
        )
    if isinstance(error, (MovedError, AskError, ClusterCrossSlotError)):
        return FatalError(
            f"Redis {label} is a node of a cluster: {said}.",
            code="redis_cluster",
            hint="Set `cluster`, so that the node is asked for that has the stream.",
        )
    if isinstance(error, (BusyLoadingError, RedisConnectionError, RedisTimeoutError)):
        return RetryableError(
            f"Redis {label} can't be reached: {said}.",
            code="redis_unavailable",
            hint="It is tried again until it is back.",
        )
    if any(word in said for word in _PASSES):
        return RetryableError(
            f"{about} takes nothing now: {said}.",
            code="redis_refused",
            hint="It is tried again until that has passed.",
        )
    if "WRONGTYPE" in said:
        return FatalError(
            f"{about} is another kind of key: {said}.",
            code="redis_wrong_type",
            hint="Name another stream, or remove that key.",
        )
    if isinstance(error, ResponseError):
        return PermanentError(
            f"{about} answered: {said}.",
            code="redis_failed",
            hint="Look the words up in the server's documentation.",
        )
    return RetryableError(
        f"{about} gives no answer that can be read: {said}.",
        code="redis_unavailable",
        hint="It is tried again. Is that port Redis's, and does `url` say rediss:// for TLS?",
    )


def at_start(error: RedisError, label: str) -> FatalError:
    """Return why nothing can be opened."""
    known = translated(error, label)
    if isinstance(known, FatalError):
        return known
    return FatalError(
        known.message,
        code=known.code,
        hint="Check `url`, that the server runs and lets this machine in.",
        unreachable=isinstance(known, RetryableError),
    )
