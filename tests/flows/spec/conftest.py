from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from textwrap import dedent

import pytest

from flows.plan import FlowErrors, FlowPlan, load_flow

ENVIRON = {
    "DATABASE_URL": "postgresql://shop:s3cr3tpw@db.internal/shop",
    "SLACK_ALERTS_WEBHOOK": "https://hooks.slack.com/services/T0/B0/xyz",
    "PAGERDUTY_KEY": "pd-service-key",
}


@pytest.fixture
def environ() -> dict[str, str]:
    return dict(ENVIRON)


@pytest.fixture
def load(tmp_path: Path, environ: dict[str, str]) -> Callable[..., FlowPlan]:
    """Load texts as the files flow.yaml, flow1.yaml, …."""

    def load_texts(*texts: str, **more: str) -> FlowPlan:
        paths = []
        for number, text in enumerate(texts):
            path = tmp_path / f"flow{number or ''}.yaml"
            path.write_text(dedent(text).removeprefix("\n"), encoding="utf-8")
            paths.append(path)
        return load_flow(paths, {**environ, **more})

    return load_texts


@pytest.fixture
def refused(tmp_path: Path, load: Callable[..., FlowPlan]) -> Callable[..., str]:
    """Load texts that are wrong; return what is said, with the folder left out."""

    def refuse(*texts: str, **more: str) -> str:
        with pytest.raises(FlowErrors) as caught:
            load(*texts, **more)
        return str(caught.value).replace(f"{tmp_path}/", "")

    return refuse
