"""Compares two JSON Schemas: every change, as somebody who reads old data with the newer one sees it.

The rules are Confluent's for JSON Schema. Where they look at nothing, neither does this: `format`,
`contains`, `propertyNames`, `if`, what patternProperties check, and `required` of properties that
`properties` does not name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from schema_registry.documents import Document, canonical
from schema_registry.matching import most_pairs
from schema_registry.patterns import matches
from schema_registry.rules import Difference
from schema_registry.shapes import (
    Anything,
    Array,
    Combined,
    Const,
    Enum,
    Node,
    Not,
    Nothing,
    Number,
    Object,
    Reader,
    Shape,
    Text,
)
from schema_registry.validation import SchemaError

DEEPEST = 100
"""Schemas within schemas that are compared, `$ref`s followed."""

MOST_PAIRS = 100_000
"""Pairs of schemas that one comparison looks at: seconds of work."""

_MOST_SHOWN = 500
"""Differences that are listed; that there is an incompatible one is known in any case."""

_SIZE_RULES = {
    "maxLength": "MAX_LENGTH",
    "minLength": "MIN_LENGTH",
    "maximum": "MAXIMUM",
    "minimum": "MINIMUM",
    "exclusiveMaximum": "EXCLUSIVE_MAXIMUM",
    "exclusiveMinimum": "EXCLUSIVE_MINIMUM",
    "maxProperties": "MAX_PROPERTIES",
    "minProperties": "MIN_PROPERTIES",
    "maxItems": "MAX_ITEMS",
    "minItems": "MIN_ITEMS",
    "maxContains": "MAX_CONTAINS",
    "minContains": "MIN_CONTAINS",
}

_NOTE_RULES = ("ID_CHANGED", "TITLE_CHANGED", "DESCRIPTION_CHANGED", "DEFAULT_CHANGED")

_Path = tuple[str, ...]
_Pair = tuple[int, int]


def compare(older: Document, newer: Document) -> list[Difference]:
    """Return the changes from `older` to `newer`, those that break nothing too.

    Raises SchemaError for a `$ref` that leads nowhere, and where it would take too long.
    """
    # A pair that is met again while it is being compared is a cycle, and taken to be compatible. If it
    # turns out not to be, another pass starts from there; each pass finds more such pairs, or is the last.
    reader, broken, looked_at = Reader(), dict[_Pair, list[Difference]](), 0
    while True:
        comparison = _Comparison(reader, broken, MOST_PAIRS - looked_at)
        found = comparison.pair(reader.shape(older.root), reader.shape(newer.root))
        now_broken = {pair: diffs for pair, diffs in comparison.done.items() if _breaks(diffs)}
        if not comparison.assumed or now_broken.keys() == broken.keys():
            return found
        broken, looked_at = now_broken, looked_at + len(comparison.done)


def _breaks(differences: Sequence[Difference]) -> bool:
    return any(not each.compatible for each in differences)


class _Found:
    """Differences found so far; of very many, the first ones."""

    __slots__ = ("broken", "differences")

    def __init__(self) -> None:
        self.differences: list[Difference] = []
        self.broken = False

    def add(self, rule: str, path: _Path) -> None:
        self.take(Difference(rule, path))

    def take(self, difference: Difference) -> None:
        first_broken = not self.broken and not difference.compatible
        if first_broken or len(self.differences) < _MOST_SHOWN:
            self.differences.append(difference)
            self.broken |= first_broken


class _Comparison:
    """One pass over both schemas. Paths are relative to the pair that is being compared."""

    def __init__(self, reader: Reader, broken: Mapping[_Pair, list[Difference]], most: int) -> None:
        self._reader = reader
        self._broken = broken
        self._most = most
        self._open: set[_Pair] = set()
        self.done: dict[_Pair, list[Difference]] = {}
        self.assumed = False
        """Whether a cycle was taken to be compatible."""

    def pair(self, older: Shape, newer: Shape) -> list[Difference]:
        """Compare two shapes, once."""
        key = (id(older), id(newer))
        known = self.done.get(key)
        if known is not None:
            return known
        if key in self._open:
            self.assumed |= key not in self._broken
            return self._broken.get(key, [])
        if len(self._open) >= DEEPEST or len(self.done) >= self._most:
            raise SchemaError(
                "the schemas are too deep or too entangled to be compared.",
                (),
                hint="Split them, or set the subject's compatibility to NONE.",
            )
        self._open.add(key)
        found = _Found()
        self._shapes(older, newer, found)
        self._open.remove(key)
        self.done[key] = found.differences
        return found.differences

    def _nodes(self, older: Node | None, newer: Node | None, path: _Path, found: _Found) -> None:
        if older is None or newer is None:
            if older is not newer:
                found.add("SCHEMA_ADDED" if older is None else "SCHEMA_REMOVED", path)
            return
        for each in self.pair(self._reader.shape(older), self._reader.shape(newer)):
            found.take(Difference(each.rule, path + each.path) if path else each)

    def _tried(self, older: Node, newer: Node, path: _Path = ()) -> _Found:
        """Compare on trial."""
        found = _Found()
        self._nodes(older, newer, path, found)
        return found

    def _shapes(self, older: Shape, newer: Shape, found: _Found) -> None:
        if self._one_of_many(older, newer, found):
            return
        if type(older) is not type(newer):
            both_bytes = older.connect_type == newer.connect_type == "bytes"
            if not (isinstance(older, Nothing) or isinstance(newer, Anything) or both_bytes):
                found.add("TYPE_CHANGED", ())
            return
        for rule, before, after in zip(_NOTE_RULES, older.notes, newer.notes, strict=True):
            if before != after:
                found.add(rule, ())
        match older, newer:
            case Text(), Text():
                _sizes(older.limits, newer.limits, found)
                _pattern(older.pattern, newer.pattern, found)
            case Number(), Number():
                _numbers(older, newer, found)
            case Enum(), Enum():
                _values(older.values, newer.values, found)
            case Const(), Const():
                if older.value != newer.value:
                    found.add("ENUM_ARRAY_CHANGED", ("const",))
            case Combined(), Combined():
                self._combined(older, newer, found)
            case Not(), Not():
                wider = self._tried(newer.refused, older.refused).broken
                found.add("NOT_TYPE_EXTENDED" if wider else "NOT_TYPE_NARROWED", ("not",))
            case Object(), Object():
                self._objects(older, newer, found)
            case Array(), Array():
                self._arrays(older, newer, found)
            case _:
                pass  # booleans, nulls, and conditions: alike

    def _one_of_many(self, older: Shape, newer: Shape, found: _Found) -> bool:
        """Compare a schema with the one of a combination's parts that it fits, if there is one."""
        if isinstance(older, Combined) == isinstance(newer, Combined):
            return False
        widened = isinstance(newer, Combined)
        whole = newer if isinstance(newer, Combined) else older
        assert isinstance(whole, Combined)  # noqa: S101 - one of the two is
        single = len(whole.parts) == 1
        if not single and (whole.criterion == "allOf") == widened:
            return False
        for part in whole.parts:
            tried = self._tried(older, part) if widened else self._tried(part, newer)
            if not tried.broken:
                found.differences += tried.differences
                if not single:
                    found.add("SUM_TYPE_EXTENDED" if widened else "PRODUCT_TYPE_NARROWED", ())
                return True
        return False

    def _combined(self, older: Combined, newer: Combined, found: _Found) -> None:
        rule = _criteria(older, newer)
        if rule is not None:
            found.add(rule, ())
            if rule == "COMBINED_TYPE_CHANGED":
                return
        before, after = _distinct(older.parts), _distinct(newer.parts)
        if len(before) < len(after):
            all_of = newer.criterion == "allOf"
            found.add("PRODUCT_TYPE_EXTENDED" if all_of else "SUM_TYPE_EXTENDED", ())
        elif len(before) > len(after):
            all_of = older.criterion == "allOf"
            found.add("PRODUCT_TYPE_NARROWED" if all_of else "SUM_TYPE_NARROWED", ())
        fitting: dict[int, dict[int, _Found]] = {}
        for row, part in enumerate(before):
            fitting[row] = {}
            for column, other in enumerate(after):
                tried = self._tried(part, other, (older.criterion, str(row)))
                if not tried.broken:
                    fitting[row][column] = tried
        matched = most_pairs(fitting)
        for row, column in sorted(matched.items()):
            for each in fitting[row][column].differences:
                found.take(each)
        if len(matched) < min(len(before), len(after)):
            found.add("COMBINED_TYPE_SUBSCHEMAS_CHANGED", ())

    def _objects(self, older: Object, newer: Object, found: _Found) -> None:
        for name in older.properties:
            if name not in newer.properties:
                continue
            if name in older.required and name not in newer.required:
                found.add("REQUIRED_ATTRIBUTE_REMOVED", ("required", name))
            elif name in newer.required and name not in older.required:
                with_default = self._reader.shape(newer.properties[name]).has_default
                rule = "WITH_DEFAULT_ADDED" if with_default else "ADDED"
                found.add(f"REQUIRED_ATTRIBUTE_{rule}", ("required", name))
        for name in dict.fromkeys((*older.properties, *newer.properties)):
            path = ("properties", name)
            if name not in newer.properties:
                self._removed_property(older.properties[name], newer, path, found)
            elif name not in older.properties:
                self._added_property(older, newer, path, found)
            else:
                self._nodes(older.properties[name], newer.properties[name], path, found)
        for name in sorted(older.needs.keys() | newer.needs.keys()):
            kind = _dependency(older.needs.get(name), newer.needs.get(name))
            if kind is not None:
                found.add(f"DEPENDENCY_ARRAY_{kind}", ("dependencies", name))
        for name in sorted(older.needs_schema.keys() | newer.needs_schema.keys()):
            path = ("dependencies", name)
            if name not in newer.needs_schema:
                found.add("DEPENDENCY_SCHEMA_REMOVED", path)
            elif name not in older.needs_schema:
                found.add("DEPENDENCY_SCHEMA_ADDED", path)
            else:
                self._nodes(older.needs_schema[name], newer.needs_schema[name], path, found)
        self._others(older, newer, "additionalProperties", "ADDITIONAL_PROPERTIES", found)
        self._unevaluated(older, newer, "unevaluatedProperties", "UNEVALUATED_PROPERTIES", found)
        _sizes(older.limits, newer.limits, found)

    def _removed_property(self, gone: Node, newer: Object, path: _Path, found: _Found) -> None:
        if self._open_to_all(newer) and not newer.patterns:
            found.add("PROPERTY_REMOVED_FROM_OPEN_CONTENT_MODEL", path)
            return
        cover = self._cover(newer, path[-1])
        if cover is not None:
            self._covered(gone, cover, path, "PROPERTY_REMOVED", found)
        elif isinstance(self._reader.shape(gone), Nothing):
            found.add("PROPERTY_WITH_FALSE_REMOVED_FROM_CLOSED_CONTENT_MODEL", path)
        else:
            found.add("PROPERTY_REMOVED_FROM_CLOSED_CONTENT_MODEL", path)

    def _added_property(self, older: Object, newer: Object, path: _Path, found: _Found) -> None:
        name = path[-1]
        added = self._reader.shape(newer.properties[name])
        required = name in newer.required
        kind = "OPTIONAL_PROPERTY"
        if required:
            kind = "REQUIRED_PROPERTY_WITH_DEFAULT" if added.has_default else "REQUIRED_PROPERTY"
        if self._open_to_all(older) and not older.patterns:
            if isinstance(added, Anything):
                found.add("PROPERTY_WITH_EMPTY_SCHEMA_ADDED_TO_OPEN_CONTENT_MODEL", path)
            else:
                found.add(f"{kind}_ADDED_TO_OPEN_CONTENT_MODEL", path)
            return
        cover = self._cover(older, name)
        if cover is not None:
            self._covered(cover, added, path, "PROPERTY_ADDED", found)
        found.add(f"{kind}_ADDED_TO_UNOPEN_CONTENT_MODEL", path)

    def _open_to_all(self, shape: Object | Array) -> bool:
        """Tell whether anything may stand beside what is named."""
        if shape.others is not True:
            return False
        unevaluated = shape.unevaluated
        return unevaluated is None or isinstance(self._reader.shape(unevaluated), Anything)

    def _covered(self, older: Node, newer: Node, path: _Path, rule: str, found: _Found) -> None:
        """Compare what one side names with what the other wants of all that it does not name."""
        tried = self._tried(older, newer, path)
        for each in tried.differences:
            found.take(each)
        covered = "NOT" if tried.broken else "IS"
        found.add(f"{rule}_{covered}_COVERED_BY_PARTIALLY_OPEN_CONTENT_MODEL", path)

    def _cover(self, shape: Object | Array, name: str = "") -> Node | None:
        """Return what a property or item must fit that is not named; None: it is not allowed."""
        if isinstance(shape, Object):
            for pattern, node in shape.patterns.items():
                if matches(pattern, name):
                    return node
        if not isinstance(shape.others, bool):
            return shape.others
        if shape.others and shape.unevaluated is not None:
            rest = self._reader.shape(shape.unevaluated)
            if not isinstance(rest, (Anything, Nothing)):
                return rest
        return None

    def _arrays(self, older: Array, newer: Array, found: _Found) -> None:
        self._nodes(older.all_items, newer.all_items, ("items",), found)
        for index, (before, after) in enumerate(zip(older.items, newer.items, strict=False)):
            self._nodes(before, after, ("items", str(index)), found)
        shared = min(len(older.items), len(newer.items))
        for index, gone in enumerate(older.items[shared:], shared):
            self._removed_item(gone, newer, ("items", str(index)), found)
        for index, added in enumerate(newer.items[shared:], shared):
            self._added_item(older, added, ("items", str(index)), found)
        self._others(older, newer, "additionalItems", "ADDITIONAL_ITEMS", found)
        self._unevaluated(older, newer, "unevaluatedItems", "UNEVALUATED_ITEMS", found)
        _sizes(older.limits, newer.limits, found)
        if older.unique != newer.unique:
            rule = "UNIQUE_ITEMS_REMOVED" if older.unique else "UNIQUE_ITEMS_ADDED"
            found.add(rule, ("uniqueItems",))

    def _removed_item(self, gone: Node, newer: Array, path: _Path, found: _Found) -> None:
        cover = self._cover(newer)
        if self._open_to_all(newer):
            found.add("ITEM_REMOVED_FROM_OPEN_CONTENT_MODEL", path)
        elif cover is not None:
            self._covered(gone, cover, path, "ITEM_REMOVED", found)
        elif isinstance(self._reader.shape(gone), Nothing):
            found.add("ITEM_WITH_FALSE_REMOVED_FROM_CLOSED_CONTENT_MODEL", path)
        else:
            found.add("ITEM_REMOVED_FROM_CLOSED_CONTENT_MODEL", path)

    def _added_item(self, older: Array, added: Node, path: _Path, found: _Found) -> None:
        cover = self._cover(older)
        if self._open_to_all(older):
            empty = isinstance(self._reader.shape(added), Anything)
            rule = "ITEM_WITH_EMPTY_SCHEMA_ADDED" if empty else "ITEM_ADDED"
            found.add(f"{rule}_TO_OPEN_CONTENT_MODEL", path)
        elif cover is not None:
            self._covered(cover, added, path, "ITEM_ADDED", found)
        else:
            found.add("ITEM_ADDED_TO_CLOSED_CONTENT_MODEL", path)

    def _others(
        self, older: Object | Array, newer: Object | Array, keyword: str, rule: str, found: _Found
    ) -> None:
        before, after = older.others, newer.others
        if (before is False) != (after is False):
            found.add(f"{rule}_ADDED" if before is False else f"{rule}_REMOVED", (keyword,))
        elif isinstance(before, bool) and not isinstance(after, bool):
            found.add(f"{rule}_NARROWED", (keyword,))
        elif isinstance(after, bool) and not isinstance(before, bool):
            found.add(f"{rule}_EXTENDED", (keyword,))
        elif not isinstance(before, bool) and not isinstance(after, bool):
            self._nodes(before, after, (keyword,), found)

    def _width(self, node: Node | None) -> str:
        shape = None if node is None else self._reader.shape(node)
        if isinstance(shape, Nothing):
            return "none"
        return "all" if shape is None or isinstance(shape, Anything) else "some"

    def _unevaluated(
        self, older: Object | Array, newer: Object | Array, keyword: str, rule: str, found: _Found
    ) -> None:
        if older.unevaluated is None and newer.unevaluated is None:
            return
        before, after = self._width(older.unevaluated), self._width(newer.unevaluated)
        if older.unevaluated is None or newer.unevaluated is None:
            closed = (newer if older.unevaluated is None else older).unevaluated
            wider, narrower = ("ADDED", "REMOVED")
            if self._width(closed) != "none":
                wider, narrower = ("EXTENDED", "NARROWED")
            found.add(f"{rule}_{narrower if older.unevaluated is None else wider}", (keyword,))
        elif before != after and "none" in {before, after}:
            found.add(f"{rule}_ADDED" if before == "none" else f"{rule}_REMOVED", (keyword,))
        elif before != after:
            found.add(f"{rule}_NARROWED" if before == "all" else f"{rule}_EXTENDED", (keyword,))
        else:
            self._nodes(older.unevaluated, newer.unevaluated, (keyword,), found)


def _sizes(older: Mapping[str, object], newer: Mapping[str, object], found: _Found) -> None:
    for keyword in dict.fromkeys((*older, *newer)):
        rule, before, after = _SIZE_RULES[keyword], older.get(keyword), newer.get(keyword)
        if before is None:
            found.add(f"{rule}_ADDED", (keyword,))
        elif after is None:
            found.add(f"{rule}_REMOVED", (keyword,))
        elif before != after:
            more = before < after  # type: ignore[operator]  # both are decimals
            found.add(f"{rule}_INCREASED" if more else f"{rule}_DECREASED", (keyword,))


def _pattern(older: str | None, newer: str | None, found: _Found) -> None:
    if older != newer:
        kind = "ADDED" if older is None else "REMOVED" if newer is None else "CHANGED"
        found.add(f"PATTERN_{kind}", ("pattern",))


def _numbers(older: Number, newer: Number, found: _Found) -> None:
    _sizes(older.limits, newer.limits, found)
    before, after = older.multiple_of, newer.multiple_of
    if before != after:
        if before is None or after is None:
            kind = "ADDED" if before is None else "REMOVED"
        elif before and not after % before:
            kind = "EXPANDED"
        elif after and not before % after:
            kind = "REDUCED"
        else:
            kind = "CHANGED"
        found.add(f"MULTIPLE_OF_{kind}", ("multipleOf",))
    if older.integer != newer.integer:
        found.add("TYPE_EXTENDED" if older.integer else "TYPE_NARROWED", ())


def _values(older: frozenset[str], newer: frozenset[str], found: _Found) -> None:
    if older != newer:
        kind = "EXTENDED" if older < newer else "NARROWED" if older > newer else "CHANGED"
        found.add(f"ENUM_ARRAY_{kind}", ("enum",))


def _dependency(older: frozenset[str] | None, newer: frozenset[str] | None) -> str | None:
    if older == newer:
        return None
    if older is None or newer is None:
        return "ADDED" if older is None else "REMOVED"
    return "EXTENDED" if older < newer else "NARROWED" if older > newer else "CHANGED"


def _criteria(older: Combined, newer: Combined) -> str | None:
    if older.criterion == newer.criterion:
        return None
    one_before, one_after = len(older.parts) == 1, len(newer.parts) == 1
    extended = (
        newer.criterion == "anyOf"
        or (one_before and one_after)
        or (one_before and newer.criterion == "oneOf")
        or (one_after and older.criterion == "allOf")
    )
    return "COMBINED_TYPE_EXTENDED" if extended else "COMBINED_TYPE_CHANGED"


def _distinct(parts: Sequence[Node]) -> list[Node]:
    """Return the parts without those that say the same as one before."""
    found: dict[object, Node] = {}
    for part in parts:
        key = (
            part
            if isinstance(part, Shape)
            else (id(part.document), part.base, canonical(part.value))
        )
        found.setdefault(key, part)
    return list(found.values())
