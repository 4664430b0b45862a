"""The tree to Python: `value` for what has one output, `each` for anything.

`value(node, scope, given)` returns a Python expression; it may write statements before it. `each`
writes code that runs the continuation once per output, in place: `.[]` is a `for`, `empty` nothing.
Where the continuation must not stand inside what produces its values (a `try` must not catch what
happens downstream; a long continuation is not to be written twice), the producer becomes a Python
generator of its own and the continuation the body of a loop over it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from transforms.jq.counting import MANY, MAYBE, ONE, Counter
from transforms.jq.invalid import ExpressionError
from transforms.jq.scope import Scope
from transforms.jq.shapes import RESULT, Items, Keys, Shape
from transforms.jq.syntax import Call, Format, Identity, Index, Literal, Node
from transforms.jq.writer import Writer, mark, unmarked

ATOM = re.compile(r"[a-zA-Z_]\w*|\"(?:[^\"\\]|\\.)*\"|[0-9][0-9.]*")
_FIELD = re.compile(r"\((?!s[0-9])\w+\.get\(|\w+\[\"(?:[^\"\\]|\\.)*\"\]\Z")
"""A field of what has a name and does not change: read once, however often it stands there."""
_STATE = re.compile(r"\bs[0-9]")
"""A name whose value changes."""
_LONG = 1200
"""Characters of an expression, before it gets a name: Python's parser has a limit on nesting."""
_MOST_STEPS = 150_000
"""Programs and parts of them that are written out: half a second's work."""
_LARGEST = 4_000_000
"""Characters of generated code: functions that call each other twice each double it per level."""
_BLOCKS = 9
"""Loops within each other in one function; Python's limit is twenty."""
_INDENT = 30
"""Levels of indentation; Python's limit is a hundred."""


@dataclass(frozen=True, slots=True)
class Then:
    """A continuation: writes what is done with an output. `cheap` ones may be written twice."""

    run: Callable[[str], None]
    cheap: bool = False
    yields: bool = False
    """It is the whole rest of a generator: nothing that it does can raise into what comes before."""

    def __call__(self, text: str) -> None:
        """Write what is done with an output."""
        self.run(text)


def is_atom(text: str) -> bool:
    """Whether an expression is a name or a constant: free to repeat."""
    return ATOM.fullmatch(text) is not None


def can_fail(text: str) -> bool:
    """Whether an expression may raise."""
    return "\x00" in text


class Base:
    """What all parts of the emitter share."""

    def __init__(self, writer: Writer, counter: Counter) -> None:
        self.w = writer
        self.counter = counter
        self.shapes: dict[str, Shape] = {}
        """What is known of expressions, and of names that are given once."""
        self.kinds: dict[str, str] = {}
        """Expressions of `type`, and of what they are."""
        self.places: dict[tuple[str, ...], str] = {}
        """Places of the context that have a name of their own: r1, r2, …"""
        self._steps = 0
        self.careful = False
        """Whether arithmetic is left to functions, which know numbers of any size."""
        self.caught = "JqError"
        """What `try` catches: also what ends a label, in programs that break out of one themselves."""
        self.roots = False
        """Whether what is read of the input becomes parameters."""

    # --- implemented by the parts -------------------------------------------------------------

    def value(self, node: Node, scope: Scope, given: str) -> str:
        """Return the one output of a program as an expression."""
        raise NotImplementedError

    def each(self, node: Node, scope: Scope, given: str, then: Then, *, tail: bool = False) -> None:
        """Write code that runs `then` for each output."""
        raise NotImplementedError

    # --- small things -------------------------------------------------------------------------

    def count(self, node: Node, scope: Scope) -> int:
        """Return how many names there are, or outputs a program has."""
        return self.counter.of(node, scope)

    def atom(self, text: str, letter: str = "v") -> str:
        """Return a name for an expression, which is evaluated here."""
        if is_atom(text):
            return text
        is_field = _FIELD.match(text) is not None and not _STATE.search(text)
        plain = unmarked(text) if is_field else ""
        known = self.w.named.get(plain)
        if known is not None:
            return known
        name = self.w.name(letter)
        self.w.write(f"{name} = {text}")
        self.known_as(name, text)
        if is_field and ":=" not in text:
            self.w.named[plain] = name
        return name

    def known_as(self, name: str, text: str) -> None:
        """Take over for a name what is known of the expression that it stands for."""
        shape = self.shapes.get(text)
        if shape is not None:
            self.shapes[name] = shape

    def is_array(self, text: str) -> bool:
        """Whether an expression is an array for sure."""
        return isinstance(self.shapes.get(text), Items)

    def held(self, text: str) -> tuple[str, str]:
        """Return how an expression is written where it is first used, and how from then on."""
        if is_atom(text):
            return text, text
        name = self.w.name("t")
        self.known_as(name, text)
        return f"({name} := {text})", name

    def step(self) -> None:
        """Count a part that is written out. Raises ExpressionError where they are too many."""
        self._steps += 1
        if self._steps > _MOST_STEPS or self.w.size > _LARGEST:
            raise ExpressionError("the program grows too large when its functions are written out")

    def short(self, text: str) -> str:
        """Return the expression, named if it has grown long."""
        return self.atom(text) if len(text) > _LONG else text

    def sequence(self, makers: Sequence[Callable[[], str]]) -> list[str]:
        """Return expressions that are evaluated in order, whatever statements they need."""
        texts: list[str] = []
        for make in makers:
            with self.w.aside() as lines:
                text = make()
            if lines:
                texts = [self.atom(one) if can_fail(one) else one for one in texts]
                self.w.put(lines)
            texts.append(text)
        return texts

    def lift(self, node: Node, scope: Scope, given: str) -> str:
        """Return a call of a new generator of a program's outputs."""
        start = self.w.count
        with self.w.function([], start) as made:
            before = len(self.w.lines)
            self.each(node, scope, given, YIELD(self))
            if not any(text.lstrip().startswith("yield") for _, text in self.w.lines[before:]):
                self.w.write("yield from ()")
        return self.w.call(made.name)

    def loop(self, source: str, then: Then, of: Shape | None = None) -> None:
        """Write a loop over values, of each of which as much is known."""
        name = self.w.name()
        if of is not None:
            self.shapes[name] = of
        with self.w.block(f"for {name} in {source}:", counts=True):
            then(name)

    def pulled(self, node: Node, scope: Scope, given: str, then: Then) -> None:
        """Run the continuation over a generator of the outputs: it stands outside of the program."""
        self.loop(self.lift(node, scope, given), then)

    def is_deep(self) -> bool:
        """Whether another loop in this function is one too many."""
        return self.w.blocks >= _BLOCKS or self.w.indent >= _INDENT

    def branches(
        self,
        condition: str,
        first: Callable[[Then], None],
        second: Callable[[Then], None],
        then: Then,
        count: int,
    ) -> None:
        """Write an if whose branches both go on with `then`, which is written once if it is long."""
        if then.cheap:
            self._two(condition, first, second, then)
            return
        if ":=" in condition:
            condition = self.atom(condition)
        if count == MANY:
            start = self.w.count
            with self.w.function([], start) as made:
                # What the branches use of here, they get as parameters.
                self._two(condition, first, second, YIELD(self))
                self.w.write("yield from ()")
            self.loop(self.w.call(made.name), then)
            return
        name = self.w.name()
        if count == MAYBE:
            self.w.write(f"{name} = NOTHING")
        keep = Then(lambda text: self.w.write(f"{name} = {text}"), cheap=True)
        self._two(condition, first, second, keep)
        if count == MAYBE:
            with self.w.block(f"if {name} is not NOTHING:"):
                then(name)
        else:
            then(name)

    def _two(
        self,
        condition: str,
        first: Callable[[Then], None],
        second: Callable[[Then], None],
        then: Then,
    ) -> None:
        with self.w.block(f"if {condition}:"):
            first(then)
        with self.w.aside(1) as lines:
            second(then)
        if lines:
            self.w.write("else:")
            self.w.put(lines)

    # --- reading ------------------------------------------------------------------------------

    def place(self, parts: tuple[str, ...]) -> str:
        """Return the name of a place of the context."""
        name = self.places.get(parts)
        if name is None:
            name = self.places[parts] = f"r{len(self.places) + 1}"
        return name

    def read(self, at: int, base: str, key: Node) -> str | None:
        """Return `base[key]` where it is a place of the context that has its own parameter."""
        if not self.roots or not isinstance(key, Literal) or not isinstance(key.value, str):
            return None
        del at
        if base == "r0":
            return self.place((key.value,))
        if base[:1] != "r":
            return None
        parts = next((parts for parts, name in self.places.items() if name == base), None)
        if parts is None:
            return None
        match (*parts, key.value):
            case ("trigger", name) if name not in {"trigger", "steps", "meta"}:
                # Not always what the root has: a loop's item hides a field of its name there.
                return self.place(("data",) if name == "data" else ("trigger", name))
            case ("steps", _) | ("steps", _, "output") as deeper:
                return self.place(deeper)
        return None

    def indexed(self, at: int, base: str, key: str) -> str:
        """Return `base[key]`; the good case without a call."""
        if base[:1].isdigit():
            return mark(at, f"index({base}, {key})")
        shape = self.shapes.get(base)
        if key[:1] == '"':
            if isinstance(shape, Keys) and is_atom(base):
                text = f"{base}[{key}]" if key in shape.names else "None"
                if key in shape.results:
                    self.shapes[text] = RESULT
                return self.w.named.get(text, text)
            if is_atom(base):
                text = self._field(at, base, base, key)
                return self.w.named.get(unmarked(text), text)
            first, name = self.held(base)
            return self.short(self._field(at, name, first, key))
        if key.isdigit():
            first, name = self.held(base)
            is_list = f"type({first}) is list and len({name})"
            if isinstance(shape, Items):
                is_list = f"len({first})"
            return self.short(
                f"({name}[{key}] if {is_list} > {key} else {mark(at, f'index({name}, {key})')})"
            )
        call = mark(at, f"index({base}, {key})")
        if is_atom(base) and is_atom(key):
            return self.short(
                f"({base}.get({key}) if type({base}) is dict and type({key}) is str else {call})"
            )
        return self.short(call)

    @staticmethod
    def _field(at: int, name: str, first: str, key: str) -> str:
        call = mark(at, f"index({name}, {key})")
        return f"({name}.get({key}) if type({first}) is dict else {call})"

    def handed(self, node: Node, given: str) -> str:
        """Return the input of a program as it is written there: by name unless it is read just once.

        A program that may not read it at all gets a name, too: what the input raises is raised.
        """
        if isinstance(node, Literal):
            return self.atom(given) if can_fail(given) else given
        if isinstance(node, Index):
            once = isinstance(node.target, Identity) and isinstance(node.key, Literal)
        else:
            once = isinstance(node, (Identity, Format)) or (
                isinstance(node, Call) and not node.arguments
            )
        return given if once else self.atom(given)


def YIELD(emitter: Base) -> Then:  # noqa: N802 - a constant per emitter
    """Return the continuation of a generator."""
    return Then(lambda text: emitter.w.write(f"yield {text}"), cheap=True, yields=True)


__all__ = ["ATOM", "MANY", "MAYBE", "ONE", "YIELD", "Base", "Then", "can_fail", "is_atom"]
