"""Replaces `${NAME}`, `${NAME:-default}` and `${file:/path}` in a tree's texts, once.

`$${` stands for a literal `${`, and `${{ … }}` is a dollar sign before a template. A text that is
exactly one `${NAME}` stays a text. What was read is remembered as a secret where it comes from a
file, or where the variable's name or the key it fills says that it is one (see secrets.py).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from flows.spec.nodes import Edit, Node, Scalar, scalars
from flows.spec.offsets import place_of
from flows.spec.problems import Problems, close_name
from flows.spec.secrets import is_secret_key, is_secret_name

_PART = re.compile(r"\$\$\{|\$\{(?!\{)(?P<inside>[^}]*)(?P<end>\}?)")
_NAME = re.compile(r"(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?P<default>:-(.*))?", re.DOTALL)

_LITERAL = "To keep it as it stands, write $${ instead of ${."


def substitute(node: Node, environ: Mapping[str, str], problems: Problems) -> None:
    """Substitute in every text of the tree, in place; what is missing goes to `problems`."""
    seen: set[int] = set()
    for key, scalar in scalars(node):
        if id(scalar) in seen or not scalar.is_text():
            continue
        seen.add(id(scalar))
        if "${" in scalar.value:
            _substitute(scalar, key, environ, problems)
        if is_secret_key(key) and not _is_expression(scalar.value):
            problems.secrets.add(scalar.value)
            if not scalar.edits:
                problems.written_secrets.add(scalar.value)
        problems.secrets.add_address(scalar.value)


def _substitute(scalar: Scalar, key: str, environ: Mapping[str, str], problems: Problems) -> None:
    raw: str = scalar.raw
    out: list[str] = []
    edits: list[Edit] = []
    done = 0
    before = len(problems)
    for match in _PART.finditer(raw):
        out.append(raw[done : match.start()])
        done = match.end()
        made = "${" if match["inside"] is None else _value(scalar, match, environ, problems)
        if match["inside"] is not None and _is_secret(match["inside"], key, scalar.raw):
            problems.secrets.add_value(made)
        out.append(made)
        edits.append(Edit(match.start(), match.end() - match.start(), len(made)))
    out.append(raw[done:])
    scalar.value = "".join(out)
    scalar.edits = tuple(edits)
    scalar.missing = len(problems) > before


def _value(
    scalar: Scalar, match: re.Match[str], environ: Mapping[str, str], problems: Problems
) -> str:
    inside: str = match["inside"]
    place = place_of(scalar, match.start())
    width = match.end() - match.start()
    if not match["end"]:
        problems.add(
            place,
            "${ is not closed.",
            code="substitution_invalid",
            hint=f"Write ${{NAME}}. {_LITERAL}",
            width=2,
        )
        return ""
    if inside.startswith("file:"):
        return _file(scalar, inside[5:], match, problems)
    name = _NAME.fullmatch(inside)
    if name is None:
        problems.add(
            place,
            f"expected ${{NAME}}, ${{NAME:-default}} or ${{file:/path}}, found {match[0]}.",
            code="substitution_invalid",
            hint=_LITERAL,
            width=width,
        )
        return ""
    found = environ.get(name["name"])
    if name["default"] is not None and not found:
        return name["default"][2:]
    if found is None:
        close = close_name(name["name"], environ)
        hint = f"Set it, or give a default: ${{{name['name']}:-…}}. {_LITERAL}"
        problems.add(
            place,
            f"the environment variable {name['name']} is not set.",
            code="variable_missing",
            hint=f"Did you mean {close}? {hint}" if close else hint,
            width=width,
        )
        return ""
    return found


def _file(scalar: Scalar, name: str, match: re.Match[str], problems: Problems) -> str:
    """Return a file's text without the line end at its end; paths are relative to the flow file."""
    path = Path(scalar.place.file).parent / name
    try:
        text = path.read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        problems.add(
            place_of(scalar, match.start()),
            f"the file {name} can't be read: {reason}.",
            code="substitution_file",
            hint=f"Check the path and its permissions. {_LITERAL}",
            width=match.end() - match.start(),
        )
        return ""
    return text


def _is_secret(inside: str, key: str, raw: str) -> bool:
    """Whether what `${inside}` stands for is a secret; `raw` is the whole text it is a part of."""
    if inside.startswith("file:") or is_secret_name(inside.partition(":-")[0]):
        return True
    # A bare `key:` is the partition key; addresses hide their own password and nothing else.
    return key.lower() != "key" and is_secret_name(key) and not _is_expression(raw)


def _is_expression(text: str) -> bool:
    """Whether a text says where a value is (`.data.token`), rather than being one."""
    return text.startswith(".") or "{{" in text


def is_substituted(node: Node | None) -> bool:
    """Whether any of the value came from the environment or a file."""
    return isinstance(node, Scalar) and bool(node.edits)
