"""Builtins that take programs, written out as code of their own.

Each has a count (how many outputs) and a writer. What is not here is a function of values (builtins/),
or written in jq (prelude.py).
"""

from __future__ import annotations

from collections.abc import Callable

from transforms.jq.builtins import FUNCTIONS
from transforms.jq.counting import MANY, MAYBE, ONE, Counter
from transforms.jq.emit import Then, can_fail, is_atom
from transforms.jq.emit_assign import Assignments
from transforms.jq.emit_paths import Placed, Where
from transforms.jq.emit_sums import mapped
from transforms.jq.prelude import prelude
from transforms.jq.scope import Scope
from transforms.jq.shapes import Items
from transforms.jq.syntax import Call, Identity, Iterate, Literal, Node, Pipe
from transforms.jq.writer import mark

_ONE = {
    ("not", 0), ("map", 1), ("del", 1), ("map_values", 1), ("isempty", 1),
    ("any", 0), ("all", 0), ("any", 1), ("all", 1), ("any", 2), ("all", 2), ("add", 1),
    ("sort_by", 1), ("group_by", 1), ("unique_by", 1), ("min_by", 1), ("max_by", 1), ("error", 0), ("add", 0),
    ("builtins", 0),
}  # fmt: skip
_MANY = {
    ("recurse", 0), ("recurse", 1), ("range", 1), ("range", 2), ("range", 3), ("limit", 2),
    ("while", 2), ("repeat", 1), ("path", 1), ("paths", 0), ("skip", 2),
}  # fmt: skip
_SELECTED = {
    "arrays": "type({0}) is list",
    "objects": "type({0}) is dict",
    "iterables": "type({0}) is list or type({0}) is dict",
    "booleans": "type({0}) is bool",
    "numbers": "type({0}) is int or type({0}) is float",
    "strings": "type({0}) is str",
    "nulls": "{0} is None",
    "values": "{0} is not None",
    "scalars": "type({0}) is not list and type({0}) is not dict",
}
"""What selects by kind → its condition. In a path they are what jq has written (prelude.py)."""
_MAYBE = {("empty", 0), ("last", 1), *((name, 0) for name in _SELECTED)}
NATIVE = _ONE | _MANY | _MAYBE | {("select", 1), ("first", 1), ("until", 2), ("error", 1)}
_KEYED = {
    "sort_by": "sort_by_keys",
    "group_by": "group_by_keys",
    "unique_by": "unique_by_keys",
    "min_by": "min_by_keys",
    "max_by": "max_by_keys",
}


def builtin_count(counter: Counter, node: Call, scope: Scope) -> int:
    """Return how many outputs a call of a builtin has."""
    key = (node.name, len(node.arguments))
    if key in _ONE:
        return ONE
    if key in _MANY:
        return MANY
    if key in _MAYBE:
        return MAYBE
    if key == ("select", 1):
        return max(MAYBE, counter.of(node.arguments[0], scope))
    if key == ("first", 1):
        return max(ONE, min(MAYBE, counter.of(node.arguments[0], scope)))
    if key == ("until", 2):
        return ONE if counter.all_of(scope, *node.arguments) == ONE else MANY
    if key == ("error", 1):
        return counter.of(node.arguments[0], scope)
    found = FUNCTIONS.get(key)
    if found is not None:
        return MANY if found.many else counter.all_of(scope, *node.arguments)
    definition = prelude(*key)
    if definition is not None:
        from transforms.jq.counting import bound  # noqa: PLC0415 - beside its use

        return counter.instance(definition, bound(node, scope))
    return MANY


class Builtins(Assignments):
    """Builtins with closures."""

    def is_native(self, name: str, arity: int) -> bool:
        """Whether a builtin has code of its own."""
        return (name, arity) in NATIVE

    # --- one output ---------------------------------------------------------------------------

    def native_value(self, node: Call, scope: Scope, given: str) -> str | None:
        """Return the one output of a builtin with code of its own, None for others."""
        key = (node.name, len(node.arguments))
        if key not in NATIVE:
            return None
        match key:
            case ("not", 0):
                truth = self.truth_of(given)
                return f"(not {truth})"
            case ("error", 0):
                return mark(node.at, f"fail({given})")
            case ("error", 1):
                return mark(node.at, f"fail({self.value(node.arguments[0], scope, given)})")
            case ("add", 0):
                return mark(node.at, f"add_all({given})")
            case ("builtins", 0):
                self.handed(Literal(node.at, None), given)
                return "all_names()"
        given = self.atom(given)
        if key == ("first", 1):
            return self.value(node.arguments[0], scope, given)
        if key == ("until", 2):
            return self._until(node, scope, given)
        found: list[str] = []
        self._single(node, scope, given, found)
        return found[0] if found else None

    def _single(self, node: Call, scope: Scope, given: str, found: list[str]) -> None:
        at, arguments = node.at, node.arguments
        match (node.name, len(arguments)):
            case ("map", 1):
                found.append(self.collected(mapped(node), scope, given))
            case ("map_values", 1):
                found.append(
                    self.modified(at, Iterate(at, Identity(at)), arguments[0], scope, given)
                )
            case ("del", 1):
                name = self._path_list(arguments[0], scope, given, at)
                found.append(mark(at, f"delete_paths({given}, {name})"))
            case ("isempty", 1):
                found.append(
                    self._flag(
                        arguments[0],
                        scope,
                        given,
                        lambda _text: "True",
                        start="True",
                        found="False",
                    )
                )
            case ("any" | "all", count):
                found.append(self._any(node, count, scope, given))
            case ("add", 1):
                state = self.w.name("s")
                self.w.write(f"{state} = None")
                self.each(
                    arguments[0],
                    scope,
                    given,
                    Then(
                        lambda text: self.w.write(f"{state} = {self.binary(at, '+', state, text)}")
                    ),
                )
                found.append(state)
            case (name, 1) if name in _KEYED:
                found.append(self._keyed(node, scope, given))

    def _keyed(self, node: Call, scope: Scope, given: str) -> str:
        keys = self.w.name("a")
        self.w.write(f"{keys} = []")

        def keyed(value: str) -> None:
            self.w.write(f"{keys}.append({self.array(node.arguments[0], scope, value)})")

        self.over(node.at, given, Then(keyed), optional=False)
        made = mark(node.at, f"{_KEYED[node.name]}({given}, {keys})")
        shape = self.shapes.get(given)
        of = shape.of if isinstance(shape, Items) else None
        if node.name == "group_by":
            self.shapes[made] = Items(Items(of))
        elif node.name in {"sort_by", "unique_by"}:
            self.shapes[made] = Items(of)
        return made

    def _flag(
        self,
        body: Node,
        scope: Scope,
        given: str,
        test: Callable[[str], str],
        *,
        start: str,
        found: str,
    ) -> str:
        """Return `found` if `test` holds for an output, which ends the search, else `start`."""
        name = self.w.name("b")
        self.w.write(f"{name} = {start}")

        def check(text: str) -> None:
            # Whatever is asked of an output, it is made: that may fail.
            condition = test(self.atom(text) if can_fail(text) else text)
            if condition == "True":
                self.w.write(f"{name} = {found}")
                self.w.write("break")
                return
            with self.w.block(f"if {condition}:"):
                self.w.write(f"{name} = {found}")
                self.w.write("break")

        self._stoppable(body, scope, given, Then(check))
        return name

    def _stoppable(self, body: Node, scope: Scope, given: str, then: Then) -> None:
        """Write a loop over the outputs of a program, which `break` in the continuation ends."""
        if (
            isinstance(body, Iterate)
            and not body.optional
            and self.count(body.target, scope) == ONE
        ):
            self.over(body.at, self.value(body.target, scope, given), then, optional=False)
            return
        if self.count(body, scope) == ONE:
            with self.w.block("for _ in ONCE:", counts=True):
                then(self.value(body, scope, given))
            return
        self.pulled(body, scope, given, then)

    def _any(self, node: Call, count: int, scope: Scope, given: str) -> str:
        is_any = node.name == "any"
        at = node.at
        generator: Node = node.arguments[0] if count == 2 else Iterate(at, Identity(at))
        condition: Node = Identity(at) if count == 0 else node.arguments[-1]
        start, found = ("False", "True") if is_any else ("True", "False")
        if self.count(condition, scope) == ONE:
            negation = "" if is_any else "not "

            def test(text: str) -> str:
                return f"{negation}{self.truth(condition, scope, self.atom(text))}"

            return self._flag(generator, scope, given, test, start=start, found=found)
        negation = "" if is_any else "not "
        both = Pipe(at, (generator, condition))
        return self._flag(
            both,
            scope,
            given,
            lambda text: f"{negation}{self.truth_of(self.atom(text))}",
            start=start,
            found=found,
        )

    def _until(self, node: Call, scope: Scope, given: str) -> str:
        condition, update = node.arguments
        state = self.w.name("s")
        self.w.write(f"{state} = {given}")
        with self.w.block("while True:", counts=True):
            with self.w.block(f"if {self.truth(condition, scope, state)}:"):
                self.w.write("break")
            self.w.write(f"{state} = {self.value(update, scope, state)}")
        return state

    # --- many ---------------------------------------------------------------------------------

    def native_each(self, node: Call, scope: Scope, given: str, then: Then) -> bool:
        """Write a builtin with code of its own; False for others."""
        arguments, at = node.arguments, node.at
        match (node.name, len(arguments)):
            case ("empty", 0):
                pass
            case ("error", 1):
                self.each(
                    arguments[0], scope, given, Then(lambda text: then(mark(at, f"fail({text})")))
                )
            case ("select", 1):
                self._select(arguments[0], scope, given, then)
            case (name, 0) if name in _SELECTED:
                with self.w.block(f"if {_SELECTED[name].format(given)}:"):
                    then(given)
            case ("recurse", 0):
                self.loop(f"descend({given})", then)
            case ("range", 1 | 2 | 3):
                self._range(node, scope, given, then)
            case ("first", 1):
                self._stoppable(
                    arguments[0], scope, given, Then(lambda text: self._and_break(text, then))
                )
            case ("last", 1):
                name = self.w.name()
                self.w.write(f"{name} = NOTHING")
                keep = Then(lambda text: self.w.write(f"{name} = {text}"), cheap=True)
                self.each(arguments[0], scope, given, keep)
                with self.w.block(f"if {name} is not NOTHING:"):
                    then(name)
            case ("limit", 2):
                self._limit(node, scope, given, then)
            case ("while", 2) if self.counter.all_of(scope, *arguments) == ONE:
                state, shown = self.w.name("s"), self.w.name()
                self.w.write(f"{state} = {given}")
                with self.w.block("while True:", counts=True):
                    with self.w.block(f"if not {self.truth(arguments[0], scope, state)}:"):
                        self.w.write("break")
                    self.w.write(f"{shown} = {state}")
                    then(shown)
                    self.w.write(f"{state} = {self.value(arguments[1], scope, state)}")
            case ("repeat", 1):
                with self.w.block("while True:", counts=True):
                    self.each(arguments[0], scope, given, then)
            case ("while" | "until" | "recurse" | "skip", _):
                definition = prelude(node.name, len(arguments))
                if definition is None:
                    raise AssertionError(node)
                self._calls_definition(node, definition, scope, given, then, tail=False)
            case ("path", 1):
                self.paths(
                    arguments[0],
                    scope,
                    Where(given),
                    Placed(
                        lambda one: then(self._delivered(at, one)),
                        cheap=then.cheap,
                        yields=then.yields,
                    ),
                )
            case ("paths", 0):
                self.loop(f"all_paths({given})", then)
            case _:
                return False
        return True

    def _and_break(self, text: str, then: Then) -> None:
        then(text)
        self.w.write("break")

    def _select(self, condition: Node, scope: Scope, given: str, then: Then) -> None:
        if self.count(condition, scope) == ONE:
            with self.w.block(f"if {self.truth(condition, scope, given)}:"):
                then(given)
            return

        def selected(text: str) -> None:
            with self.w.block(f"if {self._as_boolean(condition, scope, text)}:"):
                then(given)

        self.each(condition, scope, given, Then(selected))

    def _range(self, node: Call, scope: Scope, given: str, then: Then) -> None:
        def made(texts: list[str]) -> None:
            if len(texts) == 1:
                texts = ["0", *texts]
            self.loop(mark(node.at, f"numbers({', '.join(texts)})"), then)

        self.product(node.arguments, scope, given, made)

    def _limit(self, node: Call, scope: Scope, given: str, then: Then) -> None:
        count, body = node.arguments

        def limited(text: str) -> None:
            left = self.w.name("i")
            self.w.write(f"{left} = {mark(node.at, f'limit_of({text})')}")
            with self.w.block(f"if {left} > 0:"):

                def counted(output: str) -> None:
                    self.w.write(f"{left} -= 1")
                    then(output)
                    with self.w.block(f"if {left} <= 0:"):
                        self.w.write("break")

                self._stoppable(body, scope, given, Then(counted))

        self.each(count, scope, given, Then(limited))

    # --- paths --------------------------------------------------------------------------------

    def _path_list(self, node: Node, scope: Scope, given: str, at: int) -> str:
        name = self.w.name("a")
        self.w.write(f"{name} = []")
        self.paths(
            node,
            scope,
            Where(given),
            Placed(
                lambda one: self.w.write(f"{name}.append({self._delivered(at, one)})"), cheap=True
            ),
        )
        return name

    def native_paths(self, node: Call, scope: Scope, here: Where, then: Placed) -> bool:
        """Write a builtin with code of its own as a path expression; False for others."""
        arguments, at = node.arguments, node.at
        match (node.name, len(arguments)):
            case ("empty", 0):
                pass
            case ("error", 0):
                self.w.write(mark(at, f"fail({here.value})"))
            case ("error", 1):
                self.each(
                    arguments[0],
                    scope,
                    here.value,
                    Then(lambda text: self.w.write(mark(at, f"fail({text})"))),
                )
            case ("select", 1):

                def selected(text: str) -> None:
                    with self.w.block(f"if {self._as_boolean(arguments[0], scope, text)}:"):
                        then(here)

                self.each(arguments[0], scope, here.value, Then(selected))
            case ("recurse", 0) if here.anchor is None:
                value, path = self.w.name(), self.w.name("p")
                self.shapes[path] = Items()
                head = f"for {value}, {path} in descend_paths({here.value}, {here.path()}):"
                with self.w.block(head, counts=True):
                    then(Where(value, path))
            case ("first", 1):
                self._pulled(
                    arguments[0], scope, here, Placed(lambda one: self._path_break(one, then))
                )
            case ("limit", 2):
                self._path_limit(node, scope, here, then)
            case ("getpath", 1):

                def got(text: str) -> None:
                    keys = self.atom(text)
                    if here.anchor is not None:
                        self.w.write(mark(at, f"check_result({here.value}, {here.near()})"))
                    value, path = self.w.name(), self.w.name("p")
                    self.w.write(f"{value} = {mark(at, f'get_path({here.value}, {keys})')}")
                    self.w.write(f"{path} = [*{here.path()}, *{keys}]")
                    then(Where(value, path))

                self.each(arguments[0], scope, here.value, Then(got))
            case _:
                return False
        return True

    def _path_break(self, one: Where, then: Placed) -> None:
        then(one)
        self.w.write("break")

    def _path_limit(self, node: Call, scope: Scope, here: Where, then: Placed) -> None:
        count, body = node.arguments

        def limited(text: str) -> None:
            left = self.w.name("i")
            self.w.write(f"{left} = {mark(node.at, f'limit_of({text})')}")
            with self.w.block(f"if {left} > 0:"):

                def counted(one: Where) -> None:
                    self.w.write(f"{left} -= 1")
                    then(one)
                    with self.w.block(f"if {left} <= 0:"):
                        self.w.write("break")

                self._pulled(body, scope, here, Placed(counted))

        self.each(count, scope, here.value, Then(limited))


__all__ = ["NATIVE", "Builtins", "Literal", "builtin_count", "is_atom"]
