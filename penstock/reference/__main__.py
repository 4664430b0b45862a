"""`python -m penstock.reference FOLDER`: writes the reference pages into a folder."""

from __future__ import annotations

import sys
from pathlib import Path

from penstock.reference.pages import PAGES


def main(arguments: list[str]) -> int:
    """Write every page; return an exit code."""
    if len(arguments) != 1:
        print("Usage: python -m penstock.reference FOLDER", file=sys.stderr)
        return 2
    folder = Path(arguments[0])
    folder.mkdir(parents=True, exist_ok=True)
    for name, make in PAGES.items():
        (folder / name).write_text(make(), encoding="utf-8")
    print(f"Wrote {len(PAGES)} pages to {folder}.")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
