"""`penstock connectors`: list, describe, check, new."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib import import_module
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from connectors import registry
from penstock.cli.app import main
from penstock.reference.examples import example_of

ROOT = Path(__file__).parents[3]


@pytest.fixture
def plugins(monkeypatch, tmp_path):
    """Call it with name → the text of its module: entry points beside those of this installation."""
    monkeypatch.syspath_prepend(tmp_path)
    known = registry._CONNECTORS
    points = dict(known._entry_points())
    monkeypatch.setattr(known, "_points", points)
    monkeypatch.setattr(known, "_loaded", dict(known._loaded))

    def add(name, text):
        module = "plugin_" + name.replace(".", "_")
        (tmp_path / f"{module}.py").write_text(text)
        points[name] = EntryPoint(name, f"{module}:KIND", "penstock.connectors")

    return add


def test_a_plugin_that_can_not_be_imported_is_named_and_stops_nothing_else(plugins, capsys):
    plugins("sink.acme_library", "import acme_client\n")
    plugins("sink.acme_syntax", "KIND = (\n")
    plugins("sink.acme_raises", "raise RuntimeError('no licence')\n")
    plugins("sink.acme_nothing", "")
    assert main(["connectors", "list"]) == 0
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    assert "broken" in lines["sink.acme_library"]
    assert "No module named 'acme_client'" in lines["sink.acme_library"]
    assert "SyntaxError" in lines["sink.acme_syntax"]
    assert "RuntimeError: no licence" in lines["sink.acme_raises"]
    assert "broken" in lines["sink.acme_nothing"]
    assert " yes " in lines["source.kafka"]
    assert main(["schema", "yaml"]) == 0
    assert "sink.acme_library" not in capsys.readouterr().out
    assert main(["connectors", "check", "sink.acme_library"]) == 2
    assert "acme_client" in capsys.readouterr().err


def test_a_preview_is_told_by_list_and_describe(capsys):
    assert main(["connectors", "list", "-o", "json"]) == 0
    found = {each["type"]: each for each in json.loads(capsys.readouterr().out)}
    assert found["source.gcp_pubsub"]["ready"] == "preview"
    assert "fake" in found["source.gcp_pubsub"]["preview"]
    assert found["source.kafka"]["ready"] == "yes"
    assert main(["connectors", "describe", "sink.gcp_pubsub"]) == 0
    assert "A preview: " in capsys.readouterr().out


def test_describe_ends_with_a_flow_that_has_the_type(plugins, capsys):
    example = example_of("source.kafka")
    assert main(["connectors", "describe", "source.kafka"]) == 0
    assert capsys.readouterr().out.endswith(f"\nExample:\n\n{example}")
    assert main(["connectors", "describe", "source.kafka", "-o", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["example"] == example
    plugins(
        "sink.acme_copy",
        """
from dataclasses import replace
from connectors.file import SINK_FILE

KIND = replace(SINK_FILE, name="sink.acme_copy")
""",
    )
    for name in ("step.jq", "sink.acme_copy"):
        assert main(["connectors", "describe", name]) == 0
        assert "Example:" not in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["source", "sink"])
def test_a_new_connector_passes_its_own_conformance_tests(kind, tmp_path, capsys):
    folder = tmp_path / "spool"
    arguments = ["connectors", "new", "acme_spool", "--kind", kind, "--folder", str(folder)]
    assert main(arguments) == 0
    assert str(folder / "pyproject.toml") in capsys.readouterr().out
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "error"],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{folder}"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert main(arguments) == 2
    assert "exists already" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["source", "sink"])
def test_a_new_connector_is_checked_and_its_config_too(
    kind, tmp_path, monkeypatch, plugins, capsys
):
    name = f"acme_new_{kind}"
    assert main(["connectors", "new", name, "--kind", kind, "--folder", str(tmp_path)]) == 0
    monkeypatch.syspath_prepend(tmp_path)
    plugins(f"{kind}.{name}", f"from penstock_{name} import {name.upper()} as KIND\n")
    assert f'"{kind}.{name}" = "penstock_{name}:{name.upper()}"' in (
        tmp_path / "pyproject.toml"
    ).read_text(encoding="utf-8")
    assert hasattr(import_module(f"penstock_{name}"), name.upper())
    capsys.readouterr()
    assert main(["connectors", "check", f"{kind}.{name}"]) == 0
    (tmp_path / "events.jsonl").touch()
    config = json.dumps({"path": str(tmp_path / "events.jsonl")})
    assert main(["connectors", "check", f"{kind}.{name}", "--config", config, "-o", "json"]) == 0
    out = capsys.readouterr().out
    checks = {each["name"]: each["ok"] for each in json.loads(out[out.index("[\n") :])}
    assert checks[kind]
    assert checks["file" if kind == "source" else "folder"]
    missing = json.dumps({"path": str(tmp_path / "none" / "x")})
    assert main(["connectors", "check", f"{kind}.{name}", "--config", missing]) == 1
    assert main(["connectors", "check", f"{kind}.{name}", "--config", '{"paht": 1}']) == 1
    assert "paht: Extra inputs" in capsys.readouterr().out
    assert main(["connectors", "check", f"{kind}.{name}", "--config", "nowhere.yaml"]) == 2


def test_a_connector_that_does_not_keep_its_contract_is_told_so(plugins, capsys):
    text = """
from connectors.contracts import ConnectorType, SinkTraits
from connectors.settings import Settings

class Config(Settings):
    path: str

class Half:
    traits = SinkTraits(ordered=True, delivery="at_least_once")
    def __init__(self, name, settings): ...
    def open(self, opening): ...

KIND = ConnectorType("sink.acme_half", Config, "Half a sink.", sink=Half)
"""
    plugins("sink.acme_half", text)
    assert main(["connectors", "check", "sink.acme_half", "--config", '{"path": "x"}']) == 1
    out = capsys.readouterr().out
    assert "lacks preflight, deliver, settled_state, close" in out
    assert "none of path" in out


def test_a_name_that_is_none_is_refused(tmp_path, capsys):
    assert main(["connectors", "new", "Acme-Queue", "--folder", str(tmp_path)]) == 2
    assert "acme_queue" in capsys.readouterr().err
