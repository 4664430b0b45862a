"""Configuration of `sink.file` and `source.file`."""

from __future__ import annotations

from typing import Annotated, Literal

from annotated_types import Ge, Le, MaxLen, MinLen
from pydantic import AfterValidator, model_validator
from typing_extensions import Self

from connectors.settings import Duration, Jq, Settings, Size, Template


def _check_path(value: str) -> str:
    if "\x00" in value or value.endswith("/") or not value.strip():
        raise ValueError('the path of a file, such as "out/{{ .type }}.jsonl"')
    return value


class FileSinkSettings(Settings):
    """Configuration of `sink.file`: JSON Lines, each event in them once, whatever crashes."""

    path: Annotated[Template, AfterValidator(_check_path)]
    """File to append to, rendered over the outgoing event; relative to the working folder. A
    rendered path can't leave the folder that the template begins with."""
    format: Literal["json", "cloudevents_json"] = "cloudevents_json"
    """What a line holds: the data, or the CloudEvent."""
    rotate: Annotated[Size, Ge(1)] | None = None
    """Once a file has passed this size it is renamed (`name.000001.jsonl`, …) and a new one
    begun. Default: files are not rotated."""
    max_open_files: Annotated[int, Ge(1), Le(4096)] = 128
    """Files held open; beyond, the one written to longest ago is closed."""
    on_missing: Literal["fail", "new_file"] = "fail"
    """What to do at a start that finds a file gone or shorter than it was when last settled:
    refuse, or go on with a new file because what is gone was moved away on purpose."""


class CsvSettings(Settings):
    """How lines are split into fields."""

    delimiter: Annotated[str, MinLen(1), MaxLen(1)] = ","
    """Character between fields."""
    quote: Annotated[str, MinLen(1), MaxLen(1)] = '"'
    """Character around a field that holds the delimiter."""
    header: bool = True
    """Whether the first line names the columns."""
    columns: list[str] | None = None
    """Names of the columns; required without a header."""

    @model_validator(mode="after")
    def _columns_are_named(self) -> Self:
        if not self.header and not self.columns:
            raise ValueError("columns, since there is no header")
        return self


class FileSourceSettings(Settings):
    """Configuration of `source.file`."""

    path: Annotated[str, AfterValidator(_check_path)]
    """File or glob pattern, such as `in/*.jsonl`; `**` crosses folders."""
    format: Literal["jsonl", "cloudevents_json", "csv", "text"] = "jsonl"
    """What a line holds: JSON, a CloudEvent, a row, or text."""
    csv: CsvSettings = CsvSettings()
    """How lines are split, for `format: csv`."""
    compression: Literal["auto", "none", "gzip", "zstd"] = "auto"
    """How files are compressed; `auto` goes by their names (.gz, .zst)."""
    encoding: str = "utf-8"
    """Character encoding of the files."""
    follow: bool = False
    """Wait for more lines and files at the end, instead of ending there."""
    start: Literal["beginning", "end"] = "beginning"
    """Where a file that is there at the first start is read from."""
    poll_interval: Annotated[Duration, Ge(0.01)] = 1.0
    """How often folders are looked at for new files and lines."""
    type: str = "file.line"
    """CloudEvents type of a line that is not a CloudEvent itself."""
    key: Jq | None = None
    """The event's partition key, over the line's data."""

    @model_validator(mode="after")
    def _parts_fit(self) -> Self:
        if self.start == "end" and not self.follow:
            raise ValueError("follow: true, without which a start at the end reads nothing")
        try:
            "".encode(self.encoding)
        except LookupError as error:
            raise ValueError("an encoding that Python knows, such as utf-8") from error
        if "\n\ra".encode(self.encoding) != b"\n\ra":
            raise ValueError("an encoding with ASCII's line feed, such as utf-8 or latin-1")
        return self
