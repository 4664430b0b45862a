"""Strategies for jq programs and their inputs: they fill the templates of program_tables.py.

A program is made for an input of a known shape, so that most of it runs: what `.` and each
variable is, is known at each place. Now and then a value of another kind is taken.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from hypothesis import strategies as st

from tests.transforms.jq.program_tables import (
    FIELDS,
    ITEMS,
    KINDS,
    LITERALS,
    LONG,
    NUMBERS,
    TEMPLATES,
    TEXTS,
    TEXTS_OF,
    Kind,
)

_HOLE = re.compile("«([^«»]+)»")
_BAR = "¦"
_ARRAYS: dict[Kind, Kind] = {item: array for array, item in ITEMS.items() if array.endswith("s")}


@dataclass(frozen=True)
class _Scope:
    """What a place in the program sees."""

    dot: Kind
    depth: int
    """How many more levels of templates there may be."""
    variables: dict[str, Kind] = field(default_factory=dict)
    functions: tuple[str, ...] = ()
    """Without parameters, over anything."""
    closures: tuple[str, ...] = ()
    """With one parameter, over anything."""
    labels: tuple[str, ...] = ()


class _Maker:
    """Makes the text of a program, and inputs; `choose(n)` chooses one of 0 … n - 1."""

    def __init__(self, choose: Callable[[int], int]) -> None:
        self._choose = choose
        self._names = 0

    def pick(self, choices: Sequence[Any]) -> Any:
        return choices[self._choose(len(choices))]

    def luck(self, of: int) -> bool:
        """Whether a one-in-`of` chance comes."""
        return self._choose(of) == of - 1

    def value(self, kind: Kind, scope: _Scope) -> str:
        """Return an expression in parentheses, or one that needs none."""
        if self.luck(14):
            kind = self.pick(KINDS)
        how = self._choose(10)
        if scope.depth <= 0 or how == 0:
            return self.leaf(kind, scope)
        if kind != "any" and how <= 7:
            return self.filled(self.pick(TEMPLATES[kind]), kind, scope)
        return f"({self.pipe(kind, scope)})"

    def pipe(self, kind: Kind, scope: _Scope) -> str:
        """Return an expression of any precedence, which mostly gives a value of a kind."""
        naming = [self._bound, self._destructured, self._defined, self._closure, self._labelled]
        if scope.functions or scope.closures or scope.labels:
            naming.append(self._used)
        if self.luck(3):
            made: str = self.pick(naming)(kind, replace(scope, depth=scope.depth - 1))
            return made
        return self.filled(self.pick(TEMPLATES["pipe"]), kind, scope)

    def leaf(self, kind: Kind, scope: _Scope) -> str:
        bound = [name for name, of in scope.variables.items() if of == kind]
        if bound and self.luck(2):
            return f"${self.pick(bound)}"
        if scope.dot == kind and self.luck(2):
            return "."
        fields = [name for name, of in FIELDS.items() if of == kind]
        if scope.dot == "object" and fields and not self.luck(4):
            return f".{self.pick(fields)}"
        literal: str = self.pick(LITERALS[kind])
        return literal

    def stream(self, kind: Kind, scope: _Scope) -> str:
        """Return an expression, of any precedence, with any number of outputs."""
        choices = ["«R», «R»", "range(«0|1|3») | «R@number»", "limit(3; .[]? | «R@any»)", "«~R»"]
        choices += ["«S»[]"] * 4 if kind in _ARRAYS else [".[]?", "«R», «R», «R»"]
        if kind == "number":
            choices += ["range(2; 5)", "range(0; 10; 4)", ".. | numbers", "range(5; 0; -2)"]
        return self.filled(self.pick(choices), kind, scope)

    def filled(self, template: str, kind: Kind, scope: _Scope) -> str:
        """Fill the holes of a template that stands for a value of `kind`."""
        scope = replace(scope, depth=scope.depth - 1)
        names = {"R": kind, "S": kind, "I": ITEMS.get(kind, "any")}
        if kind in _ARRAYS and template == "«S»[]":
            names["S"] = _ARRAYS[kind]
        if "«K" in template or "@K" in template:
            names["K"] = self.pick(KINDS)
        while "«" in template:  # a choice may have holes of its own
            template = _HOLE.sub(lambda hole: self._hole(hole[1], names, scope), template)
        return template

    def _hole(self, hole: str, names: dict[str, Kind], scope: _Scope) -> str:
        if hole in TEXTS_OF:
            # A pattern's own bar parts no choices of the hole around it.
            return str(self.pick(TEXTS_OF[hole])).replace("|", _BAR)
        if "|" in hole:
            choices = _split(hole)
            picked = str(self.pick(choices))
            return f"«{picked}»" if set(choices) <= set(KINDS) else picked
        what, _, dot = hole.partition("@")
        if dot:
            scope = replace(scope, dot=names.get(dot, dot))
        if what == "p":
            key = f"p@{'numbers' if scope.dot in _ARRAYS.values() else scope.dot}"
            return str(self.pick(TEMPLATES.get(key, TEMPLATES["p"])))
        if what in {"path", "update"}:
            if scope.depth <= 0:
                return self._hole("p", names, scope) + (" = 1" if what == "update" else "")
            return self.filled(self.pick(TEMPLATES[what]), "any", scope)
        mark, name = (what[0], what[1:]) if what[0] in "*?~" else ("", what)
        kind: Kind = names.get(name, name)  # type: ignore[arg-type] # else it is a kind
        if mark == "?" or (mark and scope.depth <= 0):
            return self.leaf(kind, scope)
        if mark == "*":
            return self.stream(kind, scope)
        return self.pipe(kind, scope) if mark == "~" else self.value(kind, scope)

    # What names something

    def _name(self) -> str:
        self._names += 1
        return f"v{self._names}"

    def _bound(self, kind: Kind, scope: _Scope) -> str:
        name, of = self._name(), self.pick(KINDS)
        source = self.stream(of, scope) if self.luck(4) else self.value(of, scope)
        inner = replace(scope, variables={**scope.variables, name: of})
        return f"({source}) as ${name} | {self.value(kind, inner)}"

    def _destructured(self, kind: Kind, scope: _Scope) -> str:
        one, two = self._name(), self._name()
        source = self.value("object", scope)
        found: dict[str, Kind] = {one: "number", two: "any"}
        if self.luck(2):
            patterns = [
                f"{{a: ${one}, g: ${two}}}",
                f'{{"a": ${one}, e: {{a: ${two}}}}}',
                f'{{("a", "b"): ${one}, c: [${two}]}}',
                f"{{a: ${one}, $g, c: [${two}]}}",
                f"{{${one}, ${two}: [$g]}}",
            ]
        else:
            source, found = self.value("numbers", scope), {one: "number", two: "number"}
            patterns = [
                f"[${one}, ${two}]",
                f"[${one}, [${two}]]",
                f"[${one}] ?// ${two}",
                f"{{a: ${one}}} ?// [${one}, ${two}]",
                f"[[${one}]] ?// [${two}] ?// ${one}",
            ]
        inner = replace(scope, variables={**scope.variables, **found})
        return f"{source} as {self.pick(patterns)} | {self.value(kind, inner)}"

    def _defined(self, kind: Kind, scope: _Scope) -> str:
        name = self._name()
        body = self.value(self.pick(KINDS), replace(scope, dot="any"))
        inner = replace(scope, functions=(*scope.functions, name))
        return f"def {name}: {body}; {self.value(kind, inner)}"

    def _closure(self, kind: Kind, scope: _Scope) -> str:
        name, given = self._name(), self._name()
        sees = replace(scope, dot="any", functions=(*scope.functions, given))
        inner = replace(scope, closures=(*scope.closures, name))
        if self.luck(3):
            sees = replace(sees, variables={**scope.variables, given: "any"})
            body = self.value("any", sees)
            return f"def {name}(${given}): {body}; {self.value(kind, inner)}"
        bodies = [f"{given} | {given}", f"[{given}]", f"{given}, .", f"first({given})", ""]
        body = self.pick(bodies) or self.value("any", sees)
        return f"def {name}({given}): {body}; {self.value(kind, inner)}"

    def _labelled(self, kind: Kind, scope: _Scope) -> str:
        name = self._name()
        inner = replace(scope, labels=(*scope.labels, name))
        if self.luck(2):
            return f"label ${name} | {self.value(kind, inner)}"
        test = self.value("bool", replace(inner, dot=kind))
        return (
            f"label ${name} | {self.stream(kind, inner)} | if {test} then break ${name} else . end"
        )

    def _used(self, kind: Kind, scope: _Scope) -> str:
        """Use one of the names; what it gives is not known."""
        uses = [*scope.functions]
        uses += [
            f"{name}({self.value(kind, replace(scope, dot='any'))})" for name in scope.closures
        ]
        uses += [f"{self.leaf(kind, scope)}, break ${name}" for name in scope.labels]
        use: str = self.pick(uses)
        return use


def _split(hole: str) -> list[str]:
    """Split the choices of a hole; ` | ` is jq's own and parts nothing."""
    return re.split(r"(?<! )\|(?! )", hole)


_VALUES: dict[Kind, Sequence[Any]] = {
    "number": NUMBERS,
    "text": TEXTS + LONG,
    "bool": [True, False, None],
}


class _Inputs(_Maker):
    """Makes JSON values of the shape that programs are made for."""

    def input(self, kind: Kind, depth: int = 2) -> Any:
        """Return a value of a kind, now and then of another one."""
        if self.luck(10):
            kind = "any"
        if kind == "any":
            kind = self.pick(
                ["number", "text", "bool"] + ["numbers", "texts", "object"] * (depth > 0)
            )
        if kind in _VALUES:
            return self.pick(_VALUES[kind])
        if kind == "object":
            names = list(FIELDS)[: (1, 3, 8)[max(depth, 0)]]
            kept = [name for name in names if not self.luck(3)]
            return {name: self.input(FIELDS[name], depth - 1) for name in kept}
        items = self._choose(5 if depth > 0 else 2)
        return [self.input(ITEMS[kind], depth - 1) for _ in range(items)]


def make_program(choose: Callable[[int], int], dot: Kind = "object") -> str:
    """Return the text of a program over an input of a kind."""
    maker = _Maker(choose)
    scope = _Scope(dot, depth=1 + choose(5))
    if maker.luck(5):
        program = maker.filled("«update»", "any", scope)
    else:
        kind = maker.pick(KINDS)
        program = maker.stream(kind, scope) if maker.luck(8) else maker.pipe(kind, scope)
    return program.replace(_BAR, "|")


def make_case(choose: Callable[[int], int]) -> tuple[str, Any]:
    """Return a program and an input for it, most of the time an object."""
    kinds: list[Kind] = ["object"] * 6 + ["numbers", "texts", "objects", "any"]
    kind = kinds[choose(len(kinds))]
    return make_program(choose, kind), _Inputs(choose).input(kind)


def make_batch(choose: Callable[[int], int]) -> tuple[str, list[Any]]:
    """Return a program and a few inputs for it, objects as a rule."""
    return make_program(choose), [_Inputs(choose).input("object") for _ in range(1 + choose(4))]


def _at_random(seed: int) -> Callable[[int], int]:
    return random.Random(seed).randrange


@st.composite
def _drawn(draw: Callable[[st.SearchStrategy[Any]], Any]) -> Callable[[int], int]:
    return lambda choices: draw(st.integers(0, choices - 1))


_CHOICES = st.one_of(_drawn(), st.integers(0, 2**64 - 1).map(_at_random))
"""Choices that hypothesis draws can be made smaller, those of a random seed range more widely."""


def programs() -> st.SearchStrategy[str]:
    """Return the strategy of programs."""
    return _CHOICES.map(make_program)


def cases() -> st.SearchStrategy[tuple[str, Any]]:
    """Return the strategy of programs with an input each."""
    return _CHOICES.map(make_case)


def batches() -> st.SearchStrategy[tuple[str, list[Any]]]:
    """Return the strategy of programs with a few inputs each."""
    return _CHOICES.map(make_batch)
