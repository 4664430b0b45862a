"""The pages about the API show calls that there are."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from starlette.routing import compile_path

from penstock.api.metrics import TABLE
from penstock.api.routes import ROUTES
from tests.docs.pages import PAGES, blocks, read

_CALL = re.compile(r"curl (?:-X (\w+) )?.*?[\"']?(http://[^\s\"']+)")


def test_every_call_on_a_page_is_a_route():
    found = 0
    for block in blocks("sh"):
        for method, url in _CALL.findall(block.text.replace("\\\n", " ")):
            path = urlsplit(url).path
            if not path.startswith(("/api/", "/metrics", "/healthz", "/readyz")):
                continue
            found += 1
            fits = [
                route
                for route in ROUTES
                if route.method == (method or "GET") and compile_path(route.path)[0].match(path)
            ]
            assert fits, f"{block}: {method or 'GET'} {path}"
    assert found >= 8


def test_every_metric_on_a_page_is_one():
    named = {each.name for each in TABLE}
    named |= {f"{each.name}_{end}" for each in TABLE for end in ("bucket", "count", "sum")}
    for page in PAGES:
        assert set(re.findall(r"\bworkflow_[a-z_]+", read(page))) <= named, page
