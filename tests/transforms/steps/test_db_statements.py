"""Where the placeholders of a statement are."""

from __future__ import annotations

import pytest

from transforms.steps.db_statements import parse_statement


@pytest.mark.parametrize(
    ("text", "numbered", "numbers"),
    [
        ("select 1", "select 1", ()),
        ("select ?, ?", "select $1, $2", (0, 1)),
        ("select $2, $1, $2;", "select $2, $1, $2", (1, 0, 1)),
        ("select '?', \"a?\", ? -- ?\n /* ? */", None, (0,)),
        ("select 'it''s ?', e'\\'?', $$ ? $$, $f$ ? $f$, ?", None, (0,)),
        ("select a ? 'b' and c ?| $1", "select a ? 'b' and c ?| $1", (0,)),
        ("select a::text[ ], 1/2 - -1, elem, '{}'::int[] ", None, ()),
        ("select a$1 from t", "select a$1 from t", ()),
        ("select ?;  ", "select $1", (0,)),
        ("select ?; -- done", "select $1", (0,)),
    ],
)
def test_placeholders_are_found_where_they_stand_for_values(text, numbered, numbers):
    found = parse_statement(text)

    assert found.numbers == numbers
    if numbered is not None:
        assert found.numbered() == numbered
    assert found.marked().count("?") >= len(numbers)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("select 1; select 2", "one statement"),
        ("select $1, $3", "without a gap"),
        ("select $0", "without a gap"),
        (" -- nothing", "a statement"),
        ("  ", "a statement"),
    ],
)
def test_what_is_not_one_statement_is_refused(text, said):
    with pytest.raises(ValueError, match=said):
        parse_statement(text)
