"""Finds `module:function` for python steps: beside the flow file first, then as Python does."""

from __future__ import annotations

import importlib
import inspect
import sys
import traceback
from collections.abc import Callable
from importlib.machinery import PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

from connectors.errors import FlowFileError

_loaded: dict[str, Path] = {}
"""Top-level modules that were found beside a flow file → its folder."""


def find_function(name: str, folder: Path) -> Callable[[Any], Any]:
    """Return the function `module:function`. Raises FlowFileError saying what is wrong."""
    module_name, _, attribute = name.partition(":")
    module = _import(module_name, folder.resolve())
    found: Any = module
    for part in attribute.split("."):
        found = getattr(found, part, None)
    if found is None:
        raise FlowFileError(
            f"{module_name} has no function {attribute}.",
            code="python_function_missing",
            hint=f"It was imported from {getattr(module, '__file__', None) or 'memory'}.",
        )
    if not callable(found):
        raise FlowFileError(
            f"{name} is not a function but of type {type(found).__name__}.",
            code="python_function_missing",
            hint="Name a function that takes one value and returns one.",
        )
    if inspect.iscoroutinefunction(found) or inspect.isgeneratorfunction(found):
        raise FlowFileError(
            f"{name} is an async function or a generator.",
            code="python_function_missing",
            hint="Name a plain function that takes one value and returns one.",
        )
    if not _takes_one(found):
        raise FlowFileError(
            f"{name} can't be called with one value: it takes {inspect.signature(found)}.",
            code="python_function_missing",
            hint="Name a function that takes one value (with `batch: true` a list) and returns one.",
        )
    function: Callable[[Any], Any] = found
    return function


def _takes_one(function: Any) -> bool:
    """Whether it can be called with one argument; True where Python can't tell."""
    try:
        inspect.signature(function).bind(None)
    except TypeError:
        return False
    except ValueError:  # a built-in without a signature
        return True
    return True


def _import(name: str, folder: Path) -> ModuleType:
    top = name.partition(".")[0]
    importlib.invalidate_caches()
    spec = PathFinder.find_spec(top, [str(folder)])
    if spec is not None and spec.origin is not None:
        _make_way(top, folder, spec.origin)
        _loaded[top] = folder
    # As for a script: what the module itself imports may stand beside the flow file as well.
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise _broken(name, error) from error
        raise FlowFileError(
            f"there is no Python module {name}.",
            code="python_module_missing",
            hint=f"It was looked for in {folder} and among the installed packages.",
        ) from error
    except (Exception, SystemExit) as error:
        raise _broken(name, error) from error


def _make_way(top: str, folder: Path, origin: str) -> None:
    """Forget a module of that name from another flow's folder; refuse to hide any other."""
    present = sys.modules.get(top)
    if present is None or getattr(present, "__file__", None) == origin:
        return
    if _loaded.get(top, folder) == folder:
        raise FlowFileError(
            f"{origin} can't be imported as {top}: that name is taken by "
            f"{getattr(present, '__file__', None) or 'a module of Python itself'}.",
            code="python_module_name",
            hint="Rename the file.",
        )
    for name in [n for n in sys.modules if n == top or n.startswith(f"{top}.")]:
        del sys.modules[name]
    if str(folder) in sys.path:
        sys.path.remove(str(folder))


def _broken(name: str, error: BaseException) -> FlowFileError:
    frames = [f for f in traceback.extract_tb(error.__traceback__) if "importlib" not in f.filename]
    place = f"{frames[-1].filename}:{frames[-1].lineno}" if len(frames) > 1 else ""
    if isinstance(error, SyntaxError):
        place = f"{error.filename}:{error.lineno}"
    where = f" ({place})" if place else ""
    return FlowFileError(
        f"the Python module {name} can't be imported: {type(error).__name__}: {error}{where}.",
        code="python_module_broken",
        hint="Try it with `python -c 'import …'` in the flow file's folder.",
    )
