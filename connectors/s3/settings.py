"""Configuration of `sink.s3`, which is `storage.s3` too."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from annotated_types import Ge, MinLen
from pydantic import AfterValidator, Field, model_validator
from typing_extensions import Self

from connectors.aws import AwsSettings
from connectors.settings import Duration, Jq, Settings, Size, Template

_PLAIN_TYPES = (
    *("string", "boolean", "int32", "int64", "float32", "float64"),
    *("date", "timestamp", "json"),
)
_DECIMAL = re.compile(r"decimal\(\s*(\d{1,2})\s*,\s*(\d{1,2})\s*\)")
_LINES = (".jsonl", ".ndjson", ".json", ".csv", ".txt")


def _check_key(value: str) -> str:
    if value.startswith("/") or value.endswith("/") or not value.strip():
        raise ValueError('the key of an object, such as "orders/{{ .type }}.jsonl"')
    return value


def decimal_digits(kind: str) -> tuple[int, int] | None:
    """Return precision and scale of `decimal(12, 2)`; None for another type."""
    found = _DECIMAL.fullmatch(kind)
    return None if found is None else (int(found[1]), int(found[2]))


def _check_type(value: str) -> str:
    if value in _PLAIN_TYPES:
        return value
    digits = decimal_digits(value)
    if digits is None or not (1 <= digits[0] <= 38 and digits[1] <= digits[0]):
        raise ValueError(
            f"one of {', '.join(_PLAIN_TYPES)}, or decimal(precision, scale) with up to 38 digits"
        )
    return value


ColumnType = Annotated[str, AfterValidator(_check_type)]
"""A type of a Parquet column."""


class ParquetColumn(Settings):
    """A column, where its type does not say all."""

    type: ColumnType
    """`string`, `boolean`, `int32`, `int64`, `float32`, `float64`, `decimal(12, 2)`, `date`, `timestamp`
    (microseconds, UTC), or `json`: any value, as its JSON text."""
    value: Jq | None = None
    """jq over the outgoing event's attributes and `data`; default: the field of the data that is
    named like the column."""
    required: bool = False
    """Fail an event that has no value for it; readers then find a column without nulls."""


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
    key: Annotated[Template, AfterValidator(_check_key)] | None = None
    """Key of the objects that an event goes to, rendered over the outgoing event: those with the
    same key share an object. What tells objects of one key apart is added before the extension.
    Default: `{{ .type }}/events.jsonl`, or `.parquet`."""
    format: Literal["json", "cloudevents_json", "parquet"] = "cloudevents_json"
    """What an object is: lines that hold the data, or the CloudEvent; or a Parquet file."""
    columns: (
        Annotated[dict[Annotated[str, MinLen(1)], ColumnType | ParquetColumn], MinLen(1)] | None
    ) = None
    """Columns of a Parquet file: name → type, or type and where the value is; default: one for each
    CloudEvents attribute, one for extensions, and the data as JSON text."""
    compression: Literal["none", "gzip", "zstd", "snappy"] | None = None
    """How objects are compressed. Of lines the whole object (`none` is the default), and `.gz` or
    `.zst` is added to its key; in Parquet the columns, `snappy` being the default."""
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

    @model_validator(mode="after")
    def _parts_fit(self) -> Self:
        if self.format == "parquet":
            if self.key is not None and self.key.endswith(_LINES):
                raise ValueError("a key that ends in .parquet with format parquet")
            return self
        if self.columns is not None:
            raise ValueError(f"no columns with format {self.format}: Parquet has such")
        if self.compression == "snappy":
            raise ValueError(f"compression gzip, zstd or none with format {self.format}")
        return self

    @property
    def object_key(self) -> str:
        """Return `key`, or its default."""
        ending = "parquet" if self.format == "parquet" else "jsonl"
        return self.key or "{{ .type }}/events." + ending
