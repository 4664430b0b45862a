"""`sink.s3` and `storage.s3`: objects of many events; modelled and validated, not built yet."""

from __future__ import annotations

from typing import Annotated, Literal

from annotated_types import Ge
from pydantic import Field

from connectors.aws import AwsSettings
from connectors.contracts import ConnectorType
from connectors.settings import Duration, Settings, Size, Template


class ObjectLimits(Settings):
    """When an object is closed and written: at whichever is reached first."""

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
    key: Template = "{{ .type }}/{{ .time }}.jsonl"
    """Key of the object that an event goes to, rendered for the object's first event; the
    object's number is added before the extension."""
    format: Literal["json", "cloudevents_json"] = "cloudevents_json"
    """What a line holds: the data, or the CloudEvent."""
    compression: Literal["none", "gzip", "zstd"] = "none"
    """How objects are compressed; `.gz` or `.zst` is added to their keys."""
    roll: ObjectLimits = ObjectLimits()
    """When an object is closed and written."""
    storage_class: str | None = None
    """Storage class of the objects; default: the bucket's."""
    encryption: Literal["none", "AES256", "aws:kms"] = "none"
    """Server-side encryption asked for."""
    kms_key_id: str | None = None
    """Key of `encryption: aws:kms`; default: the account's own for S3."""
    path_style: bool = False
    """Put the bucket into the path instead of the host name, as many S3-compatible servers need."""


SINK_S3 = ConnectorType(
    "sink.s3", S3Sink, "Write events to objects in S3.", roles=frozenset({"sink"})
)
STORAGE_S3 = ConnectorType(
    "storage.s3",
    S3Sink,
    "Write events to objects in S3 (another name of sink.s3).",
    roles=frozenset({"sink"}),
)
