"""A few of many, the same whatever order they come in: so a job that was killed tells what another would."""

from __future__ import annotations

from bisect import insort
from typing import Any

Json = dict[str, Any]


def keep_smallest(kept: list[Json], sample: Json, most: int) -> None:
    """Keep `sample` if its `execution` is among the `most` smallest: ids begin with the event's time."""
    if len(kept) == most and sample["execution"] >= kept[-1]["execution"]:
        return
    if any(each["execution"] == sample["execution"] for each in kept):
        return
    insort(kept, sample, key=_execution)
    del kept[most:]


def is_wanted(kept: list[Json], execution: str, most: int) -> bool:
    """Whether `keep_smallest` would keep a sample of this execution."""
    return len(kept) < most or execution < str(kept[-1]["execution"])


def _execution(sample: Json) -> str:
    return str(sample["execution"])


def shown(text: str, longest: int = 300) -> str:
    """Return a text, its middle left out where it is long."""
    if len(text) <= longest:
        return text
    return f"{text[: longest - 60]} … {text[-50:]}"
