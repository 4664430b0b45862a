"""An example per connector: beside this file, a whole flow named after each type.

The reference page and `penstock connectors describe` print them, tests/docs/test_connector_examples.py
runs them.
"""

from __future__ import annotations

from importlib.resources import files


def example_of(name: str) -> str | None:
    """Return the flow that shows a connector; None for one that has none, such as a plug-in."""
    file = files(__name__).joinpath(f"{name}.yaml")
    return file.read_text(encoding="utf-8") if file.is_file() else None
