"""What an error of S3, or of its client, means."""

from __future__ import annotations

from botocore import exceptions

from connectors.errors import FatalError, PenstockError, RetryableError

_REFUSED = {
    "AccessDenied": "Allow s3:PutObject, s3:GetObject, s3:DeleteObject on the bucket's objects and"
    " s3:ListBucket on the bucket.",
    "AllAccessDisabled": "The bucket is closed to all.",
    "InvalidAccessKeyId": "Check access_key_id, or what the environment gives.",
    "SignatureDoesNotMatch": "Check secret_access_key, or what the environment gives.",
    "ExpiredToken": "The credentials have run out: give the worker ones that are renewed.",
    "NoSuchBucket": "Create the bucket, or correct `bucket` and `region`.",
    "PermanentRedirect": "The bucket is in another region: set `region`.",
    "AuthorizationHeaderMalformed": "The bucket is in another region: set `region`.",
    "InvalidStorageClass": "Correct `storage_class`.",
    "KMS.NotFoundException": "Correct `kms_key_id`.",
    "KMS.DisabledException": "Enable the key, or correct `kms_key_id`.",
    "403": "Check the credentials, and their right to the bucket.",
    "404": "Create the bucket, or correct `bucket` and `region`.",
}


def meaning(error: Exception, bucket: str) -> PenstockError:
    """Return what the events get that were to be written."""
    if isinstance(error, exceptions.ClientError):
        answer = error.response.get("Error", {})
        code = str(answer.get("Code", ""))
        text = f"S3 answered {code} for the bucket {bucket}: {answer.get('Message', '')}".rstrip(
            ": ."
        )
        hint = _REFUSED.get(code)
        if hint is not None:
            return FatalError(f"{text}.", code="s3_refused", hint=hint, s3_code=code)
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 500)
        if (
            status < 500
            and status not in {408, 409, 429}
            and code not in {"RequestTimeout", "SlowDown"}
        ):
            return FatalError(
                f"{text}.", code="s3_refused", hint="Check the sink's settings.", s3_code=code
            )
        return RetryableError(f"{text}.", code="s3_unavailable", hint="It is tried again.")
    if isinstance(
        error,
        (
            exceptions.NoCredentialsError,
            exceptions.PartialCredentialsError,
            exceptions.NoRegionError,
            exceptions.ProfileNotFound,
        ),
    ):
        return FatalError(
            f"S3 can't be asked: {error}.",
            code="s3_refused",
            hint="Set region and credentials here, or in the environment.",
        )
    return RetryableError(
        f"S3 did not answer: {error}.", code="s3_unavailable", hint="It is tried again."
    )
