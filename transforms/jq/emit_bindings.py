"""Variables and folds: `as` with its patterns, `reduce`, `foreach`."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from transforms.jq.builtins import FUNCTIONS
from transforms.jq.counting import MANY, ONE, walk
from transforms.jq.emit import Then, is_atom
from transforms.jq.emit_values import Values
from transforms.jq.scope import Scope
from transforms.jq.syntax import (
    Alternative,
    Array,
    Assign,
    Binary,
    Bind,
    Call,
    Foreach,
    Format,
    Identity,
    If,
    Index,
    Literal,
    Logic,
    Negate,
    Node,
    Object,
    Pattern,
    PatternArray,
    PatternObject,
    PatternVariable,
    Pipe,
    Reduce,
    Slice,
    Text,
    Variable,
    pattern_names,
)
from transforms.jq.writer import mark


class Bindings(Values):
    """What gives values names."""

    # --- patterns -----------------------------------------------------------------------------

    def bind_one(self, pattern: Pattern, text: str, scope: Scope, given: str) -> Scope:
        """Bind a pattern whose keys have one output each."""
        found: list[Scope] = []
        self.match(pattern, text, scope, given, found.append)
        return found[0]

    def match(
        self, pattern: Pattern, text: str, scope: Scope, given: str, then: Callable[[Scope], None]
    ) -> None:
        """Write the bindings of a pattern over a value, and what follows with them."""
        match pattern:
            case PatternVariable(_, name):
                then(scope.with_variable(name, self._variable(name, text, scope)))
            case PatternArray(_, items):
                value = self.atom(text)
                # jq takes the last element first, which shows when several fail.
                self._items(list(enumerate(items))[::-1], value, scope, given, then)
            case PatternObject(_, entries):
                self._entries(list(entries), self.atom(text), scope, given, then)

    def _variable(self, name: str, text: str, scope: Scope) -> str:
        known = scope.variables.get(f"={name}")
        if known is not None:  # one of alternatives: all of them bind the same name
            self.w.write(f"{known} = {text}")
            return known
        return self.atom(text, "x")

    def _items(
        self,
        items: Sequence[tuple[int, Pattern]],
        value: str,
        scope: Scope,
        given: str,
        then: Callable[[Scope], None],
    ) -> None:
        if not items:
            then(scope)
            return
        (number, pattern), rest = items[0], items[1:]
        self.match(
            pattern,
            self.indexed(pattern.at, value, str(number)),
            scope,
            given,
            lambda inner: self._items(rest, value, inner, given, then),
        )

    def _entries(
        self,
        entries: Sequence[tuple[Node, str | None, Pattern | None]],
        value: str,
        scope: Scope,
        given: str,
        then: Callable[[Scope], None],
    ) -> None:
        if not entries:
            then(scope)
            return
        (key, name, pattern), rest = entries[0], entries[1:]

        def with_key(index: str) -> None:
            found = self.read(key.at, value, key) or self.indexed(key.at, value, index)
            inner = scope
            if name is not None:
                found = self._variable(name, found, scope)
                inner = scope.with_variable(name, found)
            if pattern is None:
                self._entries(rest, value, inner, given, then)
            else:
                self.match(
                    pattern,
                    found,
                    inner,
                    given,
                    lambda more: self._entries(rest, value, more, given, then),
                )

        if isinstance(key, Literal):
            with_key(self.literal(key.value))
        else:
            # A key that is computed sees what is taken apart at its level, as in jq.
            self.each(key, scope, value, Then(with_key))

    def bindings(
        self,
        patterns: Sequence[Pattern],
        text: str,
        scope: Scope,
        given: str,
        then: Callable[[Scope], None],
    ) -> None:
        """Write the bindings of `pattern ?// …` over a value, and what follows with them.

        The next alternative has its turn where anything fails, whatever comes after included.
        """
        if len(patterns) == 1:
            self.match(patterns[0], text, scope, given, then)
            return
        value = self.atom(text)
        names = list(dict.fromkeys(name for one in patterns for name in pattern_names(one)))
        codes = {name: self.w.name("x") for name in names}
        outside = scope
        for name, code in codes.items():
            outside = outside.with_variable(name, code)
        inside = outside
        for name, code in codes.items():
            inside = inside.with_variable(f"={name}", code)

        turn, error = self.w.name("i"), self.w.name("e")
        with self.w.block(f"for {turn} in range({len(patterns)}):", counts=True):
            self.w.write(f"{' = '.join(codes.values())} = None")
            with self.w.block("try:", counts=True):
                many = any(self.counter.pattern(one, inside) != ONE for one in patterns)
                if many:
                    source = self._many_alternatives(
                        patterns, turn, value, inside, given, codes=codes
                    )
                    names_text = ", ".join([*codes.values(), "_"])
                    with self.w.block(f"for {names_text} in {source}:", counts=True):
                        then(outside)
                else:
                    for number, pattern in enumerate(patterns):
                        head = f"{'if' if number == 0 else 'elif'} {turn} == {number}:"
                        with self.w.block(head):
                            self.match(pattern, value, inside, given, lambda _inner: None)
                    then(outside)
                self.w.write("break")
            head = f"except JqError as {error}:"
            with self.w.block(head), self.w.block(f"if {turn} == {len(patterns) - 1}:"):
                self.w.write("raise")

    def _many_alternatives(
        self,
        patterns: Sequence[Pattern],
        turn: str,
        value: str,
        scope: Scope,
        given: str,
        *,
        codes: dict[str, str],
    ) -> str:
        """Return a generator of the bindings of the alternative whose turn it is."""
        start = self.w.count
        with self.w.function([], start) as made:
            own = {name: self.w.name("x") for name in codes}
            inner = scope
            for name, code in own.items():
                inner = inner.with_variable(name, code).with_variable(f"={name}", code)
            self.w.write(f"{' = '.join(own.values())} = None")
            for number, pattern in enumerate(patterns):
                with self.w.block(f"if {turn} == {number}:"):
                    self.match(
                        pattern,
                        value,
                        inner,
                        given,
                        lambda _inner: self.w.write(f"yield {', '.join([*own.values(), 'None'])}"),
                    )
        return self.w.call(made.name)

    def _binds(
        self, node: Bind, scope: Scope, given: str, then: Then, *, tail: bool = False
    ) -> None:
        single = len(node.patterns) == 1 and self.count(node.source, scope) == ONE
        tail = tail and single and self.counter.pattern(node.patterns[0], scope) == ONE

        def bound(text: str) -> None:
            self.bindings(
                node.patterns,
                text,
                scope,
                given,
                lambda inner: self.each(node.body, inner, given, then, tail=tail),
            )

        self.each(node.source, scope, given, Then(bound))

    # --- folds --------------------------------------------------------------------------------

    def _reduces(self, node: Reduce, scope: Scope, given: str, then: Then) -> None:
        # As in jq, whose source reads null from the second initial value on.
        read = given
        if self.count(node.initial, scope) != ONE:
            read = self.w.name("s")
            self.w.write(f"{read} = {given}")

        def started(initial: str) -> None:
            state = self.w.name("s")
            self.w.write(f"{state} = {initial}")
            keep = Then(lambda text: self.w.write(f"{state} = {text}"), cheap=True)

            def step(inner: Scope) -> None:
                if self.count(node.update, inner) == ONE:
                    self._replace(state, node.update, inner)
                    return
                # Its last output is the state; without one the state is null.
                before = self.w.name()
                self.w.write(f"{before} = {state}")
                self.w.write(f"{state} = None")
                self.each(node.update, inner, before, keep)

            self.each(
                node.source,
                scope,
                read,
                Then(lambda text: self.bindings(node.patterns, text, scope, read, step)),
            )
            if read != given:
                self.w.write(f"{read} = None")
            then(state)

        self.each(node.initial, scope, given, Then(started))

    def _replace(self, state: str, update: Node, scope: Scope) -> None:
        """Write `state = update`, in place where it is one change of what nobody else may see."""
        match update:
            case Binary(at, "+", Identity(), more) if _is_plain(more, scope):
                right = self.atom(self.value(more, scope, state))
                new = self.binary(at, "+", state, right, instead=f"grow({state}, {right})")
                made = new
            case Assign(at, "+=", Index(place, Identity(), key, False), value) if _is_plain(
                key, scope
            ) and _is_plain(value, scope):
                right = self.atom(self.value(value, scope, state))
                index = self.atom(self.value(key, scope, state))
                old = self.atom(self.indexed(place, state, index))
                call = f"grow_at({state}, {index}, {old}, {right})"
                new = self.atom(self.binary(at, "+", old, right, instead=call))
                made = mark(place, f"put({state}, {index}, {new})")
            case Assign(_, _, Index(_, Identity(), key, False), value) if _is_plain(
                key, scope
            ) and _is_plain(value, scope):
                self.state = state
                new = made = self.value(update, scope, state)
                self.state = None
            case _:
                self.w.write(f"{state} = {self.value(update, scope, state)}")
                return
        self.w.write(f"{state} = {made}")
        if is_atom(new):
            self.w.write(f"{new} = None")  # now only the state holds it

    def _foreach(self, node: Foreach, scope: Scope, given: str, then: Then) -> None:
        def started(initial: str) -> None:
            state = self.w.name("s")
            self.w.write(f"{state} = {initial}")

            def extracted(inner: Scope) -> None:
                if node.extract is None:
                    shown = self.w.name()
                    self.w.write(f"{shown} = {state}")
                    then(shown)
                else:
                    shown = self.w.name()
                    self.w.write(f"{shown} = {state}")
                    self.each(node.extract, inner, shown, then)

            def step(inner: Scope) -> None:
                if self.count(node.update, inner) == ONE:
                    self.w.write(f"{state} = {self.value(node.update, inner, state)}")
                    extracted(inner)
                    return
                before = self.w.name()
                self.w.write(f"{before} = {state}")
                self.w.write(f"{state} = None")

                def kept(text: str) -> None:
                    self.w.write(f"{state} = {text}")
                    extracted(inner)

                self.each(node.update, inner, before, Then(kept))

            self.each(
                node.source,
                scope,
                given,
                Then(lambda text: self.bindings(node.patterns, text, scope, given, step)),
            )

        self.each(node.initial, scope, given, Then(started))


_PLAIN = (
    Identity, Literal, Text, Format, Variable, Index, Slice, Negate, Array, Object, Binary, Logic,
    Alternative, Pipe, If, Call,
)  # fmt: skip


def _is_plain(node: Node, scope: Scope) -> bool:
    """Whether a program is made of what changes nothing and calls nothing but builtins of values."""
    return all(
        isinstance(one, _PLAIN)
        and (
            not isinstance(one, Call)
            or (
                (one.name, len(one.arguments)) in FUNCTIONS
                and (one.name, len(one.arguments)) not in scope.functions
            )
        )
        for one in walk(node)
    )


__all__ = ["MANY", "Bindings"]
