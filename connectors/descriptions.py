"""What the keys of configuration models mean: the docstrings below their fields.

Read from the source when somebody asks (a schema for editors, a reference page, the error of a
missing key), and not while a flow is loaded: pydantic's own way of it doubles the time that a model
takes to be made.
"""

from __future__ import annotations

import ast
import inspect
import sys
from functools import cache

from pydantic import BaseModel
from pydantic.fields import FieldInfo


@cache
def descriptions(model: type[BaseModel]) -> dict[str, str]:
    """Return field → what it means, for every field of the model that says so."""
    found: dict[str, str] = {}
    for one in reversed(model.__mro__):
        if issubclass(one, BaseModel) and one is not BaseModel:
            node = _classes(one.__module__).get(one.__qualname__)
            if node is not None:
                found |= _docstrings(node)
    said = {name: info.description for name, info in model.model_fields.items()}
    return {name: text for name in said if (text := said[name] or found.get(name))}


def description_of(model: type[BaseModel], field: FieldInfo) -> str:
    """Return what a field of the model means, "" where nothing says so."""
    fields = model.model_fields.items()
    name = next((name for name, info in fields if info is field), "")
    return descriptions(model).get(name, "")


@cache
def _classes(module: str) -> dict[str, ast.ClassDef]:
    """Return the classes of a module by qualified name; none where its source is not at hand."""
    try:
        tree = ast.parse(inspect.getsource(sys.modules[module]))
    except (OSError, TypeError, KeyError, SyntaxError):
        return {}
    found: dict[str, ast.ClassDef] = {}
    _collect(tree, "", found)
    return found


def _collect(node: ast.AST, prefix: str, found: dict[str, ast.ClassDef]) -> None:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.ClassDef):
            found[prefix + child.name] = child
            _collect(child, f"{prefix}{child.name}.", found)
        elif isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            _collect(child, f"{prefix}{child.name}.<locals>.", found)


def _docstrings(node: ast.ClassDef) -> dict[str, str]:
    found: dict[str, str] = {}
    for field, below in zip(node.body, node.body[1:], strict=False):
        match field, below:
            case (
                ast.AnnAssign(target=ast.Name(id=name)),
                ast.Expr(value=ast.Constant(value=str(text))),
            ):
                found[name] = inspect.cleandoc(text)
    return found
