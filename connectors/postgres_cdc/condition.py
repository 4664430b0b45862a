"""`filter.condition`: SQL over OLD and NEW, parsed by sqlglot and compiled to Python.

Three-valued logic as SQL has it: NULL is None, and a condition holds only where it is true. Values
are compared as their types do: integers, numeric (Decimal), floats, booleans, dates and timestamps
by value, everything else as text; a literal takes the type of what it is compared with.

The compiler is a table from a node of sqlglot's tree to a closure; a node that isn't in it is
refused when the flow is loaded. OLD's or NEW's column that the server did not send makes the
condition unknowable (`Unknowable`), and the change is then kept: nothing is dropped on a guess.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Mapping
from datetime import date, datetime, timezone
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any

from connectors.postgres_cdc.pgoutput import ABSENT

if TYPE_CHECKING:
    from sqlglot import expressions as exp


class ConditionError(ValueError):
    """The condition can't be used; the text says what and where."""


class Unknowable(Exception):  # noqa: N818 - not a fault: the server did not send the value
    """A column that the condition reads was not sent with this change."""


Row = Mapping[str, Any] | None
"""Column → typed value (None: NULL; ABSENT: not sent); no row at all is None."""

Evaluate = Callable[[Row, Row], Any]

_ARGUMENTS = frozenset(
    (
        *("this", "expression", "expressions", "low", "high", "to", "table"),
        *("quoted", "is_string", "negate"),
        # How `/` and `||` work in PostgreSQL, which is what is compiled.
        *("typed", "safe"),
    )
)
"""Arguments of sqlglot's nodes that are compiled; a node with another one is refused."""


def _parse(text: str) -> exp.Expr:
    # Imported where a condition is used only: it costs 10 MB.
    from sqlglot import ParseError, parse_one  # noqa: PLC0415
    from sqlglot.errors import TokenError  # noqa: PLC0415

    try:
        return parse_one(text, dialect="postgres")
    except (ParseError, TokenError) as error:
        first = error.errors[0] if isinstance(error, ParseError) and error.errors else {}
        place = f" at column {first['col']}" if first.get("col") else ""
        reason = str(first.get("description") or error).split("\n")[0].rstrip(".")
        raise ConditionError(f"the condition is not SQL{place}: {reason}") from error


class Condition:
    """A compiled condition. Raises ConditionError for SQL that it can't evaluate."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.old_columns: set[str] = set()
        self.new_columns: set[str] = set()
        self._evaluate = self._compile(_parse(text))

    def holds(self, old: Row, new: Row) -> bool:
        """Whether the change passes: true, not false and not NULL; kept where it can't be known."""
        try:
            return self._evaluate(old, new) is True
        except Unknowable:
            return True

    def _column(self, node: exp.Column) -> Evaluate:
        row = node.table.upper()
        # Unquoted names are folded to lower case, as the server does.
        name = node.name if node.this.quoted else node.name.lower()
        if row not in ("OLD", "NEW") or node.args.get("db"):
            raise ConditionError(
                f"{node.sql('postgres')}: a column is written OLD.<column> or NEW.<column>"
            )
        (self.old_columns if row == "OLD" else self.new_columns).add(name)

        def read(old: Row, new: Row) -> Any:
            found = old if row == "OLD" else new
            if found is None:
                return None
            value = found.get(name, ABSENT)
            if value is ABSENT:
                raise Unknowable
            return value

        return read

    def _compile(self, node: exp.Expr) -> Evaluate:
        # An argument that isn't looked at would change what the SQL means without a word.
        odd = [name for name, value in node.args.items() if value and name not in _ARGUMENTS]
        if odd:
            raise ConditionError(
                f"{node.sql('postgres')}: {', '.join(sorted(odd))} can't be used in a condition"
            )
        evaluate = self._compile_node(node)
        # NOT LIKE and IS NOT NULL: a node of its own before sqlglot 28, an argument since.
        return _strict(operator.not_, evaluate) if node.args.get("negate") else evaluate

    def _compile_node(self, node: exp.Expr) -> Evaluate:
        from sqlglot import expressions as exp  # noqa: PLC0415

        compile_one = self._compile
        match node:
            case exp.Paren():
                return compile_one(node.this)
            case exp.Column():
                return self._column(node)
            case exp.Null():
                return lambda _old, _new: None
            case exp.Boolean():
                truth = bool(node.this)
                return lambda _old, _new: truth
            case exp.Literal():
                literal = _Text(node.this) if node.is_string else _number(node.this)
                return lambda _old, _new: literal
            case exp.And() | exp.Or():
                sides = [compile_one(side) for side in (node.this, node.args["expression"])]
                return _connect(node.key, *sides)
            case exp.Not():
                inner = compile_one(node.this)
                return _strict(operator.not_, inner)
            case exp.Is():
                return self._is(node)
            case exp.NullSafeEQ() | exp.NullSafeNEQ():
                left, right = compile_one(node.this), compile_one(node.args["expression"])
                distinct = isinstance(node, exp.NullSafeNEQ)
                return lambda old, new: _distinct(left(old, new), right(old, new)) is distinct
            case exp.In():
                return self._in(node)
            case exp.Between():
                value = compile_one(node.this)
                low, high = compile_one(node.args["low"]), compile_one(node.args["high"])
                return _connect("and", _compare("gte", value, low), _compare("lte", value, high))
            case exp.Like() | exp.ILike():
                value, pattern = compile_one(node.this), compile_one(node.expression)
                fold = isinstance(node, exp.ILike)
                return _strict(lambda text, like: _like(text, like, fold=fold), value, pattern)
            case exp.Coalesce():
                options = [compile_one(one) for one in [node.this, *node.expressions]]
                return lambda old, new: next(
                    (found for one in options if (found := one(old, new)) is not None), None
                )
            case exp.Cast():
                return self._cast(node)
            case _ if node.key in _COMPARISONS:
                sides = [compile_one(side) for side in (node.this, node.args["expression"])]
                return _compare(node.key, *sides)
            case _ if node.key in _ARITHMETIC:
                sides = [compile_one(side) for side in (node.this, node.args["expression"])]
                return _arithmetic(node.key, *sides)
            case _ if node.key in _FUNCTIONS:
                return _strict(_FUNCTIONS[node.key], compile_one(node.this))
            case _:
                raise ConditionError(
                    f"{node.sql('postgres')}: {node.key} can't be used in a condition; comparisons, "
                    "AND, OR, NOT, IS [NOT] NULL, IS [NOT] DISTINCT FROM, IN, BETWEEN, [I]LIKE, "
                    "arithmetic, ||, casts, COALESCE, LOWER, UPPER, LENGTH and ABS can"
                )

    def _is(self, node: exp.Is) -> Evaluate:
        from sqlglot import expressions as exp  # noqa: PLC0415

        value = self._compile(node.this)
        match node.expression:
            case exp.Null():
                return lambda old, new: value(old, new) is None
            case exp.Boolean():
                truth = bool(node.expression.this)
                return lambda old, new: value(old, new) is truth
            case _:
                raise ConditionError(f"{node.sql('postgres')}: IS takes NULL, TRUE or FALSE")

    def _in(self, node: exp.In) -> Evaluate:
        if not node.expressions:
            raise ConditionError(f"{node.sql('postgres')}: IN takes a list of values")
        value = self._compile(node.this)
        tests = [_compare("eq", value, self._compile(one)) for one in node.expressions]
        whole = tests[0]
        for test in tests[1:]:
            whole = _connect("or", whole, test)
        return whole

    def _cast(self, node: exp.Cast) -> Evaluate:
        name = node.to.sql("postgres").upper()
        convert = _CASTS.get(name)
        if convert is None:
            raise ConditionError(
                f"{node.sql('postgres')}: a cast to {name} can't be used in a condition; to "
                f"{', '.join(sorted(_CASTS))} it can"
            )
        return _strict(convert, self._compile(node.this))


class _Text(str):
    """A string literal: it takes the type of what it is compared with."""

    __slots__ = ()


def _number(text: str) -> int | Decimal:
    return int(text) if text.isdigit() else Decimal(text)


def _strict(function: Callable[..., Any], *arguments: Evaluate) -> Evaluate:
    """Return NULL where an argument is NULL, else what the function returns."""
    if len(arguments) == 1:
        (only,) = arguments

        def one(old: Row, new: Row) -> Any:
            value = only(old, new)
            return None if value is None else function(value)

        return one

    def several(old: Row, new: Row) -> Any:
        values = [argument(old, new) for argument in arguments]
        return None if any(value is None for value in values) else function(*values)

    return several


def _connect(key: str, left: Evaluate, right: Evaluate) -> Evaluate:
    """AND and OR of three-valued logic: false AND NULL is false, true OR NULL is true."""
    decides = key == "or"

    def run(old: Row, new: Row) -> bool | None:
        # A side that can't be known doesn't matter where the other one decides.
        unknowable = None
        sides: list[Any] = []
        for side in (left, right):
            try:
                value = side(old, new)
            except Unknowable as error:
                unknowable = error
                continue
            if value is decides:
                return bool(decides)
            sides.append(value)
        if unknowable is not None:
            raise unknowable
        return None if None in sides else not decides

    return run


def typed(kind: str, type_name: str, text: bytes) -> Any:
    """Return the value of a column's text as conditions compare it."""
    if kind == "integer":
        return int(text)
    if kind == "bool":
        return text == b"t"
    value = text.decode(errors="replace")
    if kind == "float":
        return float(value)
    if kind in ("timestamp", "timestamptz"):
        return _timestamp(value)
    if type_name == "numeric":
        return Decimal(value)
    if type_name == "date":
        return _date(value)
    return value.rstrip(" ") if type_name == "bpchar" else value


def _date(text: str) -> date | str:
    try:
        return date.fromisoformat(text)
    except ValueError:
        return text


def _timestamp(text: str) -> datetime | str:
    """Return a time in UTC; infinity, BC and years past 9999 stay text."""
    cleaned = text.replace("Z", "+00:00")
    cleaned = re.sub(r"([+-]\d\d)$", r"\1:00", cleaned)
    cleaned = re.sub(r"\.(\d{1,6})", lambda found: "." + found[1].ljust(6, "0"), cleaned)
    try:
        found = datetime.fromisoformat(cleaned)
    except ValueError:
        return text
    return found.replace(tzinfo=timezone.utc) if found.tzinfo is None else found


_EXTREMES = {"infinity": 1, "-infinity": -1}


def _align(left: Any, right: Any) -> tuple[Any, Any]:
    """Bring two values to types that compare with each other."""
    if isinstance(right, _Text) and not isinstance(left, _Text):
        return left, _as(left, right)
    if isinstance(left, _Text) and not isinstance(right, _Text):
        return _as(right, left), right
    if isinstance(left, datetime) is not isinstance(right, datetime):
        return _widen(left), _widen(right)
    if isinstance(left, float) and isinstance(right, Decimal):
        return left, float(right)
    if isinstance(left, Decimal) and isinstance(right, float):
        return float(left), right
    return left, right


def _widen(value: Any) -> Any:
    if isinstance(value, date) and not isinstance(value, datetime):
        return datetime(value.year, value.month, value.day, tzinfo=timezone.utc)
    return value


def _as(like: Any, text: str) -> Any:
    """Return a literal as the type of `like`; as text where it isn't one."""
    try:
        match like:
            case bool():
                return _boolean(text)
            case int() | Decimal():
                return Decimal(text)
            case float():
                return float(text)
            case datetime():
                return _timestamp(text)
            case date():
                return _date(text)
            case _:
                return str(text)
    except (ValueError, InvalidOperation):
        return str(text)


def _rank(value: Any) -> Any:
    """Return a sort key in which NaN equals itself and is greatest, as the server has it."""
    if isinstance(value, (float, Decimal)) and math.isnan(value):
        return (1, 0)
    return (0, value)


def _order(left: Any, right: Any) -> int | None:
    """Return -1, 0 or 1; None for values that have no order between them."""
    left, right = _align(left, right)
    if isinstance(left, (float, Decimal)) or isinstance(right, (float, Decimal)):
        left, right = _rank(left), _rank(right)
    elif isinstance(left, date) and isinstance(right, str):
        return -_EXTREMES.get(right, 1 if not right.endswith("BC") else -1)
    elif isinstance(right, date) and isinstance(left, str):
        return _EXTREMES.get(left, 1 if not left.endswith("BC") else -1)
    try:
        return int(left > right) - int(left < right)
    except TypeError:
        return None


_COMPARISONS: Mapping[str, Callable[[int], bool]] = {
    "eq": lambda order: order == 0,
    "neq": lambda order: order != 0,
    "gt": lambda order: order > 0,
    "gte": lambda order: order >= 0,
    "lt": lambda order: order < 0,
    "lte": lambda order: order <= 0,
}


def _compare(key: str, left: Evaluate, right: Evaluate) -> Evaluate:
    test = _COMPARISONS[key]

    def compare(one: Any, other: Any) -> bool:
        order = _order(one, other)
        return test(order) if order is not None else key == "neq"

    return _strict(compare, left, right)


def _distinct(left: Any, right: Any) -> bool:
    if left is None or right is None:
        return left is not right
    return _order(left, right) != 0


def _like(text: Any, pattern: Any, *, fold: bool) -> bool:
    """LIKE: % any text, _ one character, backslash takes the next as it is."""
    parts = []
    characters = iter(str(pattern))
    for character in characters:
        if character == "\\":
            parts.append(re.escape(next(characters, "\\")))
        else:
            parts.append({"%": ".*", "_": "."}.get(character) or re.escape(character))
    flags = re.DOTALL | (re.IGNORECASE if fold else 0)
    return re.fullmatch("".join(parts), str(text), flags) is not None


def _divide(left: Any, right: Any) -> Any:
    if right == 0:
        return None
    if isinstance(left, int) and isinstance(right, int):
        whole = abs(left) // abs(right)
        return whole if (left < 0) is (right < 0) else -whole
    return left / right


def _modulo(left: Any, right: Any) -> Any:
    if right == 0:
        return None
    rest = abs(left) % abs(right)
    return -rest if left < 0 else rest


_ARITHMETIC: Mapping[str, Callable[[Any, Any], Any]] = {
    "add": operator.add,
    "sub": operator.sub,
    "mul": operator.mul,
    "div": _divide,
    "mod": _modulo,
    "dpipe": lambda left, right: str(left) + str(right),
}


def _arithmetic(key: str, left: Evaluate, right: Evaluate) -> Evaluate:
    function = _ARITHMETIC[key]

    def run(one: Any, other: Any) -> Any:
        if key != "dpipe":
            one, other = _align(one, other)
        try:
            return function(one, other)
        except (TypeError, ArithmeticError) as error:
            # What the server would refuse decides nothing: the change is kept.
            raise Unknowable from error

    return _strict(run, left, right)


def _integer(value: Any) -> Any:
    try:
        return round(Decimal(str(value)))
    except (ArithmeticError, ValueError) as error:
        raise Unknowable from error


def _decimal(value: Any) -> Any:
    try:
        return Decimal(str(value))
    except ArithmeticError as error:
        raise Unknowable from error


def _float(value: Any) -> Any:
    try:
        return float(value)
    except ValueError as error:
        raise Unknowable from error


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def _boolean(value: Any) -> bool:
    return (
        value if isinstance(value, bool) else str(value).lower() in ("t", "true", "1", "yes", "on")
    )


_CASTS: Mapping[str, Callable[[Any], Any]] = {
    "INT": _integer,
    "BIGINT": _integer,
    "SMALLINT": _integer,
    "DECIMAL": _decimal,
    "NUMERIC": _decimal,
    "DOUBLE PRECISION": _float,
    "REAL": _float,
    "TEXT": _text,
    "VARCHAR": _text,
    "BOOLEAN": _boolean,
    "DATE": lambda value: _date(str(value)[:10]),
    "TIMESTAMP": lambda value: _widen(value) if isinstance(value, date) else _timestamp(value),
    "TIMESTAMPTZ": lambda value: _widen(value) if isinstance(value, date) else _timestamp(value),
}

_FUNCTIONS: Mapping[str, Callable[[Any], Any]] = {
    "lower": lambda value: str(value).lower(),
    "upper": lambda value: str(value).upper(),
    "length": lambda value: len(str(value)),
    "abs": abs,
    "neg": operator.neg,
    "trim": lambda value: str(value).strip(" "),
}
