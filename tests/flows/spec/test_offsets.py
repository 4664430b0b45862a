"""Where in the file a character of a value stands, in every style that YAML has."""

from __future__ import annotations

import pytest

from flows.spec.nodes import Mapping
from flows.spec.offsets import place_of
from flows.spec.problems import Problems
from flows.spec.source import read_text
from flows.spec.substitution import substitute


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("k: .a | X.b\n", (1, 9)),
        ("k: '.a | X.b'\n", (1, 10)),
        ("k: 'it''s X.b'\n", (1, 11)),
        ('k: ".a \\"q\\" X"\n', (1, 14)),
        ('k: "\\u00e9\\n\\tX"\n', (1, 15)),
        ("k: |\n  .a\n  | X\n", (3, 5)),
        ("k: |\n  {\n    b: X,\n  }\n", (3, 8)),
        ("k: |-\n\n    .a\n      | X\n", (4, 9)),
        ("k: >\n  .a\n  | b\n  | X\n", (4, 5)),
        ("k: >-\n  .a |\n    more\n  X\n", (4, 3)),
        ("k: .a\n  | X\n", (2, 5)),
        ("k: |2\n    .a X\n", (2, 8)),
    ],
)
def test_the_place_of_a_character_is_found(text, place):
    (tree,) = read_text(text, "flow.yaml", Problems())
    assert isinstance(tree, Mapping)
    scalar = tree.text("k")
    found = place_of(scalar, scalar.value.index("X"))
    assert (found.line, found.column) == place


def test_the_end_of_a_text_is_the_place_after_its_last_character():
    (tree,) = read_text("k: |\n  .a +\n", "flow.yaml", Problems())
    scalar = tree.text("k")
    assert (place_of(scalar, len(scalar.value)).line, place_of(scalar, 4).column) == (2, 7)


def test_what_was_substituted_before_it_does_not_move_the_place():
    problems = Problems()
    (tree,) = read_text("k: '.a ${LONG} $${ ${S} X'\n", "flow.yaml", problems)
    substitute(tree, {"LONG": "x" * 40, "S": "y"}, problems)
    scalar = tree.text("k")
    assert scalar.value == f".a {'x' * 40} ${{ y X"
    assert place_of(scalar, scalar.value.index("X")).column == 25
    assert place_of(scalar, scalar.value.index("xx") + 9).column == 8
