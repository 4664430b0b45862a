"""What names mean at one place of a program: variables, functions, labels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from transforms.jq.syntax import Function, Node


@dataclass(frozen=True, slots=True, eq=False)
class Scope:
    """The names that are known at one place. Never changed: `with_…` returns another."""

    variables: Mapping[str, str] = field(default_factory=dict)
    """Name → the generated code's name, or constant, for it."""
    functions: Mapping[tuple[str, int], Callee] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)

    def with_variable(self, name: str, code: str) -> Scope:
        """Return this scope with a variable in it."""
        return Scope({**self.variables, name: code}, self.functions, self.labels)

    def with_function(self, name: str, arity: int, callee: Callee) -> Scope:
        """Return this scope with a function in it."""
        return Scope(self.variables, {**self.functions, (name, arity): callee}, self.labels)

    def with_label(self, name: str, code: str) -> Scope:
        """Return this scope with a label in it."""
        return Scope(self.variables, self.functions, {**self.labels, name: code})


@dataclass(frozen=True, slots=True, eq=False)
class Definition:
    """A function and where it was defined."""

    function: Function
    holder: list[Scope]
    """The scope of its body, the function itself included: one item, put there once it is known."""
    recursive: bool

    @property
    def scope(self) -> Scope:
        """Return the scope of the body."""
        return self.holder[0]


@dataclass(frozen=True, slots=True, eq=False)
class Argument:
    """A closure: a program and the scope it was written in."""

    node: Node
    scope: Scope


@dataclass(frozen=True, slots=True, eq=False)
class Dynamic:
    """A closure that is known at run time only: Python functions for its values and its paths."""

    values: str
    paths: str


Callee = Definition | Argument | Dynamic


def define(scope: Scope, function: Function) -> tuple[Scope, Definition]:
    """Return the scope in which a function is known, and what it is there."""
    holder: list[Scope] = []
    made = Definition(function, holder, calls_itself(function))
    inner = scope.with_function(function.name, len(function.parameters), made)
    holder.append(inner)
    return inner, made


def calls_itself(function: Function) -> bool:
    """Whether the body names the function itself, with as many arguments: it may be recursive."""
    from transforms.jq.counting import names_called  # noqa: PLC0415 - they need each other

    return (function.name, len(function.parameters)) in names_called(function.body)
