"""The bucket of these tests."""

from __future__ import annotations

import pytest

from tests.services.fixtures import open_folder
from tests.services.s3 import S3Server


@pytest.fixture(scope="session")
def s3():
    with open_folder() as folder, S3Server.running(folder) as server:
        yield server


@pytest.fixture
def bucket(s3):
    return s3.create_bucket()
