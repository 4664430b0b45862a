"""Finds every error code in the source: where an error is made, its words stand beside it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from pathlib import Path

PACKAGES = ("connectors", "schema_registry", "transforms", "flows", "dlq", "backfill", "penstock")
_SLUG = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)+")

KINDS = {
    "FlowFileError": "usage",
    "RegistryError": "usage",
    "RetryableError": "retryable",
    "HeldError": "retryable",
    "PermanentError": "permanent",
    "FatalError": "fatal",
    "ApiError": "request",
    "RefusedError": "request",
    "ExpressionError": "flow file",
    "Problem": "flow file",
    "add": "flow file",
    "make": "flow file",
}
"""Who makes an error → what kind it is."""

MEANINGS = {
    "flow file": "the flow file is wrong; it does not load",
    "usage": "the command line or what it names is wrong",
    "retryable": "may pass by itself; publish steps try again, other steps make a dead letter",
    "permanent": "this event will never pass; it becomes a dead letter",
    "request": "a call of the HTTP API is wrong, or can't be answered now",
    "fatal": "nothing can pass until somebody acts; the worker stops",
}


@dataclass(slots=True)
class ErrorCode:
    """One code, with all that is said under it."""

    code: str
    kinds: dict[str, None] = field(default_factory=dict)
    messages: dict[str, None] = field(default_factory=dict)
    hints: dict[str, None] = field(default_factory=dict)


@cache
def error_codes() -> tuple[ErrorCode, ...]:
    """Return the codes of the whole project, sorted."""
    found: dict[str, ErrorCode] = {}
    for path in _sources():
        tree = ast.parse(path.read_text(encoding="utf-8"))
        usual = "flow file" if path.parent.name == "spec" else ""
        for code, kind, message, hint in [*_calls(tree, usual), *_tables(tree)]:
            entry = found.setdefault(code, ErrorCode(code))
            for value, values in (
                (kind, entry.kinds),
                (message, entry.messages),
                (hint, entry.hints),
            ):
                if value:
                    values[value] = None
    return tuple(found[code] for code in sorted(found))


def _sources() -> list[Path]:
    folders = [Path(str(import_module(name).__file__)).parent for name in PACKAGES]
    return sorted(path for folder in folders for path in folder.rglob("*.py"))


_Found = tuple[str, str, str, str]
"""Code, kind, message, hint."""


def _calls(tree: ast.Module, usual_kind: str) -> Iterator[_Found]:
    """Yield each call with `code="…"`."""
    helpers = dict(_helpers(tree, usual_kind))
    for scope, own in _scopes(tree):
        texts: dict[str, str] = {}
        for node in _within(scope):
            match node:
                case ast.Assign(targets=[ast.Name(id=name)], value=value):
                    texts[name] = _text(value)
                case ast.Call(keywords=keywords):
                    named = {keyword.arg: keyword.value for keyword in keywords}
                    code = _text(named["code"]) if "code" in named else ""
                    if code:
                        found = _error(code, node, named, texts, usual_kind)
                        if own is not None and _maker(node) == "__init__":
                            found = _of_class(found, own)
                        yield _filled(found, helpers.get(_maker(node)))


def _scopes(tree: ast.Module) -> Iterator[tuple[ast.AST, ast.ClassDef | None]]:
    """Yield the module and each function; with the class whose `__init__` it is."""
    yield tree, None
    makers = {
        function: node
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
        for function in node.body
        if isinstance(function, ast.FunctionDef) and function.name == "__init__"
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            yield node, makers.get(node)


def _helpers(tree: ast.Module, usual_kind: str) -> Iterator[tuple[str, _Found]]:
    """Yield functions that make errors of a code they are given, with what these say."""
    for function in ast.walk(tree):
        if not isinstance(function, ast.FunctionDef):
            continue
        for node in _within(function):
            if isinstance(node, ast.Call) and _takes_code_from_a_name(node):
                named = {keyword.arg: keyword.value for keyword in node.keywords}
                yield function.name, _error("", node, named, {}, usual_kind)


def _filled(found: _Found, helper: _Found | None) -> _Found:
    """Take from a helper what is not said where it is called."""
    if helper is None:
        return found
    code, kind, message, hint = found
    return code, helper[1] or kind, message or helper[2], hint or helper[3]


def _of_class(found: _Found, own: ast.ClassDef) -> _Found:
    """Fill in, for a class of errors with a code of its own, what its text says of it."""
    code, kind, message, hint = found
    bases = [KINDS[name] for base in own.bases if (name := _name(base)) in KINDS]
    about = (ast.get_docstring(own) or "").partition("\n")[0]
    return code, kind or "".join(bases[:1]), message or about, hint


def _within(scope: ast.AST) -> Iterator[ast.AST]:
    """Yield the nodes in the order of the text, those of inner functions left out."""
    for child in ast.iter_child_nodes(scope):
        if not isinstance(child, ast.FunctionDef):
            yield child
            yield from _within(child)


def _error(
    code: str,
    call: ast.Call,
    named: dict[str | None, ast.expr],
    texts: dict[str, str],
    usual_kind: str,
) -> _Found:
    def read(node: ast.expr) -> str:
        return texts.get(node.id, "") if isinstance(node, ast.Name) else _text(node)

    candidates = [named["message"]] if "message" in named else call.args
    message = next((text for node in candidates if " " in (text := read(node))), "")
    hint = read(named["hint"]) if "hint" in named else ""
    return code, KINDS.get(_maker(call), usual_kind), message, hint if " " in hint else ""


def _tables(tree: ast.Module) -> Iterator[_Found]:
    """Yield the codes of tables of errors: tuples that hold a code and, behind it, sentences."""
    if not any(_takes_code_from_a_name(node) for node in ast.walk(tree)):
        return
    for statement in tree.body:
        if not isinstance(statement, ast.Assign | ast.AnnAssign) or statement.value is None:
            continue
        for node in ast.walk(statement.value):
            if isinstance(node, ast.Tuple):
                texts = [_text(element) for element in node.elts]
                code = next((text for text in texts if _SLUG.fullmatch(text)), None)
                if code is not None:
                    sentences = [text for text in texts if " " in text and text.endswith(".")]
                    yield code, "fatal", "", "".join(sentences[-1:])


def _takes_code_from_a_name(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and any(
        keyword.arg == "code" and isinstance(keyword.value, ast.Name) for keyword in node.keywords
    )


def _text(node: ast.expr) -> str:
    """Return a string as it reads, with <name> for what is put in; "" for what is no string."""
    match node:
        case ast.Constant(value=str(text)):
            return text
        case ast.JoinedStr(values=parts):
            return "".join(_text(part) for part in parts)
        case ast.FormattedValue(value=value):
            return _placeholder(value)
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return _text(left) + _text(right)
    return ""


def _placeholder(value: ast.expr) -> str:
    """Return what stands for a value: the last name of a plain expression, else …."""
    match value:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return f"<{name.strip('_')}>"
        case ast.Call(args=[ast.Name(id=name)]):
            return f"<{name.strip('_')}>"
    return "…"


def _maker(call: ast.Call) -> str:
    return call.func.attr if isinstance(call.func, ast.Attribute) else _name(call.func)


def _name(node: ast.expr) -> str:
    return node.id if isinstance(node, ast.Name) else ""
