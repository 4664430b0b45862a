"""Regular expressions: `test`, `match` and what stands on them.

Patterns are Oniguruma's (see oniguruma.py), run by the `regex` package. Offsets and lengths are in code
points. Flags: g all matches, i ignore case, x extended, s `^` and `$` at the ends only (which they are
anyway), m and p a dot takes newlines too, l the longest match there is, n no empty matches.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from transforms.jq.arithmetic import add
from transforms.jq.builtins.characters import failure
from transforms.jq.builtins.contracts import Builtin
from transforms.jq.builtins.oniguruma import translate
from transforms.jq.builtins.searches import longest_quick_text
from transforms.jq.errors import JqError, TooLarge
from transforms.jq.values import kind_of, truthy, type_error

if TYPE_CHECKING:
    import regex  # type: ignore[import-untyped] # it comes without types

MATCH_SECONDS = 1.0
"""Time that one search may take. The engine runs no Python meanwhile: nothing else could stop it."""

_FLAGS = frozenset("gixmspln")
_SEARCH_FLAGS = frozenset("gs")
"""Those that leave the pattern as it is."""
_NO_FLAGS: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class _Compiled:
    pattern: regex.Pattern[str]
    groups: tuple[tuple[int, str | None], ...]
    """Number and name of each group, in order."""
    non_empty: regex.Pattern[str] | None
    """For flag n: finds what isn't empty, at a price."""
    longest: bool
    named: tuple[tuple[int, str], ...]
    """Number and name of each group that has one."""
    quick: int
    """Code points of a text up to which a search is quick whatever they are, and needs no clock."""


@lru_cache(maxsize=1024)
def _compiled(source: str, flags: frozenset[str]) -> _Compiled:
    import regex  # noqa: PLC0415 - takes as long as ten programs to compile, and few flows need it

    dot_all = bool(flags & {"m", "p"})
    shift = 1 if "n" in flags else 0
    translated = translate(source, extended="x" in flags, dot_all=dot_all, shift=shift)
    options = regex.V1
    if "i" in flags:
        options |= regex.IGNORECASE
    if "l" in flags:
        options |= regex.POSIX
    text, non_empty = translated.text, None
    try:
        if shift:
            # Group 1 remembers what remains of the text where a match begins; less must where it ends.
            non_empty = regex.compile(f"(?=((?s:.*)))(?:{text})(?!(?-i:\\1)\\Z)", options)
            text = f"()(?:{text})"
        pattern = regex.compile(text, options)
    except regex.error as error:
        raise failure(str(error)) from None
    except RecursionError:
        raise failure("parse depth limit over") from None
    names = {number: name for name, numbers in translated.names.items() for number in numbers}
    groups = tuple(
        (number + shift, names.get(number)) for number in range(1, translated.groups + 1)
    )
    named = tuple((number, name) for number, name in groups if name is not None)
    quick = -1 if flags & {"x", "n", "l"} else longest_quick_text(source)
    return _Compiled(pattern, groups, non_empty, "l" in flags, named, quick)


def match(value: Any, source: Any, flags: Any = None) -> list[dict[str, Any]]:
    """Return the match objects of a pattern in a string: the first, or all with flag g. Raises JqError."""
    compiled, every = _prepared(value, source, flags)
    return [_match_object(found, compiled.groups) for found in _found(compiled, value, every=every)]


def matches(value: Any, source: Any, flags: Any = None) -> bool:
    """Return whether a pattern is in a string. Raises JqError."""
    compiled, _ = _prepared(value, source, flags)
    try:
        return _search(compiled, value, 0) is not None
    except TimeoutError:
        raise _too_long() from None


def _prepared(value: Any, source: Any, flags: Any) -> tuple[_Compiled, bool]:
    if type(value) is not str:
        raise type_error(value, "cannot be matched, as it is not a string")
    if type(source) is not str:
        raise type_error(source, "is not a string")
    if flags is None:
        return _compiled(source, _NO_FLAGS), False
    if type(flags) is not str:
        raise type_error(flags, "is not a string")
    given = frozenset(flags)
    if not given <= _FLAGS:
        raise JqError(f"{flags} is not a valid modifier string")
    return _compiled(source, given - _SEARCH_FLAGS), "g" in given


def _found(compiled: _Compiled, text: str, *, every: bool) -> Iterable[regex.Match[str]]:
    if every:
        return _every(compiled, text)
    try:
        found = _search(compiled, text, 0)
    except TimeoutError:
        raise _too_long() from None
    return () if found is None else (found,)


def _every(compiled: _Compiled, text: str) -> Iterator[regex.Match[str]]:
    at = 0
    try:
        if compiled.non_empty is None and not compiled.longest:
            clock = None if len(text) <= compiled.quick else MATCH_SECONDS
            for found in compiled.pattern.finditer(text, timeout=clock):
                yield found
                at = found.end()
                if found.start() == at:
                    # Behind an empty match the engine would look for one that isn't, in the same place.
                    at += 1
                    break
            else:
                return
        while at <= len(text):
            found = _search(compiled, text, at)
            if found is None:
                return
            yield found
            start, end = found.span()
            # An empty match right behind another is a match of its own, as in jq.
            at = end + 1 if start == end else end
    except TimeoutError:
        raise _too_long() from None


def _too_long() -> TooLarge:
    return TooLarge(f"a search for a pattern of more than {MATCH_SECONDS:g} s")


def _search(compiled: _Compiled, text: str, at: int) -> regex.Match[str] | None:
    if len(text) <= compiled.quick:
        return compiled.pattern.search(text, at)
    found = compiled.pattern.search(text, at, timeout=MATCH_SECONDS)
    if found is None:
        return None
    if compiled.non_empty is not None and found.start() == found.end():
        return compiled.non_empty.search(text, at, timeout=MATCH_SECONDS)
    if compiled.longest:
        return max(
            compiled.pattern.finditer(text, at, overlapped=True, timeout=MATCH_SECONDS),
            key=lambda one: one.end() - one.start(),
        )
    return found


def _match_object(
    found: regex.Match[str], groups: tuple[tuple[int, str | None], ...]
) -> dict[str, Any]:
    start, end = found.span()
    return {
        "offset": start,
        "length": end - start,
        "string": found[0],
        "captures": [_capture(found, number, name, empty=start == end) for number, name in groups],
    }


def _capture(
    found: regex.Match[str], number: int, name: str | None, *, empty: bool
) -> dict[str, Any]:
    start, end = found.span(number)
    # The order of an empty one's members is jq's.
    if start < 0:
        return {"offset": -1, "string": None, "length": 0, "name": name}
    if empty:
        # Of an empty match jq shows all captures as empty and in its place, also those of a look-ahead.
        return {"offset": found.start(), "string": "", "length": 0, "name": name}
    if start == end:
        return {"offset": start, "string": "", "length": 0, "name": name}
    return {"offset": start, "length": end - start, "string": found[number], "name": name}


def _named(found: regex.Match[str], named: tuple[tuple[int, str], ...]) -> dict[str, Any]:
    start, end = found.span()
    if start == end:
        return {name: None if found.start(number) < 0 else "" for number, name in named}
    return {name: found[number] for number, name in named}


def _arguments(given: Any) -> tuple[Any, Any]:
    """Return pattern and flags of the only argument: a string, or an array of both."""
    if type(given) is str:
        return given, None
    if type(given) is list and given:
        return given[0], given[1] if len(given) > 1 else None
    raise JqError(f"{kind_of(given)} not a string or array")


def capture(value: Any, source: Any, flags: Any = None) -> list[dict[str, Any]]:
    """Return per match the object of its named groups."""
    compiled, every = _prepared(value, source, flags)
    return [_named(found, compiled.named) for found in _found(compiled, value, every=every)]


def scan(value: Any, source: Any, flags: Any = None) -> list[Any]:
    """Return all matches: their text, or the array of their groups when the pattern has some."""
    compiled, every = _prepared(value, source, add("g", flags))
    groups = compiled.groups
    return [
        [_capture(found, number, name, empty=not found[0])["string"] for number, name in groups]
        if groups
        else found[0]
        for found in _found(compiled, value, every=every)
    ]


def split(value: Any, source: Any, flags: Any = None) -> list[str]:
    """Return the text between all matches."""
    compiled, every = _prepared(value, source, add(flags, "g"))
    parts: list[str] = []
    at = 0
    for found in _found(compiled, value, every=every):
        parts.append(value[at : found.start()])
        at = max(at, found.end())
    parts.append(value[at:])
    return parts


@dataclass(frozen=True, slots=True)
class Edits:
    """Where `sub` replaces: per match the text in front of it and its named groups, and what follows."""

    gaps: list[str]
    captures: list[dict[str, Any]]
    rest: str


def edits(value: Any, source: Any, flags: Any = None) -> Edits:
    """Return what `sub(source; …; flags)` replaces. Raises JqError."""
    compiled, every = _prepared(value, source, flags)
    gaps: list[str] = []
    captures: list[dict[str, Any]] = []
    at = 0
    for found in _found(compiled, value, every=every):
        gaps.append(value[at : found.start()])
        captures.append(_named(found, compiled.named))
        at = found.end()
    return Edits(gaps, captures, value[at:])


def substituted(value: str, found: Edits, inserts: list[list[Any]]) -> list[Any]:
    """Return the outputs of `sub`: `inserts` has the replacement's outputs per match of `found`.

    The n-th output takes the n-th replacement of every match that has so many. Without any, it is the
    value itself. Raises JqError for a replacement that is no string.
    """
    texts: list[Any] = []
    for gap, outputs in zip(found.gaps, inserts, strict=True):
        for number, output in enumerate(outputs):
            text = add(gap, output)
            if number < len(texts):
                texts[number] = add(texts[number], text)
            else:
                texts.append(text)
    outputs = [add(text, found.rest) for text in texts]
    return [text for text in outputs if truthy(text)] or [value]


FUNCTIONS = {
    ("test", 1): Builtin(lambda value, given: matches(value, *_arguments(given))),
    ("test", 2): Builtin(matches),
    ("match", 1): Builtin(lambda value, given: match(value, *_arguments(given)), many=True),
    ("match", 2): Builtin(match, many=True),
    ("capture", 1): Builtin(lambda value, given: capture(value, *_arguments(given)), many=True),
    ("capture", 2): Builtin(capture, many=True),
    ("scan", 1): Builtin(scan, many=True),
    ("scan", 2): Builtin(scan, many=True),
    ("split", 2): Builtin(split),
    ("splits", 1): Builtin(split, many=True),
    ("splits", 2): Builtin(split, many=True),
}
