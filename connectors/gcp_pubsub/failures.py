"""What Pub/Sub's errors mean."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import grpc
from google.rpc import error_details_pb2, status_pb2

from connectors.errors import FatalError, PenstockError, PermanentError, RetryableError

_Code = grpc.StatusCode

_HINTS = {
    _Code.NOT_FOUND: "Is the project right, and does it exist? `penstock run --check` looks.",
    _Code.PERMISSION_DENIED: "Reading needs roles/pubsub.subscriber, publishing roles/pubsub.publisher.",
    _Code.UNAUTHENTICATED: "Are the credentials valid, and the clock right?",
    _Code.FAILED_PRECONDITION: "A subscription that is detached, or pushes, can't be pulled from.",
    _Code.UNIMPLEMENTED: "Is the endpoint one of Pub/Sub?",
}
_SLUGS = {
    _Code.NOT_FOUND: "pubsub_missing",
    _Code.PERMISSION_DENIED: "pubsub_denied",
    _Code.UNAUTHENTICATED: "pubsub_credentials",
}


def text_of(error: grpc.RpcError) -> str:
    """Return what the server, or gRPC, has to say, on one line."""
    details = str(error.details() or "").strip() or str(error.code().name)
    return details.splitlines()[0][:500]


def translated(error: grpc.RpcError, address: str, what: str) -> PenstockError:
    """Return the error of a call about `what`: `the subscription shop`.

    What is not known to be for good is taken to pass: acknowledgements and leases wait for it.
    """
    code = error.code()
    if code in _HINTS:
        return FatalError(
            f"Pub/Sub at {address} refuses {what}: {text_of(error)}.",
            code=_SLUGS.get(code, "pubsub_refused"),
            hint=_HINTS[code],
            status=code.name,
        )
    if code in {_Code.INVALID_ARGUMENT, _Code.OUT_OF_RANGE}:
        return PermanentError(
            f"Pub/Sub does not take {what}: {text_of(error)}.",
            code="pubsub_invalid",
            hint="Messages hold at most 10 MB, 100 attributes of 1024 bytes, keys of 1024 bytes.",
            status=code.name,
        )
    return RetryableError(
        f"Pub/Sub at {address} does not answer for {what}: {text_of(error)}.",
        code="pubsub_unavailable",
        hint="Is the network there? Google's state is on status.cloud.google.com.",
        status=code.name,
    )


def opening_failed(error: grpc.RpcError, address: str, what: str) -> FatalError:
    """Return why nothing can be opened."""
    known = translated(error, address, what)
    if isinstance(known, FatalError):
        return known
    return FatalError(
        known.message,
        code=known.code,
        hint="Is `endpoint` or PUBSUB_EMULATOR_HOST right?",
        unreachable=isinstance(known, RetryableError),
    )


class AckOutcome(NamedTuple):
    """What became of acknowledgements (or longer leases), by their ids."""

    done: Sequence[str]
    lost: Sequence[str]
    """The lease has run out: the messages come again."""
    again: Sequence[str]
    """To be tried again."""


def outcome_of(ack_ids: Sequence[str], error: grpc.RpcError, *, exactly_once: bool) -> AckOutcome:
    """Return what an acknowledgement that failed has done.

    With exactly-once delivery the answer tells each id's fate in an ErrorInfo; without, only what is
    acknowledged as a whole is, and a lease that has run out is nobody's error.
    """
    fates = _fates(error) if exactly_once else {}
    if not fates:
        transient = isinstance(translated(error, "", ""), RetryableError)
        return AckOutcome((), (), ack_ids) if transient else AckOutcome((), ack_ids, ())
    done: list[str] = []
    lost: list[str] = []
    again: list[str] = []
    for ack_id in ack_ids:
        fate = fates.get(ack_id, "")
        if fate.startswith("TRANSIENT_"):
            again.append(ack_id)
        elif fate.startswith("PERMANENT_"):
            lost.append(ack_id)
        else:
            done.append(ack_id)
    return AckOutcome(done, lost, again)


def _fates(error: Any) -> Mapping[str, str]:
    for key, value in error.trailing_metadata() or ():
        if key != "grpc-status-details-bin":
            continue
        status = status_pb2.Status.FromString(value)
        for detail in status.details:
            info = error_details_pb2.ErrorInfo()
            if detail.Is(info.DESCRIPTOR) and detail.Unpack(info):
                return dict(info.metadata)
    return {}
