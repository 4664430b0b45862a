"""`View`: the context of one execution, made root by root as an expression asks for them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from transforms.executions import Executions
from transforms.expressions.reads import Reads, part_of


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

    def parts(self, reads: Reads) -> dict[str, Any]:
        """Return as much of the context as a program reads."""
        executions, index = self._executions, self._index
        made: dict[str, Any] = {}
        for root, keys in reads.items():
            if root == "trigger" and keys is not None:
                # `reads` asks for the whole where these are not fields of the event.
                made[root] = {key: executions.trigger_field(index, key) for key in keys}
            else:
                made[root] = part_of(executions.root(index, root), keys)
        return made


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

    def parts(self, reads: Reads) -> dict[str, Any]:
        """Return as much of the context as a program reads."""
        return {root: part_of(self._context.get(root), keys) for root, keys in reads.items()}


Roots = View | Plain
