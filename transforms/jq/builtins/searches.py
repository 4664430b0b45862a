"""How long a search for a pattern may take: whether it needs a clock.

The engine's clock costs four times what a search in a short text does. Without one, a search must be
quick for every text of its length, also one made to keep it busy.
"""

from __future__ import annotations

import re

_STEPS = 200_000
"""Steps of the engine that are quick: a few milliseconds."""

_ATOMS = re.compile(r"\\.|\[(?:\\.|[^\]\\])*\]", re.DOTALL)
"""Escaped characters and classes, which have no quantifiers in them."""
_GROUP = re.compile(r"\((?:\?(?:[:=!>]|<[A-Za-z_]))?")
_UNBOUNDED = re.compile(r"\\[1-9kgRXKQ]|\(\*|\(\?(?![:=!>]|<[A-Za-z_])")
"""References, calls, conditions and what else this doesn't count."""
_NESTED = re.compile(r"\)[*+?{]|[*+?}][*{]|[*+?}][?+][*+?{]")
"""A quantifier of what may have one in it."""


def longest_quick_text(pattern: str) -> int:
    """Return how many code points a text may have so that any search in it is quick; -1 for none.

    Where no quantifier stands within another, each begins and ends in one of n places, and each
    alternative doubles the ways at most: 2^alternatives · n^(quantifiers + 1) steps.
    """
    if _UNBOUNDED.search(pattern):
        return -1
    plain = _GROUP.sub("(", _ATOMS.sub("x", pattern))
    if _NESTED.search(plain):
        return -1
    ways = plain.count("|") + plain.count("?")
    quantifiers = plain.count("*") + plain.count("+") + plain.count("{")
    if ways > 16 or quantifiers > 6:
        return -1
    return int((_STEPS / 2**ways) ** (1 / (quantifiers + 1))) - 1
