"""The rules of compatibility: their names, which of them break readers, and what they say.

The names are those of Confluent's Schema Registry, so that its users and tools know them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

Level = Literal[
    "BACKWARD",
    "BACKWARD_TRANSITIVE",
    "FORWARD",
    "FORWARD_TRANSITIVE",
    "FULL",
    "FULL_TRANSITIVE",
    "NONE",
]
"""How versions of a subject must be compatible."""
LEVELS: tuple[Level, ...] = get_args(Level)

DEFAULT_LEVEL: Level = "BACKWARD"

COMPATIBLE = frozenset(
    {
        "ID_CHANGED",
        "DESCRIPTION_CHANGED",
        "TITLE_CHANGED",
        "DEFAULT_CHANGED",
        "SCHEMA_REMOVED",
        "TYPE_EXTENDED",
        "MAX_LENGTH_INCREASED",
        "MAX_LENGTH_REMOVED",
        "MIN_LENGTH_DECREASED",
        "MIN_LENGTH_REMOVED",
        "PATTERN_REMOVED",
        "MAXIMUM_INCREASED",
        "MAXIMUM_REMOVED",
        "MINIMUM_DECREASED",
        "MINIMUM_REMOVED",
        "EXCLUSIVE_MAXIMUM_INCREASED",
        "EXCLUSIVE_MAXIMUM_REMOVED",
        "EXCLUSIVE_MINIMUM_DECREASED",
        "EXCLUSIVE_MINIMUM_REMOVED",
        "MULTIPLE_OF_REDUCED",
        "MULTIPLE_OF_REMOVED",
        "REQUIRED_ATTRIBUTE_WITH_DEFAULT_ADDED",
        "REQUIRED_ATTRIBUTE_REMOVED",
        "DEPENDENCY_ARRAY_NARROWED",
        "DEPENDENCY_ARRAY_REMOVED",
        "DEPENDENCY_SCHEMA_REMOVED",
        "MAX_PROPERTIES_INCREASED",
        "MAX_PROPERTIES_REMOVED",
        "MIN_PROPERTIES_DECREASED",
        "MIN_PROPERTIES_REMOVED",
        "ADDITIONAL_PROPERTIES_ADDED",
        "ADDITIONAL_PROPERTIES_EXTENDED",
        "UNEVALUATED_PROPERTIES_ADDED",
        "UNEVALUATED_PROPERTIES_EXTENDED",
        "PROPERTY_WITH_EMPTY_SCHEMA_ADDED_TO_OPEN_CONTENT_MODEL",
        "REQUIRED_PROPERTY_WITH_DEFAULT_ADDED_TO_UNOPEN_CONTENT_MODEL",
        "OPTIONAL_PROPERTY_ADDED_TO_UNOPEN_CONTENT_MODEL",
        "PROPERTY_WITH_FALSE_REMOVED_FROM_CLOSED_CONTENT_MODEL",
        "PROPERTY_REMOVED_FROM_OPEN_CONTENT_MODEL",
        "PROPERTY_ADDED_IS_COVERED_BY_PARTIALLY_OPEN_CONTENT_MODEL",
        "PROPERTY_REMOVED_IS_COVERED_BY_PARTIALLY_OPEN_CONTENT_MODEL",
        "MAX_ITEMS_INCREASED",
        "MAX_ITEMS_REMOVED",
        "MIN_ITEMS_DECREASED",
        "MIN_ITEMS_REMOVED",
        "MAX_CONTAINS_INCREASED",
        "MAX_CONTAINS_REMOVED",
        "MIN_CONTAINS_DECREASED",
        "MIN_CONTAINS_REMOVED",
        "UNIQUE_ITEMS_REMOVED",
        "ADDITIONAL_ITEMS_ADDED",
        "ADDITIONAL_ITEMS_EXTENDED",
        "UNEVALUATED_ITEMS_ADDED",
        "UNEVALUATED_ITEMS_EXTENDED",
        "ITEM_WITH_EMPTY_SCHEMA_ADDED_TO_OPEN_CONTENT_MODEL",
        "ITEM_ADDED_TO_CLOSED_CONTENT_MODEL",
        "ITEM_WITH_FALSE_REMOVED_FROM_CLOSED_CONTENT_MODEL",
        "ITEM_REMOVED_FROM_OPEN_CONTENT_MODEL",
        "ITEM_ADDED_IS_COVERED_BY_PARTIALLY_OPEN_CONTENT_MODEL",
        "ITEM_REMOVED_IS_COVERED_BY_PARTIALLY_OPEN_CONTENT_MODEL",
        "ENUM_ARRAY_EXTENDED",
        "COMBINED_TYPE_EXTENDED",
        "PRODUCT_TYPE_NARROWED",
        "SUM_TYPE_EXTENDED",
        "NOT_TYPE_NARROWED",
    }
)
"""Changes after which the newer schema still takes whatever the older one took."""

_WORDS = {
    "SCHEMA_ADDED": "what was not checked is checked",
    "TYPE_CHANGED": "the type is another",
    "TYPE_NARROWED": "a number that is no integer is no longer taken",
    "REQUIRED_ATTRIBUTE_ADDED": "the property has become required and has no default",
    "REQUIRED_PROPERTY_ADDED_TO_OPEN_CONTENT_MODEL": "the property is new, required, and has no"
    " default",
    "REQUIRED_PROPERTY_WITH_DEFAULT_ADDED_TO_OPEN_CONTENT_MODEL": "the property is new, and where"
    " other properties were allowed, data may hold anything under its name",
    "OPTIONAL_PROPERTY_ADDED_TO_OPEN_CONTENT_MODEL": "the property is new, and where other"
    " properties were allowed, data may hold anything under its name",
    "REQUIRED_PROPERTY_ADDED_TO_UNOPEN_CONTENT_MODEL": "the property is new, required, and has no"
    " default",
    "PROPERTY_REMOVED_FROM_CLOSED_CONTENT_MODEL": "the property is gone, and no other properties"
    " are allowed",
    "PROPERTY_REMOVED_NOT_COVERED_BY_PARTIALLY_OPEN_CONTENT_MODEL": "the property is gone, and what"
    " is checked of other properties does not take what it held",
    "PROPERTY_ADDED_NOT_COVERED_BY_PARTIALLY_OPEN_CONTENT_MODEL": "the property is new, and does"
    " not take all that other properties could hold",
    "ADDITIONAL_PROPERTIES_REMOVED": "other properties are no longer allowed",
    "ADDITIONAL_PROPERTIES_NARROWED": "other properties are checked now",
    "UNEVALUATED_PROPERTIES_REMOVED": "other properties are no longer allowed",
    "UNEVALUATED_PROPERTIES_NARROWED": "other properties are checked now",
    "ADDITIONAL_ITEMS_REMOVED": "further items are no longer allowed",
    "ADDITIONAL_ITEMS_NARROWED": "further items are checked now",
    "UNEVALUATED_ITEMS_REMOVED": "further items are no longer allowed",
    "UNEVALUATED_ITEMS_NARROWED": "further items are checked now",
    "ITEM_ADDED_TO_OPEN_CONTENT_MODEL": "the item is new, and anything could stand there",
    "ITEM_ADDED_NOT_COVERED_BY_PARTIALLY_OPEN_CONTENT_MODEL": "the item is new, and does not take"
    " all that could stand there",
    "ITEM_REMOVED_FROM_CLOSED_CONTENT_MODEL": "the item is gone, and no further ones are allowed",
    "ITEM_REMOVED_NOT_COVERED_BY_PARTIALLY_OPEN_CONTENT_MODEL": "the item is gone, and what is"
    " checked of further ones does not take what it held",
    "UNIQUE_ITEMS_ADDED": "items must differ now",
    "ENUM_ARRAY_NARROWED": "some values are no longer taken",
    "ENUM_ARRAY_CHANGED": "the values are others",
    "DEPENDENCY_ARRAY_EXTENDED": "the property needs more others beside it",
    "COMBINED_TYPE_CHANGED": "alternatives are put together in another way",
    "COMBINED_TYPE_SUBSCHEMAS_CHANGED": "an alternative takes less, or is gone",
    "PRODUCT_TYPE_EXTENDED": "there is one schema more that must fit",
    "SUM_TYPE_NARROWED": "there is an alternative less",
    "NOT_TYPE_EXTENDED": "more is refused",
}

_ENDINGS = {
    "_ADDED": "this check is new",
    "_INCREASED": "it is more than it was",
    "_DECREASED": "it is less than it was",
    "_EXPANDED": "it is a multiple of what it was",
    "_CHANGED": "it is another than it was",
}


@dataclass(frozen=True, slots=True)
class Difference:
    """One change between two schemas, as somebody who reads with the newer one sees it."""

    rule: str
    path: tuple[str, ...]

    @property
    def compatible(self) -> bool:
        """Whether what the older schema took is still taken, as far as this change goes."""
        return self.rule in COMPATIBLE

    @property
    def pointer(self) -> str:
        """Return where it is, as a JSON pointer (RFC 6901) into the schema."""
        return "".join(f"/{part.replace('~', '~0').replace('/', '~1')}" for part in self.path)

    @property
    def words(self) -> str:
        """Return what it means, for people."""
        if self.rule in _WORDS:
            return _WORDS[self.rule]
        if not self.compatible:
            for ending, words in _ENDINGS.items():
                if self.rule.endswith(ending):
                    return words
        return self.rule.lower().replace("_", " ")

    def __str__(self) -> str:
        return f"{self.rule} at {self.pointer or '/'}: {self.words}"
