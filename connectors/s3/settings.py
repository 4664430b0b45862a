"""Configuration of `sink.s3`, which is `storage.s3` too."""

from __future__ import annotations

from typing import Annotated, Literal

from annotated_types import Ge
from pydantic import AfterValidator, Field

from connectors.aws import AwsSettings
from connectors.settings import Duration, Settings, Size, Template


def _check_key(value: str) -> str:
    if value.startswith("/") or value.endswith("/") or not value.strip():
        raise ValueError('the key of an object, such as "orders/{{ .type }}.jsonl"')
    return value


class ObjectLimits(Settings):
    """When an object is closed and written: at whichever is reached first, at the end of a batch."""

    events: Annotated[int, Ge(1)] = 100_000
    """Events in an object."""
    size: Annotated[Size, Ge(1)] = 64_000_000
    """Bytes in an object, before compression."""
    age: Annotated[Duration, Ge(1)] = 300.0
    """Age of an object's first event."""


class S3Sink(AwsSettings):
    """Configuration of `sink.s3`."""

    bucket: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$")]
    """Name of the bucket."""
    key: Annotated[Template, AfterValidator(_check_key)] = "{{ .type }}/events.jsonl"
    """Key of the objects that an event goes to, rendered over the outgoing event: those with the
    same key share an object. What tells objects of one key apart is added before the extension."""
    format: Literal["json", "cloudevents_json"] = "cloudevents_json"
    """What a line holds: the data, or the CloudEvent."""
    compression: Literal["none", "gzip", "zstd"] = "none"
    """How objects are compressed; `.gz` or `.zst` is added to their keys."""
    roll: ObjectLimits = ObjectLimits()
    """When an object is closed and written."""
    staging_prefix: Annotated[str, Field(pattern=r"^[^/].*[^/]$")] = "_penstock"
    """Where in the bucket events are kept until their object is written; keep it out of what is
    queried, and of lifecycle rules."""
    storage_class: str | None = None
    """Storage class of the objects; default: the bucket's."""
    encryption: Literal["none", "AES256", "aws:kms"] = "none"
    """Server-side encryption asked for."""
    kms_key_id: str | None = None
    """Key of `encryption: aws:kms`; default: the account's own for S3."""
    path_style: bool = False
    """Put the bucket into the path instead of the host name, as many S3-compatible servers need."""
    timeout: Annotated[Duration, Ge(1)] = 30.0
    """How long S3 may take to connect, and to answer."""
