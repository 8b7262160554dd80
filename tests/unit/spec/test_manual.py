from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from asbuilt.spec.codes import CODES
from asbuilt.spec.load import MODELS
from asbuilt.spec.manual import REFERENCE_FILE, SCHEMA_FILE, render_json_schema, render_reference

ROOT = Path(__file__).parents[3]


def test_the_committed_manual_and_schema_are_up_to_date() -> None:
    told = "out of date: python -m asbuilt.spec.manual"
    assert (ROOT / REFERENCE_FILE).read_text() == render_reference(), told
    assert json.loads((ROOT / SCHEMA_FILE).read_text()) == render_json_schema(), told


def test_the_manual_names_every_field_and_every_code() -> None:
    text = render_reference()
    for model in MODELS.values():
        assert all(f"`{name}" in text for name in model.model_fields)
    assert all(f"| {code} |" in text for code in CODES)


def test_the_schema_takes_partial_blocks_and_refuses_unknown_keys() -> None:
    schema = render_json_schema()
    for name in ("App", "Database", "Cache", "LoadBalancer", "HealthCheck", "WrittenEnvironment"):
        assert "required" not in schema["$defs"][name], name
    assert all(d["additionalProperties"] is False for d in schema["$defs"].values() if "properties" in d)
    assert schema["required"] == ["name", "environments"]
    assert set(MODELS) < set(schema["properties"])
    assert set(MODELS) < set(schema["$defs"]["WrittenEnvironment"]["properties"])


def test_names_are_read_without_the_schema() -> None:
    code = "import sys, asbuilt.spec.names; sys.exit('pydantic' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
