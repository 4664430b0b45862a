# ruff: noqa: INP001 - a script, not a package
"""Draw demo.svg anew: `penstock demo` in a tmux pane, as it is after a quarter of a minute.

    .venv/bin/python docs/images/make.py

Needs tmux. The fonts are the reader's own: the picture holds text, not pixels.
"""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
import time
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text

COLUMNS, ROWS, SECONDS = 104, 48, 14
CELL = 12.2
"""Width of a character in rich's picture."""

SOCKET = f"penstock-picture-{os.getpid()}"
HERE = Path(__file__).parent


def tmux(*arguments: str) -> str:
    """Run tmux on a server of its own and return what it prints; "" when it is gone."""
    command = ["tmux", "-L", SOCKET, *arguments]
    return subprocess.run(command, check=False, capture_output=True, text=True).stdout  # noqa: S603


def capture() -> str:
    """Return the pane with its colours, while the demo runs in it."""
    penstock = Path(sys.executable).with_name("penstock")
    size = ["-x", str(COLUMNS), "-y", str(ROWS)]
    tmux("new-session", "-d", "-s", "demo", *size, f"TERM=xterm-256color {penstock} demo")
    try:
        time.sleep(SECONDS)
        return tmux("capture-pane", "-p", "-e", "-t", "demo")
    finally:
        tmux("send-keys", "-t", "demo", "C-c")
        deadline = time.monotonic() + 20
        while tmux("list-sessions") and time.monotonic() < deadline:
            time.sleep(0.2)


def without_the_explanation(screen: str) -> list[str]:
    """Return the lines of interest: from the events on; the folder's random name shortened."""
    lines = re.sub(r"penstock-demo-\w+", "penstock-demo", screen).rstrip().splitlines()
    first = next(n for n, line in enumerate(lines) if "order.enriched  #" in line)
    return ["\x1b[1m$ penstock demo\x1b[0m", "", *lines[first:]]


def shift(run: re.Match[str]) -> str:
    """Move a run of text to its first visible character: not every viewer keeps leading spaces."""
    spaces = run[5].count("&#160;") * CELL
    x, length = float(run[1]) + spaces, float(run[3]) - spaces
    return f'x="{x:.1f}"{run[2]} textLength="{max(length, CELL):.1f}"{run[4]}>'


def draw(lines: list[str]) -> None:
    """Write demo.svg."""
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True)
    for line in lines:
        console.print(Text.from_ansi(line), soft_wrap=True)
    svg = console.export_svg(title="penstock demo", theme=MONOKAI, unique_id="demo")
    # A web font would be fetched by whoever looks at the picture.
    svg = re.sub(r"\s*@font-face \{.*?\}", "", svg, flags=re.DOTALL)
    svg = re.sub(
        r'x="([\d.]+)"( y="[\d.]+") textLength="([\d.]+)"([^>]*)>((?:&#160;)+)', shift, svg
    )
    svg = svg.replace("Fira Code, monospace", "Fira Code, Menlo, Consolas, monospace")
    (HERE / "demo.svg").write_text(svg, encoding="utf-8")


if __name__ == "__main__":
    draw(without_the_explanation(capture()))
