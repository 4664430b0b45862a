"""Variables: `as` with its patterns."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from transforms.jq.counting import ONE
from transforms.jq.emit import Then
from transforms.jq.emit_values import Values
from transforms.jq.scope import Scope
from transforms.jq.syntax import (
    Bind,
    Literal,
    Node,
    Pattern,
    PatternArray,
    PatternObject,
    PatternVariable,
    pattern_names,
)


class Bindings(Values):
    """What gives values names."""

    # --- patterns -----------------------------------------------------------------------------

    def bind_one(self, pattern: Pattern, text: str, scope: Scope) -> Scope:
        """Bind a pattern whose keys have one output each."""
        found: list[Scope] = []
        self.match(pattern, text, scope, found.append)
        return found[0]

    def match(
        self, pattern: Pattern, text: str, scope: Scope, then: Callable[[Scope], None]
    ) -> None:
        """Write the bindings of a pattern over a value, and what follows with them."""
        match pattern:
            case PatternVariable(_, name):
                then(scope.with_variable(name, self._variable(name, text, scope)))
            case PatternArray(_, items):
                value = self.atom(text)
                # jq takes the last element first, which shows when several fail.
                self._items(list(enumerate(items))[::-1], value, scope, then)
            case PatternObject(_, entries):
                self._entries(list(entries), self.atom(text), scope, then)

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
            lambda inner: self._items(rest, value, inner, then),
        )

    def _entries(
        self,
        entries: Sequence[tuple[Node, str | None, Pattern | None]],
        value: str,
        scope: Scope,
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
                self._entries(rest, value, inner, then)
            else:
                self.match(
                    pattern,
                    found,
                    inner,
                    lambda more: self._entries(rest, value, more, then),
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
        then: Callable[[Scope], None],
    ) -> None:
        """Write the bindings of `pattern ?// …` over a value, and what follows with them.

        The next alternative has its turn where anything fails, whatever comes after included.
        """
        if len(patterns) == 1:
            self.match(patterns[0], text, scope, then)
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
                    source = self._many_alternatives(patterns, turn, value, inside, codes=codes)
                    names_text = ", ".join([*codes.values(), "_"])
                    with self.w.block(f"for {names_text} in {source}:", counts=True):
                        then(outside)
                else:
                    for number, pattern in enumerate(patterns):
                        head = f"{'if' if number == 0 else 'elif'} {turn} == {number}:"
                        with self.w.block(head):
                            self.match(pattern, value, inside, lambda _inner: None)
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
                lambda inner: self.each(node.body, inner, given, then, tail=tail),
            )

        self.each(node.source, scope, given, Then(bound))
