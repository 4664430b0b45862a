"""The Python that expressions become, where their engine generates any."""

from __future__ import annotations

from typing import Any

from transforms.expressions import compile_jq, compile_template


def source_of(language: str, text: str) -> str | None:
    """Return the generated Python of an expression; None where nothing was generated for it."""
    if language == "jq":
        return _source(compile_jq(text))
    if language != "template":
        return None
    found = [(command.text, _source(command)) for command in compile_template(text).commands]
    parts = [
        f"# {{{{ {' '.join(shown.split())} }}}}\n{source}" for shown, source in found if source
    ]
    return "\n\n".join(parts) or None


def _source(compiled: Any) -> str | None:
    source = getattr(compiled, "source", None)
    return source.rstrip() if isinstance(source, str) and source.strip() else None
