"""Calls in generated code.

A function is written out where it is called, its closures too; a recursive one becomes a Python
function, one per combination of closures that it is called with. Closures that change from call to
call (`def f(g): … f(g | g)`) are Python functions at run time.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import partial

from transforms.jq.builtins import FUNCTIONS
from transforms.jq.counting import MANY, ONE, Counter, body_scope, bound, names_called
from transforms.jq.emit import YIELD, Then
from transforms.jq.emit_streams import Streams
from transforms.jq.prelude import prelude
from transforms.jq.scope import Argument, Callee, Definition, Dynamic, Scope, define
from transforms.jq.shapes import MADE_BY
from transforms.jq.syntax import Call, Function, Node
from transforms.jq.writer import Writer, mark

_NESTED = 4
"""Instances of one function within each other, before its closures become Python functions."""
_WRITTEN_OUT = 40_000
"""Characters of generated code from which on functions are no longer written out."""

LAST_FIRST = {"setpath", "match", "test", "capture", "pow", "atan2", "ldexp", "scalb", "scalbln", "fma", "fmin", "fmax", "fdim", "fmod", "hypot", "copysign", "drem", "nextafter", "nexttoward", "frexp", "modf"}  # fmt: skip
"""Functions of several values whose last argument is jq's outermost loop; of all others the first is."""


@dataclass(frozen=True, slots=True)
class Frame:
    """The generated function that is being written, for calls of itself at its end."""

    key: tuple[object, ...]
    given: str
    values: tuple[str, ...]


class Calls(Streams):
    """Functions, closures and the builtins that take values only."""

    def __init__(self, writer: Writer, counter: Counter) -> None:
        super().__init__(writer, counter)
        self.frames: list[Frame | None] = []
        self.instances: dict[tuple[object, ...], tuple[str, int]] = {}
        self.going: list[int] = []
        self.kept: list[object] = []

    def defined(self, scope: Scope, function: Function) -> Scope:
        """Return the scope in which a function is known."""
        return define(scope, function)[0]

    def callee(self, node: Call, scope: Scope) -> Callee | None:
        """Return what a call means: the program's own function first, then one of the prelude."""
        own = scope.functions.get((node.name, len(node.arguments)))
        if own is not None:
            return own
        key = (node.name, len(node.arguments))
        return None if key in FUNCTIONS or self.is_native(*key) else prelude(*key)

    # --- one output ---------------------------------------------------------------------------

    def call(self, node: Call, scope: Scope, given: str) -> str:
        """Return the one output of a call."""
        callee = self.callee(node, scope)
        match callee:
            case Argument(body, inner):
                return self.value(body, inner, self.handed(body, given))
            case Definition():
                return self._call_definition(node, callee, scope, self.atom(given))
            case Dynamic():
                raise AssertionError(node)
        native = self.native_value(node, scope, given)
        if native is not None:
            return native
        return self.builtin(node, self.arguments(node, scope, given), given)

    def arguments(self, node: Call, scope: Scope, given: str) -> list[str]:
        """Return a builtin's arguments, evaluated in jq's order."""
        makers = [partial(self.value, argument, scope, given) for argument in node.arguments]
        if node.name in LAST_FIRST:
            return self.sequence(makers[::-1])[::-1]
        return self.sequence(makers)

    def builtin(self, node: Call, arguments: Sequence[str], given: str) -> str:
        """Return a call of a builtin of values."""
        name = f"call_{node.name}_{len(node.arguments)}"
        match node.name:
            case "length" if self.is_array(given):
                return f"len({given})"
            case "tostring":
                return self.as_text(node.at, given)
        made = mark(node.at, f"{name}({', '.join([given, *arguments])})")
        if node.name == "type":
            self.kinds[made] = given
        elif node.name in MADE_BY:
            self.shapes[made] = MADE_BY[node.name]
        return self.short(made)

    def _call_definition(self, node: Call, callee: Definition, scope: Scope, given: str) -> str:
        arguments = bound(node, scope)
        function = callee.function
        if self.is_inline(callee):
            values = self._closure_values(function, arguments, given)
            codes = self._codes(function, values)
            inner = body_scope(callee, arguments, codes)
            return self.value(function.body, inner, given)
        _, name, _ = self.instance(callee, arguments, "values")
        values = self._closure_values(function, arguments, given)
        return self.short(mark(node.at, self.w.call(name, given, *values)))

    def _codes(self, function: Function, values: Sequence[str]) -> dict[str, str]:
        waiting = iter(values)
        return {
            name: self.atom(next(waiting), "x") for name in function.parameters if name[0] == "$"
        }

    def _closure_values(
        self, function: Function, arguments: Sequence[Callee], given: str
    ) -> list[str]:
        """Return the values of the parameters that are values, the first one's evaluated first."""
        return self.sequence(
            [
                partial(self.value, argument.node, argument.scope, given)
                for name, argument in zip(function.parameters, arguments, strict=True)
                if name[0] == "$" and isinstance(argument, Argument)
            ]
        )

    def is_inline(self, callee: Definition) -> bool:
        """Whether a function is written out where it is called."""
        return not callee.recursive and self.w.size < _WRITTEN_OUT

    # --- many outputs -------------------------------------------------------------------------

    def calls(
        self, node: Call, scope: Scope, given: str, then: Then, *, tail: bool = False
    ) -> None:
        """Write code that runs `then` for each output of a call."""
        callee = self.callee(node, scope)
        match callee:
            case Argument(body, inner):
                self.each(body, inner, self.handed(body, given), then, tail=tail)
                return
            case Dynamic(values, _):
                self.loop(mark(node.at, f"{values}({given})"), then)
                return
            case Definition():
                self._calls_definition(node, callee, scope, given, then, tail=tail)
                return
        if self.native_each(node, scope, given, then):
            return
        if self.count(node, scope) == ONE:
            then(self.call(node, scope, given))
            return
        is_reversed = node.name in LAST_FIRST
        nodes = tuple(reversed(node.arguments)) if is_reversed else node.arguments
        many = FUNCTIONS[(node.name, len(node.arguments))].many

        def made(texts: list[str]) -> None:
            text = self.builtin(node, texts[::-1] if is_reversed else texts, given)
            if many:
                self.loop(text, then)
            else:
                then(text)

        if nodes:
            self.product(nodes, scope, given, made)
        else:
            made([])

    def _calls_definition(
        self,
        node: Call,
        callee: Definition,
        scope: Scope,
        given: str,
        then: Then,
        *,
        tail: bool,
    ) -> None:
        arguments = bound(node, scope)
        function = callee.function
        pairs = list(zip(function.parameters, arguments, strict=True))
        values = [argument for name, argument in pairs if name[0] == "$"]
        if self.is_inline(callee):

            def inline(texts: list[str]) -> None:
                inner = body_scope(callee, arguments, self._codes(function, texts))
                ends = tail and all(self._closure_count(one) == ONE for one in values)
                self.each(function.body, inner, given, then, tail=ends)

            self.values_of(values, [], given, inline)
            return
        key, name, count = self.instance(callee, arguments, "values")
        closures = self.closures(key, pairs, self.used_closures(function))

        def called(texts: list[str]) -> None:
            frame = self.frames[-1] if self.frames else None
            again = tail and frame is not None and frame.key == key and self.w.blocks == 1
            if again and not closures and frame is not None:
                names = ", ".join([frame.given, *frame.values])
                self.w.write(f"{names} = {', '.join([given, *texts])}")
                self.w.write("continue")
                return
            call = mark(node.at, self.w.call(name, given, *texts, *closures))
            if count == ONE:
                then(call)
            else:
                self.loop(call, then)

        self.values_of(values, [], given, called)

    def _closure_count(self, argument: Callee) -> int:
        if isinstance(argument, Argument):
            return self.count(argument.node, argument.scope)
        return MANY

    def values_of(
        self, closures: Sequence[Callee], texts: list[str], given: str, made: object
    ) -> None:
        """Run `made` with a value of each closure, the first one's in the outermost loop."""
        if not closures:
            made(texts)  # type: ignore[operator] # a callable over the texts
            return
        first, rest = closures[0], closures[1:]
        then = Then(lambda text: self.values_of(rest, [*texts, self.atom(text)], given, made))
        if isinstance(first, Argument):
            self.each(first.node, first.scope, given, then)
        elif isinstance(first, Dynamic):
            self.loop(f"{first.values}({given})", then)

    # --- functions of their own ---------------------------------------------------------------

    def instance(
        self, callee: Definition, arguments: tuple[Callee, ...], mode: str
    ) -> tuple[tuple[object, ...], str, int]:
        """Return key, name and count of the Python function for a function with these closures."""
        function = callee.function
        used = self.used_closures(function)
        closures = [
            argument
            for name, argument in zip(function.parameters, arguments, strict=True)
            if name in used
        ]
        key: tuple[object, ...] = (id(callee), mode, *map(self._identity, closures))
        is_dynamic = False
        if key not in self.instances and (
            any(isinstance(one, Dynamic) for one in closures)
            or self.going.count(id(function)) >= _NESTED
        ):
            key, is_dynamic = (id(callee), mode, "dynamic"), True
        found = self.instances.get(key)
        if found is not None:
            return key, *found
        self.kept.append((callee, arguments))
        self.going.append(id(function))
        start = self.w.count
        with self.w.function([], start, f"{function.name}/{len(arguments)}") as made:
            given = self.w.name()
            codes = {name: self.w.name("x") for name in function.parameters if name[0] == "$"}
            made.parameters.extend([given, *codes.values()])
            if mode == "paths":
                where = [self.w.name(letter) for letter in "pqb"]
                made.parameters.extend(where)
            inside = list(arguments)
            if is_dynamic:
                for number, name in enumerate(function.parameters):
                    if name in used:
                        inside[number] = dynamic = Dynamic(self.w.name("c"), self.w.name("d"))
                        made.parameters.extend([dynamic.values, dynamic.paths])
            count = (
                MANY if is_dynamic or mode == "paths" else self.counter.instance(callee, arguments)
            )
            self.instances[key] = (made.name, count)
            scope = body_scope(callee, tuple(inside), codes)
            self.frames.append(Frame(key, given, tuple(codes.values())))
            before = len(self.w.lines)
            with self.w.block("while True:", counts=True):
                if mode == "paths":
                    self.write_path_body(function.body, scope, given, where)
                elif count == ONE:
                    back = Then(lambda text: self.w.write(f"return {text}"), cheap=True)
                    self.each(function.body, scope, given, back, tail=True)
                else:
                    self.each(function.body, scope, given, YIELD(self), tail=True)
                    self.w.write("return")
                    self.w.write("yield")
            self.frames.pop()
            self._without_loop(before)
        self.going.pop()
        return key, made.name, count

    def _without_loop(self, before: int) -> None:
        """Drop the loop around a body that never begins again."""
        lines = self.w.lines
        if any(text == "continue" for _, text in lines[before:]):
            return
        lines[before:] = [(indent - 1, text) for indent, text in lines[before + 1 :]]

    def used_closures(self, function: Function) -> set[str]:
        """Return the parameters that the body calls: those that are values are so as a rule not."""
        called = names_called(function.body)
        return {
            name
            for name in function.parameters
            if name[0] != "$" or (name.removeprefix("$"), 0) in called
        }

    @staticmethod
    def _identity(closure: Callee) -> object:
        return id(closure)

    def closures(
        self,
        key: tuple[object, ...],
        pairs: Sequence[tuple[str, Callee]],
        used: Collection[str],
    ) -> list[str]:
        """Return the closures as Python functions, for a function that takes them so."""
        if key[-1] != "dynamic":
            return []
        made: list[str] = []
        for name, argument in pairs:
            if name not in used:
                continue
            if isinstance(argument, Dynamic):
                made.extend([argument.values, argument.paths])
            elif isinstance(argument, Argument):
                made.append(self._lambda(argument.node, argument.scope))
                made.append(self.path_lambda(argument.node, argument.scope))
        return made

    def _lambda(self, node: Node, scope: Scope) -> str:
        start = self.w.count
        with self.w.function([], start) as made:
            given = self.w.name()
            made.parameters.append(given)
            self.frames.append(None)
            self.each(node, scope, given, YIELD(self))
            self.w.write("yield from ()")
            self.frames.pop()
        argument = self.w.name("u")
        return f"(lambda {argument}: {self.w.call(made.name, argument)})"

    # --- given by other parts -----------------------------------------------------------------

    def is_native(self, name: str, arity: int) -> bool:
        """Whether a builtin has code of its own."""
        raise NotImplementedError

    def native_value(self, node: Call, scope: Scope, given: str) -> str | None:
        """Return the one output of a builtin with code of its own, None for others."""
        raise NotImplementedError

    def native_each(self, node: Call, scope: Scope, given: str, then: Then) -> bool:
        """Write a builtin with code of its own; False for others."""
        raise NotImplementedError

    def write_path_body(
        self, node: Node, scope: Scope, given: str, parameters: Sequence[str]
    ) -> None:
        """Write a function that yields values, paths and anchors."""
        raise NotImplementedError

    def path_lambda(self, node: Node, scope: Scope) -> str:
        """Return a closure of paths as a Python function."""
        raise NotImplementedError
