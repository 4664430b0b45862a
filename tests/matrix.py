"""Tests of a whole matrix: each value at least once in `make test`, every combination in `make chaos`."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import Any

import pytest


def matrix(
    names: str, whole: Iterable[tuple[Any, ...]], usual: Iterable[tuple[Any, ...]], **options: Any
) -> Callable[[Any], Any]:
    """Parametrise a test by the cases of `usual`, and in `make chaos` by all of `whole`; mark it `chaos`.

        @matrix(
            "point, store",
            itertools.product(NAMES, ("state", "valkey")),
            usual=[(NAMES[0], "state"), (NAMES[1], "valkey")],
        )

    `names` and `options` (`indirect`, `ids`) are those of `pytest.mark.parametrize`. Choose for
    `usual` the combinations where the values matter to each other most.

    Raises ValueError where `usual` has a case that `whole` has not, or leaves a value of it out:
    nothing is tested in `make chaos` alone but how values go together.
    """
    every, some = list(whole), list(usual)
    for case in some:
        if case not in every:
            raise ValueError(f"{case} is not in the whole matrix of {names}")
    for name, all_values, usual_values in zip(
        names.split(","), zip(*every, strict=True), zip(*some, strict=True), strict=True
    ):
        if left_out := [value for value in all_values if value not in usual_values]:
            raise ValueError(f"no usual case has {name.strip()} = {left_out[0]!r}")
    cases = every if "PENSTOCK_CHAOS_KILLS" in os.environ else some
    parametrized = pytest.mark.parametrize(names, cases, **options)
    return lambda test: pytest.mark.chaos(parametrized(test))
