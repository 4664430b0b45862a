"""The Python that expressions become."""

from __future__ import annotations

from transforms.expressions import compile_jq, compile_template


def source_of(language: str, text: str) -> str | None:
    """Return the generated Python of an expression; None where nothing is generated for it."""
    if language == "jq":
        return compile_jq(text).source.rstrip()
    if language != "template":
        return None
    parts = [
        f"# {{{{ {' '.join(command.text.split())} }}}}\n{command.source.rstrip()}"
        for command in compile_template(text).commands
        if command.source is not None
    ]
    return "\n\n".join(parts) or None
