"""What is said when the library of an extra is not installed."""

from __future__ import annotations

import pytest

from connectors.errors import FlowFileError
from connectors.extras import importing


def test_a_missing_library_is_named_with_the_command_that_installs_it():
    with pytest.raises(FlowFileError) as caught, importing("pubsub", "Pub/Sub"):
        import no_such_library.client  # noqa: F401, PLC0415 - what is tested
    assert (
        caught.value.message == "Pub/Sub needs the library no_such_library, which is not installed."
    )
    assert caught.value.hint == "pip install 'penstock[pubsub]'"
    assert caught.value.code == "extra_missing"


def test_a_module_of_ours_that_is_missing_stays_our_fault():
    with pytest.raises(ModuleNotFoundError), importing("pubsub", "Pub/Sub"):
        import connectors.no_such_module  # noqa: F401, PLC0415 - what is tested
