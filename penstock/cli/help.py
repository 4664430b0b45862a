"""How `--help` looks: commands in groups, an example or two with each, plain text.

Plain, because it is read in pipes and pagers too, and because drawing boxes costs as much time
as all the rest of `penstock --help`.
"""

from __future__ import annotations

from typing import Any

from typer.core import TyperGroup

GROUPS = {
    "Try it": ("demo",),
    "Write and check a flow": (
        "init",
        "validate",
        "explain",
        "test",
        "try",
        "connectors",
        "schema",
    ),
    "Run it": ("run", "backfill"),
    "Look inside": ("state", "executions", "dlq", "saga", "idempotency", "archive"),
}
"""Heading → commands, in the order in which someone new needs them."""


def examples(*lines: str) -> str:
    """Return an epilog that shows command lines, each `command` or `command  # what for`."""
    shown = "\n".join(f"  {line}" for line in lines)
    return f"\b\nExamples:\n{shown}"


class GroupedCommands(TyperGroup):
    """The root command: lists its commands by what they are for."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the commands in the order of the groups."""
        named = [name for group in GROUPS.values() for name in group]
        return named + sorted(set(super().list_commands(ctx)) - set(named))

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write one section per group, all with the same width of names."""
        width = max(len(name) for name in self.list_commands(ctx))
        for heading, names in GROUPS.items():
            rows = [(name.ljust(width), self._summary(ctx, name)) for name in names]
            with formatter.section(heading):
                formatter.write_dl(rows)

    def _summary(self, ctx: Any, name: str) -> str:
        command = self.get_command(ctx, name)
        return command.get_short_help_str(limit=200) if command is not None else ""
