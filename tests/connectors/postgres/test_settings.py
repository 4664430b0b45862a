"""sink.postgres: what its configuration may say."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from connectors.postgres import SINK_POSTGRES
from connectors.postgres.table import parse_table


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"table": "a.b.c"}, "a table such as"),
        ({"table": "a; drop table b"}, "a table such as"),
        ({"keys": ["id"], "columns": {"total": ".t"}}, "id is not"),
        ({"keep_newer": "at", "columns": {"total": ".t"}}, "at is not"),
        ({"mode": "insert", "keys": ["id"]}, "no keys with mode insert"),
        ({"mode": "insert", "keep_newer": "at"}, "no keep_newer with mode insert"),
        ({"on_conflict": "ignore"}, "no on_conflict with mode upsert"),
    ],
)
def test_a_wrong_configuration_is_refused_with_what_is_expected(config, expected):
    settings = {"connection": "postgresql://u@h/db", "table": "orders", **config}
    with pytest.raises(ValidationError, match=expected):
        SINK_POSTGRES.settings.model_validate(settings)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Orders", '"orders"'),
        ("Public.Orders", '"public"."orders"'),
        ('public."Order Lines"', '"public"."Order Lines"'),
        ('"a.b"."c""d"', '"a.b"."c""d"'),
    ],
)
def test_a_table_is_named_as_postgresql_reads_it(text, name):
    assert parse_table(text).sql == name
