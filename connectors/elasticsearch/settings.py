"""Configuration of `sink.elasticsearch`."""

from __future__ import annotations

from typing import Annotated, Literal

from annotated_types import Ge, Le, MinLen
from pydantic import model_validator
from typing_extensions import Self

from connectors.addresses import HttpUrl
from connectors.settings import Duration, Secret, Settings, Size, Template


class ElasticsearchSink(Settings):
    """Configuration of `sink.elasticsearch`; OpenSearch speaks the same."""

    urls: Annotated[list[HttpUrl], MinLen(1)]
    """Addresses of the cluster's nodes."""
    index: Annotated[Template, MinLen(1)]
    """Index, alias or data stream that an event goes to."""
    id: Template | None = "{{ .id }}"
    """Id of the document: one written twice is one document. `null` lets the server choose, and
    a redelivery then adds a second one."""
    operation: Literal["index", "create", "update", "upsert", "delete", "merge"] = "index"
    """What is done with each document; `create` is the one that data streams take, and leaves a
    document of that id alone; `merge` indexes, and deletes when a DELETE change arrives."""
    keep_newer: bool = False
    """Leave a document alone that is of a later event, by the events' `time`: an older event, as of
    a backfill, then changes nothing. For index, merge and delete."""
    routing: Template | None = None
    """Routing of the document."""
    format: Literal["json", "cloudevents_json"] = "json"
    """What a document holds: the data, or the CloudEvent."""
    pipeline: str | None = None
    """Ingest pipeline of the cluster to run."""
    username: str | None = None
    """User of basic authentication."""
    password: Secret | None = None
    """Password of basic authentication."""
    api_key: Secret | None = None
    """API key, base64 as the cluster gave it, instead of user and password."""
    ca_file: str | None = None
    """PEM file of the authority that signed the cluster's certificates."""
    batch_size: Annotated[int, Ge(1), Le(10000)] = 1000
    """Documents in one bulk call."""
    batch_bytes: Annotated[Size, Ge(1)] = 8_000_000
    """Bytes in one bulk call."""
    timeout: Annotated[Duration, Ge(0.1)] = 30.0
    """How long a bulk call may take."""

    @model_validator(mode="after")
    def _parts_fit(self) -> Self:
        if (self.username is None) != (self.password is None):
            raise ValueError("username and password together")
        if self.api_key is not None and self.username is not None:
            raise ValueError("either api_key, or username and password")
        if self.operation in {"update", "upsert", "delete", "merge"} and self.id is None:
            raise ValueError(f"an id, which the operation {self.operation} needs")
        if self.keep_newer and self.operation not in {"index", "merge", "delete"}:
            raise ValueError(f"no keep_newer with the operation {self.operation}")
        if self.keep_newer and self.id is None:
            raise ValueError("an id, which keep_newer needs")
        return self
