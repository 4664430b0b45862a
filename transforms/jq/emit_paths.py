"""`paths`: the outputs of a program together with where in its input they stand.

As in jq, a path is carried along while a program runs: `.a` and `.[]` lengthen it, other programs
leave it alone, and whoever lengthens or delivers it checks that the value at hand is the very one
that stands there (`anchor`); else the expression is no path.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from transforms.jq.counting import MANY, ONE, body_scope, bound
from transforms.jq.emit import Then, is_atom
from transforms.jq.emit_calls import Calls, Frame
from transforms.jq.emit_streams import flat
from transforms.jq.prelude import path_prelude
from transforms.jq.scope import Argument, Callee, Definition, Dynamic, Scope
from transforms.jq.syntax import (
    Alternative,
    Array,
    Binary,
    Bind,
    Break,
    Call,
    Comma,
    Define,
    Foreach,
    Format,
    Identity,
    If,
    Index,
    Iterate,
    Label,
    Literal,
    Logic,
    Negate,
    Node,
    Object,
    Pipe,
    Reduce,
    Slice,
    Text,
    Try,
)
from transforms.jq.writer import mark

_STAGES = 5
"""Stages of a pipe that become loops in one function."""

_FRESH = (Literal, Text, Format, Binary, Logic, Negate, Array, Object)
"""Programs that make a value of their own, which stands nowhere in the input."""


@dataclass(frozen=True, slots=True)
class Where:
    """A value and its path: `base` is a list at run time, `keys` come after it."""

    value: str
    base: str | None = None
    keys: tuple[str, ...] = ()
    anchor: str | None = None
    """What stands at the path, where that may be something else than the value."""
    fresh: str = "False"
    """Whether the value was made, so that it stands nowhere, however equal it is: an expression."""

    def path(self) -> str:
        """Return the path as an expression."""
        if self.base is None:
            return f"[{', '.join(self.keys)}]"
        return f"[*{self.base}, {', '.join(self.keys)}]" if self.keys else self.base

    def at(self, key: str, value: str) -> Where:
        """Return the place of `value`, one key further in."""
        return Where(value, self.base, (*self.keys, key))

    def instead(self, value: str, *, fresh: bool) -> Where:
        """Return the same path with another value at hand."""
        return Where(value, self.base, self.keys, self.anchor or self.value, str(fresh))

    def near(self) -> str:
        """Return what the value must be identical to, to stand at the path."""
        anchor = self.anchor or self.value
        if self.fresh == "False":
            return anchor
        return f"unless_fresh({self.value}, {anchor}, {self.fresh})"

    def shown(self) -> list[str]:
        """Return what a generator yields for it and a function takes."""
        return [self.value, self.path(), self.anchor or self.value, self.fresh]


@dataclass(frozen=True, slots=True)
class Placed:
    """A continuation over values with their paths."""

    run: Callable[[Where], None]
    cheap: bool = False
    yields: bool = False

    def __call__(self, where: Where) -> None:
        """Write what is done with an output."""
        self.run(where)


class Paths(Calls):
    """Programs as path expressions."""

    def paths(self, node: Node, scope: Scope, here: Where, then: Placed) -> None:
        """Write code that runs `then` for each output of a program and its path."""
        self.step()
        if self.is_deep() and isinstance(node, (Pipe, Comma, Iterate, Bind, Alternative, If)):
            self._pulled(node, scope, here, then)
            return
        match node:
            case Identity():
                then(here)
            case Iterate(_, Iterate() | Index()) | Index(_, Iterate() | Index(), Literal()):
                self._path_pipe(flat([node]), scope, here, then)
            case Index():
                self._path_index(node, scope, here, then)
            case Slice():
                self._path_slice(node, scope, here, then)
            case Iterate(at, target, optional):
                self.paths(
                    target, scope, here, Placed(lambda one: self._over(at, one, then, optional))
                )
            case Pipe(_, parts):
                self._path_pipe(flat(parts), scope, here, then)
            case Comma(_, parts):
                if then.cheap:
                    for part in parts:
                        self.paths(part, scope, here, then)
                else:
                    self._pulled(node, scope, here, then)
            case If():
                self._path_if(node, scope, here, then)
            case Alternative():
                self._path_alternative(node, scope, here, then)
            case Try():
                self._path_try(node, scope, here, then)
            case Bind():
                self.each(
                    node.source,
                    scope,
                    here.value,
                    Then(
                        lambda text: self.bindings(
                            node.patterns,
                            text,
                            scope,
                            lambda inner: self.paths(node.body, inner, here, then),
                        )
                    ),
                )
            case Reduce() | Foreach():
                self._path_fold(node, scope, here, then)
            case Label(_, name, body):
                self._label(name, lambda inner: self.paths(body, inner, here, then), scope)
            case Break(_, name):
                self.w.write(f"raise {scope.labels[name]}")
            case Define(_, function, body):
                self.paths(body, self.defined(scope, function), here, then)
            case Call():
                self._path_call(node, scope, here, then)
            case _:
                self.elsewhere(node, scope, here, then)

    def elsewhere(self, node: Node, scope: Scope, here: Where, then: Placed) -> None:
        """Go on with a program's outputs, whose path is not known, at the path that was."""
        fresh = isinstance(node, _FRESH)
        self.each(
            node,
            scope,
            here.value,
            Then(lambda text: then(here.instead(self.atom(text), fresh=fresh)), cheap=then.cheap),
        )

    # --- generators ---------------------------------------------------------------------------

    def yielding(self) -> Placed:
        """Return the continuation of a generator of values, paths and anchors."""
        return Placed(
            lambda one: self.w.write(f"yield {', '.join(one.shown())}"),
            cheap=True,
            yields=True,
        )

    def _pulled(self, node: Node, scope: Scope, here: Where, then: Placed) -> None:
        start = self.w.count
        with self.w.function([], start) as made:
            self.frames.append(None)
            self.paths(node, scope, here, self.yielding())
            self.w.write("yield from ()")
            self.frames.pop()
        self.path_loop(self.w.call(made.name), then)

    def path_loop(self, source: str, then: Placed) -> None:
        """Write a loop over a generator of values, paths and anchors."""
        value, path, anchor, fresh = (self.w.name(letter) for letter in "vpqb")
        with self.w.block(f"for {value}, {path}, {anchor}, {fresh} in {source}:", counts=True):
            then(Where(value, path, (), anchor, fresh))

    def write_path_body(
        self, node: Node, scope: Scope, given: str, parameters: Sequence[str]
    ) -> None:
        """Write a function that yields values, paths and anchors."""
        place, anchor, fresh = parameters
        self.paths(node, scope, Where(given, place, (), anchor, fresh), self.yielding())
        self.w.write("return")
        self.w.write("yield")

    def path_lambda(self, node: Node, scope: Scope) -> str:
        """Return a closure of paths as a Python function."""
        start = self.w.count
        with self.w.function([], start) as made:
            given, place, anchor, fresh = (self.w.name(letter) for letter in "vpqb")
            made.parameters.extend([given, place, anchor, fresh])
            self.frames.append(None)
            self.paths(node, scope, Where(given, place, (), anchor, fresh), self.yielding())
            self.w.write("yield from ()")
            self.frames.pop()
        names = [self.w.name("u") for _ in range(4)]
        return f"(lambda {', '.join(names)}: {self.w.call(made.name, *names)})"

    # --- steps --------------------------------------------------------------------------------

    def _checked(self, at: int, one: Where, key: str) -> None:
        if one.anchor is not None:
            self.w.write(mark(at, f"check_access({one.value}, {one.near()}, {key})"))

    def _path_index(self, node: Index, scope: Scope, here: Where, then: Placed) -> None:
        at, target, key, optional = node.at, node.target, node.key, node.optional

        def keyed(index: str) -> None:
            index = self.atom(index)
            self.paths(target, scope, here, Placed(lambda one: step(one, index)))

        def step(one: Where, index: str) -> None:
            self._checked(at, one, index)
            if not optional:
                found = self.read(at, one.value, key)
                then(one.at(index, found or self.atom(self.indexed(at, one.value, index))))
                return
            name = self.w.name()
            self._passed_over(name, f"index({one.value}, {index})")
            with self.w.block(f"if {name} is not NOTHING:"):
                then(one.at(index, name))

        if isinstance(key, Literal):
            keyed(self.literal(key.value))
        else:
            self.each(key, scope, here.value, Then(keyed))

    def _passed_over(self, name: str, call: str) -> None:
        with self.w.block("try:", counts=True):
            self.w.write(f"{name} = {call}")
        with self.w.block("except JqError:", counts=True):
            self.w.write(f"{name} = NOTHING")

    def _path_slice(self, node: Slice, scope: Scope, here: Where, then: Placed) -> None:
        ends: list[Node] = [
            Literal(node.at, None) if end is None else end for end in (node.start, node.stop)
        ]

        def ended(texts: list[str]) -> None:
            start, stop = (self.atom(text) for text in texts)
            key = f'{{"start": {start}, "end": {stop}}}'

            def step(one: Where) -> None:
                self._checked(node.at, one, key)
                name = self.w.name()
                call = f"slice_of({one.value}, {start}, {stop})"
                if node.optional:
                    self._passed_over(name, call)
                    with self.w.block(f"if {name} is not NOTHING:"):
                        then(one.at(key, name))
                else:
                    self.w.write(f"{name} = {mark(node.at, call)}")
                    then(one.at(key, name))

            self.paths(node.target, scope, here, Placed(step))

        self.product(ends, scope, here.value, ended)

    def _over(self, at: int, one: Where, then: Placed, optional: bool) -> None:
        if one.anchor is not None:
            self.w.write(mark(at, f"check_iterate({one.value}, {one.near()})"))
        key, value = self.w.name("k"), self.w.name()
        call = (
            f"paths_or_nothing({one.value})"
            if optional
            else mark(at, f"iterate_paths({one.value})")
        )
        with self.w.block(f"for {key}, {value} in {call}:", counts=True):
            then(one.at(key, value))

    def _path_pipe(self, parts: Sequence[Node], scope: Scope, here: Where, then: Placed) -> None:
        loops = [number for number, part in enumerate(parts) if not isinstance(part, Index)]
        if len(loops) > _STAGES:
            cut = loops[-_STAGES]
            before = Pipe(parts[0].at, tuple(parts[:cut]))
            self._pulled(
                before,
                scope,
                here,
                Placed(lambda one: self._path_stage(parts, cut, scope, one, then)),
            )
            return
        self._path_stage(parts, 0, scope, here, then)

    def _path_stage(
        self, parts: Sequence[Node], at: int, scope: Scope, here: Where, then: Placed
    ) -> None:
        if at == len(parts) - 1:
            self.paths(parts[at], scope, here, then)
            return
        following = Placed(lambda one: self._path_stage(parts, at + 1, scope, one, then))
        self.paths(parts[at], scope, here, following)

    # --- control ------------------------------------------------------------------------------

    def _path_if(self, node: If, scope: Scope, here: Where, then: Placed) -> None:
        if not then.cheap and not (
            isinstance(node.otherwise, Call) and node.otherwise.name == "empty"
        ):
            self._pulled(node, scope, here, then)
            return

        def branch(text: str) -> None:
            test = self._as_boolean(node.condition, scope, text)
            with self.w.block(f"if {test}:"):
                self.paths(node.then, scope, here, then)
            with self.w.aside(1) as lines:
                if node.otherwise is None:
                    then(here)
                else:
                    self.paths(node.otherwise, scope, here, then)
            if lines:
                self.w.write("else:")
                self.w.put(lines)

        self.each(node.condition, scope, here.value, Then(branch))

    def _path_alternative(self, node: Alternative, scope: Scope, here: Where, then: Placed) -> None:
        if not then.cheap:
            self._pulled(node, scope, here, then)
            return
        found = self.w.name("b")
        self.w.write(f"{found} = False")

        def keep_true(one: Where) -> None:
            with self.w.block(f"if {self.truth_of(one.value)}:"):
                self.w.write(f"{found} = True")
                then(one)

        self.paths(node.left, scope, here, Placed(keep_true))
        with self.w.block(f"if not {found}:"):
            self.paths(node.right, scope, here, then)

    def _path_try(self, node: Try, scope: Scope, here: Where, then: Placed) -> None:
        if not then.yields:
            self._pulled(node, scope, here, then)
            return
        error = self.w.name("e")
        with self.w.block("try:", counts=True):
            self.paths(node.body, scope, here, then)
        with self.w.block(f"except {self.caught} as {error}:", counts=True):
            if node.handler is not None:
                caught = self.atom(f"caught({error})")
                self.paths(node.handler, scope, here.instead(caught, fresh=False), then)

    def _path_fold(self, node: Reduce | Foreach, scope: Scope, here: Where, then: Placed) -> None:
        def started(initial: Where) -> None:
            state, before = self.w.name("s"), self.w.name()
            self.w.write(f"{state} = {initial.value}")

            def sourced(one: Where) -> None:
                def step(inner: Scope) -> None:
                    self.w.write(f"{before} = {state}")
                    self.w.write(f"{state} = None")
                    self.paths(
                        node.update, inner, one.instead(before, fresh=False), Placed(updated)
                    )

                def updated(new: Where) -> None:
                    self.w.write(f"{state} = {new.value}")
                    if isinstance(node, Reduce):
                        return
                    if node.extract is None:
                        then(new)
                    else:
                        self.paths(node.extract, bound_scope[-1], new, then)

                bound_scope: list[Scope] = []

                def with_scope(inner: Scope) -> None:
                    bound_scope.append(inner)
                    step(inner)

                self.bindings(node.patterns, one.value, scope, with_scope)

            self.paths(
                node.source, scope, initial.instead(here.value, fresh=False), Placed(sourced)
            )
            if isinstance(node, Reduce):
                then(initial.instead(state, fresh=False))

        self.paths(node.initial, scope, here, Placed(started))

    # --- calls --------------------------------------------------------------------------------

    def _path_call(self, node: Call, scope: Scope, here: Where, then: Placed) -> None:
        key = (node.name, len(node.arguments))
        callee: Callee | None = scope.functions.get(key)
        if callee is None:
            if self.native_paths(node, scope, here, then):
                return
            callee = path_prelude(*key)
        match callee:
            case Argument(body, inner):
                self.paths(body, inner, here, then)
            case Dynamic(_, paths):
                arguments = ", ".join(here.shown())
                self.path_loop(mark(node.at, f"{paths}({arguments})"), then)
            case Definition():
                self._path_definition(node, callee, scope, here, then)
            case None:
                self.elsewhere(node, scope, here, then)

    def _path_definition(
        self, node: Call, callee: Definition, scope: Scope, here: Where, then: Placed
    ) -> None:
        arguments = bound(node, scope)
        function = callee.function
        pairs = list(zip(function.parameters, arguments, strict=True))
        values = [argument for name, argument in pairs if name[0] == "$"]
        if self.is_inline(callee):

            def inline(texts: list[str]) -> None:
                inner = body_scope(callee, arguments, self._codes(function, texts))
                self.paths(function.body, inner, here, then)

            self.values_of(values, [], here.value, inline)
            return
        key, name, _ = self.instance(callee, arguments, "paths")
        closures = self.closures(key, pairs, self.used_closures(function))

        def called(texts: list[str]) -> None:
            call = self.w.call(name, here.value, *texts, *here.shown()[1:], *closures)
            self.path_loop(mark(node.at, call), then)

        self.values_of(values, [], here.value, called)

    # --- given by other parts -----------------------------------------------------------------

    def native_paths(self, node: Call, scope: Scope, here: Where, then: Placed) -> bool:
        """Write a builtin with code of its own as a path expression; False for others."""
        raise NotImplementedError


__all__ = ["MANY", "ONE", "Frame", "Paths", "Placed", "Where", "is_atom", "replace"]
