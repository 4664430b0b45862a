from __future__ import annotations

import pytest

from tests.backfill.past import Past


@pytest.fixture
def past(tmp_path):
    made = Past(tmp_path)
    yield made
    made.close()
