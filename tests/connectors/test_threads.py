"""Threads of our own do not end in silence."""

from __future__ import annotations

import threading

import pytest

from connectors import threads
from connectors.contracts import Opening, Shard
from connectors.errors import FatalError
from connectors.file import SOURCE_FILE
from connectors.file.reader import FileReader
from connectors.testing import wait_until


def test_a_defect_is_told_with_its_words_and_its_place():
    def broken(number):
        return number / 0

    told = []
    threading.Thread(target=threads.watched("counting", broken, told.append), args=(1,)).start()
    wait_until(lambda: told, "the defect")
    assert told[0].code == "internal_error"
    assert told[0].message.startswith("counting broke: ZeroDivisionError: division by zero (")
    assert "test_threads.py" in told[0].message


def test_a_source_whose_thread_is_gone_says_so_and_does_not_leave_the_flow_waiting(
    tmp_path, monkeypatch
):
    def broken(self):
        raise ZeroDivisionError("by nought")

    monkeypatch.setattr(FileReader, "_look", broken)
    settings = SOURCE_FILE.settings.model_validate({"path": str(tmp_path / "*"), "follow": True})
    reader = SOURCE_FILE.source("drop", settings).open(
        Opening(Shard(), {}, until_caught_up=False, compile_key=None)
    )
    try:
        with pytest.raises(FatalError, match=r"reading files broke: ZeroDivisionError: by nought"):
            reader.poll(1, 20.0)
    finally:
        reader.close()
