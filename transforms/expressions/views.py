"""`View`: the context of one execution, made root by root as an expression asks for them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from transforms.executions import Executions


class View:
    """Answers `.get(root)` as `Executions.context(index)` would, building only what is asked for."""

    __slots__ = ("_executions", "_index")

    def __init__(self, executions: Executions, index: int) -> None:
        self._executions = executions
        self._index = index

    def get(self, name: str) -> Any:
        """Return what `.<name>` is at the root; None when it is not there."""
        return self._executions.root(self._index, name)

    def whole(self) -> dict[str, Any]:
        """Return the whole context."""
        return self._executions.context(self._index)


class Plain:
    """The same over a mapping that is at hand."""

    __slots__ = ("_context",)

    def __init__(self, context: Mapping[str, Any]) -> None:
        self._context = context

    def get(self, name: str) -> Any:
        """Return what `.<name>` is at the root; None when it is not there."""
        return self._context.get(name)

    def whole(self) -> dict[str, Any]:
        """Return the whole context."""
        return dict(self._context)


Roots = View | Plain
