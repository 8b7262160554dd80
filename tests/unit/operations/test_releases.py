from __future__ import annotations

from typing import TYPE_CHECKING

from asbuilt.operations.releases import choose_release, restore_app
from asbuilt.record.journal import Journal
from asbuilt.spec.load import load
from asbuilt.values.stage import Stage

if TYPE_CHECKING:
    from pathlib import Path

SPEC = """\
name: shop
app: {{command: ./run, env: {{COLOUR: {}}}, start_timeout: {}}}
environments: {{staging: {{}}}}
"""


def test_a_release_keeps_its_configuration_and_takes_the_times_of_now(tmp_path: Path) -> None:
    file = tmp_path / "asbuilt.yaml"
    file.write_text(SPEC.format("blue", "60s"))
    stage = Stage(file, "shop", "staging", tmp_path / "home")
    stage.root.mkdir(parents=True)
    app = load(file).spec.environments["staging"].app
    journal = Journal.open(stage.root / "journal.sqlite", clock=lambda: 1.0)
    try:
        made = choose_release(stage, journal, "a" * 16, app)
        again = restore_app(made, app)
        assert repr(again) == repr(app), "its digest would differ, and its servers be restarted"
        file.write_text(SPEC.format("red", "90s"))
        now = load(file).spec.environments["staging"].app
        then = restore_app(made, now)
        assert (then.env, then.start_timeout) == ({"COLOUR": "blue"}, now.start_timeout)
    finally:
        journal.close()
