"""The views of the three presets beside their spec. `make golden` writes them again."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from asbuilt.graph.build import build
from asbuilt.spec.load import load
from asbuilt.views.diagram import render_mermaid
from asbuilt.views.drawing import render_svg
from asbuilt.views.flows import render_flows
from asbuilt.views.monitoring import render_monitoring

GOLDEN = Path(__file__).parents[2] / "golden"
CASES = ("development", "staging", "production")
VIEWS = {
    "diagram.mmd": render_mermaid,
    "diagram.svg": render_svg,
    "flows.txt": render_flows,
    "monitoring.txt": render_monitoring,
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("name", VIEWS)
def test_golden(case: str, name: str) -> None:
    text = VIEWS[name](build(load(GOLDEN / case / "asbuilt.yaml").spec, case))
    golden = GOLDEN / case / name
    if os.environ.get("ASBUILT_GOLDEN") == "write":
        golden.write_text(text, encoding="utf-8")
    assert golden.read_text(encoding="utf-8") == text
