"""Compiles the expressions of a flow at load, to report a bad one with its line and column."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from pydantic import BaseModel

from connectors.settings import Expression
from flows.spec.nodes import Mapping, Scalar
from flows.spec.offsets import place_of
from flows.spec.problems import Problems
from flows.spec.secrets import passwords_in
from flows.spec.shape import marked
from transforms.expressions import ExpressionError, compile_jq, compile_template, parse_path

_COMPILERS: dict[str, Callable[[str], Any]] = {
    "jq": compile_jq,
    "template": compile_template,
    "path": parse_path,
}
_MEDIA_TYPE = re.compile(r"(application|text|image|audio|video)/[\w.+-]+(;.*)?")
_HTTP = re.compile(r"https?://")
_URL = re.compile(r"\w[\w+.-]*://\S*")
_DSN = re.compile(r"\s*(\w+\s*=\s*('(?:[^'\\]|\\.)*'|[^\s']\S*|(?=\s|$))\s*)+")
_TEMPLATE = re.compile(r"\{\{.*?\}\}", re.DOTALL)
_NOUNS = {"jq": "jq program", "template": "template", "path": "path"}


def check_expressions(model: type[BaseModel], node: Mapping, problems: Problems) -> None:
    """Compile every expression that the model marks in the tree."""
    for scalar, marks in marked(model, node):
        for mark in marks:
            if isinstance(mark, Expression) and mark.language in _COMPILERS:
                _compile(mark.language, scalar, problems)


def remember_secrets(model: type[BaseModel], node: Mapping, problems: Problems) -> None:
    """Remember every value that the model marks as a secret."""
    for scalar, marks in marked(model, node):
        if "secret" not in marks:
            continue
        if _is_address(scalar.value) or (_HTTP.match(scalar.value) and passwords_in(scalar.value)):
            continue  # its password is remembered already; the rest helps to find the server
        if _MEDIA_TYPE.fullmatch(scalar.value):
            continue  # headers may all be secrets, but this one is said in every other line
        if "{{" in scalar.value and len(_TEMPLATE.sub("", scalar.value).strip()) < len("Basic "):
            continue  # it says where the value is: what was put into it is remembered by itself
        problems.secrets.add(scalar.value)
        if not scalar.edits:
            problems.written_secrets.add(scalar.value)


def _is_address(text: str) -> bool:
    """Whether a text says where a server is; a web hook's URL is a secret as a whole.

    One with blanks where none may be is not taken for one: a piece of a password may be anywhere.
    """
    if text.startswith(("http://", "https://")):
        return False
    return text == "state" or bool(_URL.fullmatch(text) or _DSN.fullmatch(text))


def _compile(language: str, scalar: Scalar, problems: Problems) -> None:
    try:
        _COMPILERS[language](scalar.value)
    except ExpressionError as error:
        at, message = error.position, error.message.removeprefix("jq: ").rstrip(".")
        problems.add(
            scalar.place if at is None else place_of(scalar, at),
            f"this {_NOUNS[language]} can't be compiled: {message}.",
            code=error.code,
            hint=error.hint,
        )
