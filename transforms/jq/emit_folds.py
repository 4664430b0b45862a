"""Folds: `reduce` and `foreach`."""

from __future__ import annotations

from transforms.jq.builtins import FUNCTIONS
from transforms.jq.counting import ONE, walk
from transforms.jq.emit import Then, is_atom
from transforms.jq.emit_bindings import Bindings
from transforms.jq.scope import Scope
from transforms.jq.syntax import (
    Alternative,
    Array,
    Assign,
    Binary,
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
    Pipe,
    Reduce,
    Slice,
    Text,
    Variable,
)
from transforms.jq.writer import mark

_Keys = list[tuple[int, Node]]
"""What a target like `.a[$k]` leads through, from the outside in: place in the program, key."""


class Folds(Bindings):
    """What goes over many values with a state."""

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
                Then(lambda text: self.bindings(node.patterns, text, scope, step)),
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
                self.w.write(f"{state} = {new}")
                if is_atom(new):
                    self.w.write(f"{new} = None")  # now only the state holds it
            case Assign(_, _, target, value) if self._is_one(value, scope) and (
                keys := self._keys(target, scope)
            ):
                self._set_within(state, update, keys, scope)
            case _:
                self.w.write(f"{state} = {self.value(update, scope, state)}")

    def _is_one(self, node: Node, scope: Scope) -> bool:
        return _is_plain(node, scope) and self.count(node, scope) == ONE

    def _keys(self, target: Node, scope: Scope) -> _Keys | None:
        """Return what a chain of keys alone, such as `.a[$k].b`, leads through; None: it is another."""
        keys: _Keys = []
        while isinstance(target, Index) and not target.optional and self._is_one(target.key, scope):
            keys.append((target.at, target.key))
            target = target.target
        return keys[::-1] if isinstance(target, Identity) else None

    def _set_within(self, state: str, update: Assign, keys: _Keys, scope: Scope) -> None:
        """Write an assignment to one place of a state.

        What is on the way to it is changed in place: the outer one lets go of the inner one before
        that, so that nothing but a name here holds it.
        """
        right = ""
        if update.operator != "|=":
            right = self.atom(self.value(update.value, scope, state))
            if right == state:
                right = self.w.name()
                self.w.write(f"{right} = {state}")  # so that it counts as held by another
        # As in jq, the last key is the first to be evaluated.
        indexes = [self.atom(self.value(key, scope, state)) for _, key in keys[::-1]][::-1]
        holders = [state]
        for (place, _), index in zip(keys, indexes, strict=True):
            inner = self.w.name("s")
            self.w.write(f"{inner} = {self.indexed(place, holders[-1], index)}")
            holders.append(inner)
        old = holders.pop()
        for holder, index, inner in zip(holders, indexes, holders[1:], strict=False):
            self.w.write(f"let_go({holder}, {index}, {inner})")
        grown = f"grow_at({holders[-1]}, {indexes[-1]}, {old}, {right})"
        new = text = self._new_within(update, scope, old, right, grown)
        if not is_atom(text):
            new = self.w.name()
            self.w.write(f"{new} = {text}")
        put = new
        for (place, _), index, holder in reversed(list(zip(keys, indexes, holders, strict=True))):
            self.w.write(f"{holder} = {mark(place, f'put({holder}, {index}, {put})')}")
            put = holder
        if new != text or update.operator == "+=":
            self.w.write(f"{new} = None")  # now only the state holds it

    def _new_within(self, update: Assign, scope: Scope, old: str, right: str, grown: str) -> str:
        """Return what an assignment makes of an old value; `grown` where it adds to what is no number."""
        match update.operator:
            case "=":
                return right
            case "|=":
                return self.value(update.value, scope, old)
            case "//=":
                return f"({old} if {self.truth_of(old)} else {right})"
            case "+=":
                return self.binary(update.at, "+", old, right, instead=grown)
        return self.binary(update.at, update.operator[:-1], old, right)

    def _foreach(self, node: Foreach, scope: Scope, given: str, then: Then) -> None:
        def started(initial: str) -> None:
            state = self.w.name("s")
            self.w.write(f"{state} = {initial}")

            def extracted(inner: Scope) -> None:
                shown = self.w.name()
                self.w.write(f"{shown} = {state}")
                if node.extract is None:
                    then(shown)
                else:
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
                Then(lambda text: self.bindings(node.patterns, text, scope, step)),
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
