"""`each`: code that runs a continuation for every output of a program, in order."""

from __future__ import annotations

from collections.abc import Sequence

from transforms.jq.counting import MANY, MAYBE, ONE
from transforms.jq.emit import Then, can_fail, is_atom
from transforms.jq.emit_folds import Folds
from transforms.jq.scope import Scope
from transforms.jq.shapes import Items
from transforms.jq.syntax import (
    Alternative,
    Assign,
    Binary,
    Bind,
    Break,
    Call,
    Comma,
    Define,
    Foreach,
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
"""Stages of a pipe with many outputs that become loops in one function."""


class Streams(Folds):
    """Any number of outputs."""

    def each(self, node: Node, scope: Scope, given: str, then: Then, *, tail: bool = False) -> None:
        """Write code that runs `then` for each output of a program over `given`.

        With `tail` nothing follows the outputs in this function, so that a function that calls
        itself at its end may begin again instead.
        """
        self.step()
        count = self.count(node, scope)
        in_place = isinstance(node, (Reduce, Assign, Comma)) or (
            tail and isinstance(node, (If, Pipe, Bind, Define, Call))
        )
        if count == ONE and not in_place:
            then(self.value(node, scope, given))
            return
        given = self.atom(given)
        if count != ONE and self.is_deep() and not isinstance(node, (Define, Call)):
            self.pulled(node, scope, given, then)
            return
        match node:
            case Pipe(_, parts):
                self._stages(flat(parts), scope, given, then, tail=tail)
            case Comma(_, parts):
                self._comma(parts, scope, given, then, tail=tail)
            case Iterate(_, Iterate() | Index()) | Index(_, Iterate() | Index(), Literal()):
                self._stages(flat([node]), scope, given, then, tail=False)
            case Iterate(at, target, optional):
                self.each(
                    target, scope, given, Then(lambda text: self.over(at, text, then, optional))
                )
            case Index():
                self._indexes(node, scope, given, then)
            case Slice():
                self._slices(node, scope, given, then)
            case Binary(at, operator, left, right):
                self.product(
                    (right, left),
                    scope,
                    given,
                    lambda texts: then(self.binary(at, operator, texts[1], texts[0])),
                )
            case Logic():
                self._logic(node, scope, given, then)
            case Negate(at, operand):
                self.each(
                    operand, scope, given, Then(lambda text: then(mark(at, f"negate({text})")))
                )
            case Text(_, parts, _):
                programs = [part for part in parts if not isinstance(part, str)]
                self.product(
                    tuple(reversed(programs)),
                    scope,
                    given,
                    lambda texts: then(self.joined(node, texts[::-1])),
                )
            case Object():
                self._objects(node, scope, given, then)
            case If():
                self._conditions(node, scope, given, then, tail=tail)
            case Alternative():
                self._alternatives(node, scope, given, then)
            case Try():
                self._tries(node, scope, given, then)
            case Bind():
                self._binds(node, scope, given, then, tail=tail)
            case Reduce():
                self._reduces(node, scope, given, then)
            case Foreach():
                self._foreach(node, scope, given, then)
            case Label(_, name, body):
                self._label(name, lambda inner: self.each(body, inner, given, then), scope)
            case Break(_, name):
                self.w.write(f"raise {scope.labels[name]}")
            case Define(_, function, body):
                self.each(body, self.defined(scope, function), given, then, tail=tail)
            case Assign():
                self.assign(node, scope, given, then)
            case Call():
                self.calls(node, scope, given, then, tail=tail)
            case _:
                then(self.value(node, scope, given))

    # --- pipes and commas ---------------------------------------------------------------------

    def _stages(
        self, parts: Sequence[Node], scope: Scope, given: str, then: Then, *, tail: bool
    ) -> None:
        many = [n for n, part in enumerate(parts) if self.count(part, scope) == MANY]
        if len(many) > _STAGES:
            cut = many[-_STAGES]
            source = self.lift(Pipe(parts[0].at, tuple(parts[:cut])), scope, given)
            self.loop(
                source, Then(lambda text: self._stage(parts, cut, scope, text, then, tail=False))
            )
            return
        self._stage(parts, 0, scope, given, then, tail=tail)

    def _stage(
        self, parts: Sequence[Node], at: int, scope: Scope, given: str, then: Then, *, tail: bool
    ) -> None:
        while at < len(parts) - 1 and self.count(parts[at], scope) == ONE:
            given = self.value(parts[at], scope, self.handed(parts[at], given))
            at += 1
        given = self.handed(parts[at], given)
        if at == len(parts) - 1:
            self.each(parts[at], scope, given, then, tail=tail)
            return
        following = Then(lambda text: self._stage(parts, at + 1, scope, text, then, tail=False))
        self.each(parts[at], scope, given, following)

    def _comma(
        self, parts: Sequence[Node], scope: Scope, given: str, then: Then, *, tail: bool
    ) -> None:
        if len(parts) > 1 and not then.cheap:
            if all(self.count(part, scope) == ONE for part in parts):
                self._choices(parts, scope, given, then)
            else:
                self.pulled(Comma(parts[0].at, tuple(parts)), scope, given, then)
            return
        for number, part in enumerate(parts):
            self.each(part, scope, given, then, tail=tail and number == len(parts) - 1)

    def _choices(self, parts: Sequence[Node], scope: Scope, given: str, then: Then) -> None:
        """Write a loop over programs with one output each, made when their turn comes."""
        if all(isinstance(part, Literal) for part in parts):
            items = ", ".join(self.value(part, scope, given) for part in parts)
            self.loop(f"({items})", then)
            return
        turn, name = self.w.name("i"), self.w.name()
        with self.w.block(f"for {turn} in range({len(parts)}):", counts=True):
            for number, part in enumerate(parts):
                word = "if" if number == 0 else "elif"
                head = "else:" if number == len(parts) - 1 else f"{word} {turn} == {number}:"
                with self.w.block(head):
                    self.w.write(f"{name} = {self.value(part, scope, given)}")
            then(name)

    def product(
        self,
        nodes: Sequence[Node],
        scope: Scope,
        given: str,
        made: object,
    ) -> None:
        """Run `made` with a value of each program, the first one's in the outermost loop."""
        self._product(list(nodes), [], scope, given, made)

    def _product(
        self, nodes: list[Node], texts: list[str], scope: Scope, given: str, made: object
    ) -> None:
        if not nodes:
            made(texts)  # type: ignore[operator] # a callable over the texts
            return

        def next_one(text: str) -> None:
            kept = self.atom(text) if can_fail(text) or not is_atom(text) else text
            self._product(nodes[1:], [*texts, kept], scope, given, made)

        if len(nodes) == 1:
            self.each(nodes[0], scope, given, Then(lambda text: made([*texts, text])))  # type: ignore[operator]
        else:
            self.each(nodes[0], scope, given, Then(next_one))

    # --- paths --------------------------------------------------------------------------------

    def over(self, at: int, text: str, then: Then, optional: bool) -> None:
        """Write a loop over the values of an array or object."""
        shape = self.shapes.get(text)
        if isinstance(shape, Items):
            self.loop(text, then, shape.of)
        elif optional:
            self.loop(f"values_or_nothing({text})", then)
        elif is_atom(text):
            self.loop(f"({text} if type({text}) is list else {mark(at, f'iterate({text})')})", then)
        else:
            self.loop(mark(at, f"iterate({text})"), then)

    def _indexes(self, node: Index, scope: Scope, given: str, then: Then) -> None:
        def made(texts: list[str]) -> None:
            index, base = texts
            if not node.optional:
                found = self.read(node.at, base, node.key)
                then(found or self.indexed(node.at, base, index))
                return
            self._or_nothing(node, base, index, f"index({base}, {index})", then)

        self.product((node.key, node.target), scope, given, made)

    def _or_nothing(self, node: Index | Slice, base: str, key: str, call: str, then: Then) -> None:
        """Write an access that is passed over where it fails."""
        if key[:1] == '"' and base[:1] == "r" and isinstance(node, Index):
            found = self.read(node.at, base, node.key)
            if found is not None:
                then(found)
                return
        if key[:1] == '"' and not base[:1].isdigit():
            base = self.atom(base)
            name = self.w.name()
            with self.w.block(f"if type({base}) is dict or {base} is None:"):
                self.w.write(f"{name} = {base}.get({key}) if {base} is not None else None")
                then(name)
            return
        name = self.w.name()
        with self.w.block("try:", counts=True):
            self.w.write(f"{name} = {call}")
        with self.w.block("except JqError:", counts=True):
            self.w.write(f"{name} = NOTHING")
        with self.w.block(f"if {name} is not NOTHING:"):
            then(name)

    def _slices(self, node: Slice, scope: Scope, given: str, then: Then) -> None:
        ends: list[Node] = [
            Literal(node.at, None) if end is None else end for end in (node.start, node.stop)
        ]

        def made(texts: list[str]) -> None:
            start, stop, base = texts
            call = f"slice_of({base}, {start}, {stop})"
            if node.optional:
                self._or_nothing(node, base, "", call, then)
            else:
                then(mark(node.at, call))

        self.product((*ends, node.target), scope, given, made)

    # --- construction -------------------------------------------------------------------------

    def _objects(self, node: Object, scope: Scope, given: str, then: Then) -> None:
        parts = [part for entry in node.entries for part in entry]

        def made(texts: list[str]) -> None:
            pairs = [
                f"{self.checked_key(key.at, text)}: {value}"
                for (key, _), text, value in zip(node.entries, texts[::2], texts[1::2], strict=True)
            ]
            then(f"{{{', '.join(pairs)}}}")

        self.product(parts, scope, given, made)

    # --- control ------------------------------------------------------------------------------

    def _logic(self, node: Logic, scope: Scope, given: str, then: Then) -> None:
        is_and = node.operator == "and"

        def right(condition: str) -> None:
            test = condition if is_and else f"not {condition}"
            count = self.count(node.right, scope)
            self.branches(
                test,
                lambda go: self.each(
                    node.right,
                    scope,
                    given,
                    Then(
                        lambda text: go(self._as_boolean(node.right, scope, text)), cheap=go.cheap
                    ),
                ),
                lambda go: go("False" if is_and else "True"),
                then,
                count,
            )

        def left(text: str) -> None:
            right(self.atom(self._as_boolean(node.left, scope, text)))

        self.each(node.left, scope, given, Then(left))

    def _as_boolean(self, node: Node, scope: Scope, text: str) -> str:
        return text if self.is_boolean(node, scope) else self.truth_of(text)

    def _conditions(
        self,
        node: If,
        scope: Scope,
        given: str,
        then: Then,
        *,
        tail: bool,
    ) -> None:
        condition, yes, no = node.condition, node.then, node.otherwise
        single = self.count(condition, scope) == ONE
        tail = tail and single

        def branch(text: str) -> None:
            test = self._as_boolean(condition, scope, text)
            if ":=" in test and not then.cheap:
                test = self.atom(test)
            self.branches(
                test,
                lambda go: self.each(yes, scope, given, go, tail=tail and go is then),
                lambda go: (
                    self.each(no, scope, given, go, tail=tail and go is then)
                    if no is not None
                    else go(given)
                ),
                then,
                max(self.count(yes, scope), ONE if no is None else self.count(no, scope)),
            )

        self.each(condition, scope, given, Then(branch))

    def _alternatives(self, node: Alternative, scope: Scope, given: str, then: Then) -> None:
        if not then.cheap:
            count = self.count(node, scope)
            if count == MAYBE:
                name = self.w.name()
                self.w.write(f"{name} = NOTHING")
                keep = Then(lambda text: self.w.write(f"{name} = {text}"), cheap=True)
                self._alternatives(node, scope, given, keep)
                with self.w.block(f"if {name} is not NOTHING:"):
                    then(name)
            else:
                self.pulled(node, scope, given, then)
            return
        found = self.w.name("b")
        self.w.write(f"{found} = False")

        def keep_true(text: str) -> None:
            name = self.atom(text)
            with self.w.block(f"if {self.truth_of(name)}:"):
                self.w.write(f"{found} = True")
                then(name)

        self.each(node.left, scope, given, Then(keep_true))
        with self.w.block(f"if not {found}:"):
            self.each(node.right, scope, given, then)

    def _tries(self, node: Try, scope: Scope, given: str, then: Then) -> None:
        if self.count(node.body, scope) != MANY:
            self._try_one(node, scope, given, then)
            return
        if not isinstance(then, Then) or not self._is_yield(then):
            # What happens downstream must not be caught: the body becomes a generator.
            self.pulled(node, scope, given, then)
            return
        error = self.w.name("e")
        with self.w.block("try:", counts=True):
            self.each(node.body, scope, given, then)
        with self.w.block(f"except {self.caught} as {error}:", counts=True):
            self._handle(node.handler, scope, error, then)

    @staticmethod
    def _is_yield(then: Then) -> bool:
        return then.yields

    def _handle(self, handler: Node | None, scope: Scope, error: str, then: Then) -> None:
        if handler is not None:
            caught = self.atom(f"caught({error})")
            self.each(handler, scope, caught, then)

    def _try_one(self, node: Try, scope: Scope, given: str, then: Then) -> None:
        """Write a try whose body has one output at most; what follows stands behind it."""
        name, error = self.w.name(), self.w.name("e")
        keep = Then(lambda text: self.w.write(f"{name} = {text}"), cheap=True)
        handler_count = ONE if node.handler is None else self.count(node.handler, scope)
        if handler_count == MANY and not (then.cheap and then.yields):
            self.pulled(node, scope, given, then)
            return
        if self.count(node.body, scope) == MAYBE:
            self.w.write(f"{name} = NOTHING")
        with self.w.block("try:", counts=True):
            self.each(node.body, scope, given, keep)
        with self.w.block(f"except {self.caught} as {error}:", counts=True):
            self.w.write(f"{name} = NOTHING")
            if handler_count == MANY:
                self._handle(node.handler, scope, error, then)
            else:
                self._handle(node.handler, scope, error, keep)
        with self.w.block(f"if {name} is not NOTHING:"):
            then(name)

    def _label(self, name: str, body: object, scope: Scope) -> None:
        label, error = self.w.name("b"), self.w.name("e")
        self.w.write(f"{label} = Break()")
        with self.w.block("try:", counts=True):
            body(scope.with_label(name, label))  # type: ignore[operator] # a callable over the scope
        head = f"except Break as {error}:"
        with self.w.block(head), self.w.block(f"if {error} is not {label}:"):
            self.w.write("raise")

    # --- given by other parts -----------------------------------------------------------------

    def assign(self, node: Assign, scope: Scope, given: str, then: Then) -> None:
        """Write an assignment."""
        raise NotImplementedError

    def calls(
        self, node: Call, scope: Scope, given: str, then: Then, *, tail: bool = False
    ) -> None:
        """Write code that runs `then` for each output of a call."""
        raise NotImplementedError


def flat(parts: Sequence[Node]) -> list[Node]:
    """Return the stages that a pipe is made of; `.a[].b` is three."""
    found: list[Node] = []
    for part in parts:
        match part:
            case Pipe(_, inner):
                found.extend(flat(inner))
            case Iterate(at, target, optional) if not isinstance(target, Identity):
                found.extend([*flat([target]), Iterate(at, Identity(at), optional)])
            case Index(at, target, Literal() as key, optional) if not isinstance(target, Identity):
                found.extend([*flat([target]), Index(at, Identity(at), key, optional)])
            case _:
                found.append(part)
    return found
