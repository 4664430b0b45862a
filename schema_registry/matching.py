"""Pairs up as many as possible of two groups."""

from __future__ import annotations

from collections.abc import Collection, Mapping


def most_pairs(fitting: Mapping[int, Collection[int]]) -> dict[int, int]:
    """Return row → column, each once, with as many pairs as there can be.

    `fitting`: row → columns that it fits. Augmenting paths, without recursion.
    """
    row_of: dict[int, int] = {}
    for start in fitting:
        reached_from: dict[int, int] = {}
        """Column → the row that it was reached from."""
        waiting, end = [start], None
        while waiting and end is None:
            row = waiting.pop(0)
            for column in fitting[row]:
                if column in reached_from:
                    continue
                reached_from[column] = row
                if column not in row_of:
                    end = column
                    break
                waiting.append(row_of[column])
        while end is not None:
            row = reached_from[end]
            before = next((c for c, r in row_of.items() if r == row), None)
            row_of[end] = row
            if before is not None and before != end:
                del row_of[before]
            end = before if row != start else None
    return {row: column for column, row in row_of.items()}
