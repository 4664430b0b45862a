"""Where tests/services/install.sh keeps the servers; runs it when one is missing."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

_INSTALL = Path(__file__).with_name("install.sh")


def service_folder(name: str) -> Path:
    """Return the folder of `name` (such as kafka-4.3.1), installed first if it isn't there.

    Raises RuntimeError with what the installation said; the test that asked fails with it.
    """
    cache = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    folder = Path(cache) / "penstock" / "services" / name
    done = subprocess.run(
        ["bash", str(_INSTALL)], check=False, capture_output=True, text=True, timeout=900
    )
    if done.returncode != 0 or not folder.is_dir():
        raise RuntimeError(f"{_INSTALL.name} could not provide {name}:\n{done.stderr}")
    return folder
