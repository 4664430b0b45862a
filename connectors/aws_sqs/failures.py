"""What SQS's errors mean: who has to act, and what they can do about it."""

from __future__ import annotations

from connectors.errors import FatalError, PenstockError, PermanentError, RetryableError

_THROTTLED = {
    "ThrottlingException",
    "Throttling",
    "RequestThrottled",
    "RequestThrottledException",
    "KmsThrottled",
    "OverLimit",
    "TooManyRequestsException",
    "SlowDown",
}
_LOGIN = {
    "AccessDenied",
    "AccessDeniedException",
    "InvalidClientTokenId",
    "UnrecognizedClientException",
    "SignatureDoesNotMatch",
    "InvalidSignatureException",
    "IncompleteSignature",
    "MissingAuthenticationToken",
    "MissingAuthenticationTokenException",
    "NotAuthorized",
    "OptInRequired",
    "InvalidSecurity",
    "KmsAccessDenied",
    "KmsDisabled",
    "KmsInvalidState",
    "KmsNotFound",
    "KmsOptInRequired",
}
_EXPIRED = {"ExpiredToken", "ExpiredTokenException", "RequestExpired"}
_MISSING = {"QueueDoesNotExist", "AWS.SimpleQueueService.NonExistentQueue", "QueueDeletedRecently"}
_GONE = {
    "ReceiptHandleIsInvalid",
    "InvalidParameterValue",
    "MessageNotInflight",
    "AWS.SimpleQueueService.MessageNotInflight",
    "InvalidIdFormat",
}
_TOO_LARGE = {"BatchRequestTooLong", "AWS.SimpleQueueService.BatchRequestTooLong"}


def code_of(written: str) -> str:
    """Return an error's own name: `com.amazonaws.sqs#QueueDoesNotExist;…` is QueueDoesNotExist."""
    return written.rpartition("#")[2].partition(";")[0].partition(":")[0]


def is_gone(code: str) -> bool:
    """Whether a message's receipt handle no longer holds: it is deleted, or was received anew."""
    return code in _GONE


def is_too_large(error: PenstockError) -> bool:
    """Whether a batch as a whole was too large."""
    return error.context.get("aws") in _TOO_LARGE


def away(host: str, said: object) -> RetryableError:
    """Return the error for an address that does not answer."""
    words = " ".join(str(said).split()).rstrip(".") or type(said).__name__
    return RetryableError(
        f"SQS at {host} can't be reached: {words}.",
        code="sqs_unavailable",
        hint="It is tried again until it answers.",
    )


def of_answer(code: str, message: str, status: int, queue: str) -> PenstockError:
    """Return what an error of a whole call means."""
    said = f"{code}: {message}".rstrip(". :")
    if code in _MISSING:
        return FatalError(
            f"the SQS queue {queue} does not exist.",
            code="sqs_queue_missing",
            hint="Check `queue_url`, `region` and `endpoint`, or create the queue: aws sqs create-queue.",
            aws=code,
        )
    if code in _EXPIRED:
        return RetryableError(
            f"the AWS credentials have expired: {said}.",
            code="aws_credentials",
            hint="They are read again, and the call is tried again.",
            aws=code,
        )
    if code in _LOGIN or status in {401, 403}:
        return FatalError(
            f"SQS does not let us use {queue}: {said}.",
            code="sqs_not_authorised",
            hint="Reading needs sqs:ReceiveMessage, sqs:DeleteMessage, sqs:ChangeMessageVisibility and"
            " sqs:GetQueueAttributes on the queue; sending needs sqs:SendMessage and"
            " sqs:GetQueueAttributes, and a key of its own kms:GenerateDataKey and kms:Decrypt.",
            aws=code,
        )
    if code in _THROTTLED or status == 429:
        return RetryableError(
            f"SQS throttles {queue}: {said}.",
            code="sqs_throttled",
            hint="It is tried again, more slowly.",
            aws=code,
        )
    if status >= 500:
        return RetryableError(
            f"SQS failed ({status}): {said}.",
            code="sqs_unavailable",
            hint="It is tried again until it answers.",
            aws=code,
        )
    return PermanentError(
        f"SQS refused a call for {queue}: {said}.",
        code="sqs_refused",
        hint="Its words say which part of the event, or of the module's config.",
        aws=code,
    )


def of_entry(code: str, message: str, *, sender_fault: bool, queue: str) -> PenstockError:
    """Return what the failure of one message of a batch means."""
    known = of_answer(code, message, 400 if sender_fault else 500, queue)
    if isinstance(known, PermanentError) and not sender_fault:
        return RetryableError(known.message, code="sqs_unavailable", hint=known.hint, aws=code)
    return known


def at_start(error: PenstockError) -> FatalError:
    """Return why nothing can be opened."""
    if isinstance(error, FatalError):
        return error
    return FatalError(
        error.message,
        code=error.code,
        hint="Check `queue_url`, `endpoint`, `region` and the network.",
        unreachable=error.code == "sqs_unavailable",
    )
