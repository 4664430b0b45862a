"""What `penstock connectors new` writes: a package with one connector, which passes the conformance kit.

The texts beside this file are the package's files; `__NAME__` and its like stand for names.
"""

from __future__ import annotations

import re
from importlib.resources import files
from pathlib import Path
from typing import Literal

from connectors.errors import FlowFileError

Kind = Literal["source", "sink"]

_NAME = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")


def write_scaffold(name: str, kind: Kind, folder: Path) -> list[Path]:
    """Write the package `penstock_<name>` and what is around it into `folder`; return the files.

    Raises FlowFileError for a name that is none, and for a file that is there already.
    """
    if not _NAME.fullmatch(name):
        raise FlowFileError(
            f"{name!r} can't be the name of a connector.",
            code="connector_name",
            hint="Small letters, digits and underscores, such as acme_queue.",
        )
    package = f"penstock_{name}"
    names = {
        "__NAME__": name,
        "__KIND__": kind,
        "__TYPE__": f"{kind}.{name}",
        "__PACKAGE__": package,
        "__DIST__": package.replace("_", "-"),
        "__CLASS__": "".join(part.capitalize() for part in name.split("_")),
        "__CONSTANT__": name.upper(),
    }
    targets = {
        "pyproject.toml.txt": folder / "pyproject.toml",
        "README.md.txt": folder / "README.md",
        f"{kind}/init.py.txt": folder / package / "__init__.py",
        f"{kind}/{kind}.py.txt": folder / package / f"{kind}.py",
        f"{kind}/test_conformance.py.txt": folder / "tests" / "test_conformance.py",
    }
    if kind == "source":
        targets["source/making.py.txt"] = folder / package / "making.py"
    there = [path for path in targets.values() if path.exists()]
    if there:
        raise FlowFileError(
            f"{there[0]} exists already.",
            code="file_exists",
            hint="Name another folder with --folder.",
        )
    texts = files(__name__)
    for template, path in targets.items():
        text = texts.joinpath(template).read_text(encoding="utf-8")
        for placeholder, value in names.items():
            text = text.replace(placeholder, value)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return list(targets.values())
