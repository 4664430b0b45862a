"""The calls to the bucket: put, get, list, delete. Each raises PenstockError."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from boto3.s3.transfer import TransferConfig
from botocore import exceptions

from connectors.aws_clients import make_client
from connectors.errors import FatalError, PenstockError
from connectors.s3.failures import meaning
from connectors.s3.settings import S3Sink

_MULTIPART = 16 * 1024 * 1024
"""Objects beyond it are sent in parts of this size."""
_LAST = "penstock-last-piece"
_START = "penstock-start"
"""Metadata of an object: the last piece whose lines are in it, and the start that wrote it."""

Failures = (exceptions.ClientError, exceptions.BotoCoreError, exceptions.HTTPClientError)


class Bucket:
    """One bucket, as the settings say. Used by one thread at a time."""

    def __init__(self, settings: S3Sink) -> None:
        """Raise FatalError for credentials or a region that are missing."""
        self._settings = settings
        self.name = settings.bucket
        style = {"addressing_style": "path"} if settings.path_style else {}
        try:
            self._client = make_client(
                settings,
                "s3",
                s3=style,
                connect_timeout=settings.timeout,
                read_timeout=settings.timeout,
                retries={"max_attempts": 3, "mode": "standard"},
            )
        except Failures as error:
            raise meaning(error, self.name) from error
        self._extra: dict[str, Any] = {}
        if settings.encryption != "none":
            self._extra["ServerSideEncryption"] = settings.encryption
        if settings.kms_key_id is not None:
            self._extra["SSEKMSKeyId"] = settings.kms_key_id
        # Not from several threads: what they would gain is not worth a pool that outlives a call.
        self._transfer = TransferConfig(
            multipart_threshold=_MULTIPART, multipart_chunksize=_MULTIPART, use_threads=False
        )

    def _call(self, method: str, **arguments: Any) -> Any:
        try:
            return getattr(self._client, method)(Bucket=self.name, **arguments)
        except Failures as error:
            raise meaning(error, self.name) from error

    def check(self) -> None:
        """Ask whether the bucket is there and may be listed."""
        self._call("list_objects_v2", Prefix=f"{self._settings.staging_prefix}/", MaxKeys=1)

    def stage(self, key: str, content: bytes) -> None:
        """Write a piece."""
        self._call("put_object", Key=key, Body=content, **self._extra)

    def write(
        self,
        key: str,
        content: bytes,
        kind: str,
        *,
        last: int,
        start: str,
        hear: Callable[[int], None] | None = None,
    ) -> None:
        """Write an object of that media type in its final place.

        `hear` is called with the size of what was sent, each time that some was.
        Raises FatalError when a later start has written it already: this process was taken over from.
        """
        known = self._metadata(key)
        if known is not None and known.get(_START, "") > start:
            raise FatalError(
                f"another process has written {key} since this one started.",
                code="s3_fenced",
                hint="It has taken over; this one stops.",
            )
        metadata = {_LAST: str(last), _START: start}
        extra: dict[str, Any] = {**self._extra, "Metadata": metadata}
        extra["ContentType"] = kind
        if self._settings.storage_class is not None:
            extra["StorageClass"] = self._settings.storage_class
        try:
            self._client.upload_fileobj(
                io.BytesIO(content),
                self.name,
                key,
                ExtraArgs=extra,
                Callback=hear,
                Config=self._transfer,
            )
        except Failures as error:
            raise meaning(error, self.name) from error
        except Exception as error:
            # boto3 wraps what S3 said in exceptions of its transfer library.
            cause = error.__cause__ or error.__context__ or error
            raise meaning(cause if isinstance(cause, Exception) else error, self.name) from error

    def read(self, key: str) -> bytes:
        """Return a piece. Raises FatalError when it is gone."""
        try:
            answer = self._client.get_object(Bucket=self.name, Key=key)
            with answer["Body"] as body:
                return bytes(body.read())
        except exceptions.ClientError as error:
            if error.response.get("Error", {}).get("Code") in {"NoSuchKey", "404"}:
                raise FatalError(
                    f"the staged piece {key} is gone from the bucket {self.name}.",
                    code="s3_staging",
                    hint="Its events were confirmed and not written to an object yet. Restore it (a"
                    " lifecycle rule or a person has deleted it), or reset the sink's state.",
                ) from error
            raise meaning(error, self.name) from error
        except Failures as error:
            raise meaning(error, self.name) from error

    def last_piece_of(self, key: str) -> int | None:
        """Return the last piece that is in an object; None when there is no such object."""
        known = self._metadata(key)
        return None if known is None else int(known.get(_LAST, "0"))

    def _metadata(self, key: str) -> dict[str, str] | None:
        try:
            answer = self._client.head_object(Bucket=self.name, Key=key)
        except exceptions.ClientError as error:
            if error.response.get("Error", {}).get("Code") in {"NoSuchKey", "404"}:
                return None
            raise meaning(error, self.name) from error
        except Failures as error:
            raise meaning(error, self.name) from error
        return dict(answer["Metadata"])

    def listed(self, prefix: str) -> Iterator[str]:
        """Yield the keys under a prefix, sorted."""
        token: dict[str, str] = {}
        while True:
            answer = self._call("list_objects_v2", Prefix=prefix, **token)
            for entry in answer.get("Contents", ()):
                yield entry["Key"]
            if not answer.get("IsTruncated"):
                return
            token = {"ContinuationToken": answer["NextContinuationToken"]}

    def delete(self, keys: Iterable[str]) -> None:
        """Delete objects; one that is not there is no error."""
        waiting = list(keys)
        for start in range(0, len(waiting), 1000):
            chosen = [{"Key": key} for key in waiting[start : start + 1000]]
            answer = self._call("delete_objects", Delete={"Objects": chosen, "Quiet": True})
            failed = answer.get("Errors")
            if failed:
                raise _not_deleted(failed[0], self.name)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()


def _not_deleted(failed: Any, bucket: str) -> PenstockError:
    response: Any = {"Error": {"Code": failed.get("Code"), "Message": failed.get("Message")}}
    return meaning(exceptions.ClientError(response, "DeleteObjects"), bucket)
