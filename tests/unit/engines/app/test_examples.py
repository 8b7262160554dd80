from __future__ import annotations

from pathlib import Path

import pytest

from asbuilt.spec.command import find_variables, parse_command
from asbuilt.spec.load import load

EXAMPLES = Path(__file__).parents[4] / "examples"


@pytest.mark.parametrize("name", sorted(path.parent.name for path in EXAMPLES.glob("*/asbuilt.yaml")))
def test_every_example_is_a_valid_spec_that_shows_no_secret_in_its_commands(name: str) -> None:
    spec = load(EXAMPLES / name / "asbuilt.yaml").spec
    assert set(spec.environments) == {"development", "staging", "production"}
    for environment in spec.environments.values():
        for command in (environment.app.command, environment.app.migrate):
            used = set(find_variables(parse_command(command))) if command else set()
            assert used <= {"HOST", "PORT"}
    assert (EXAMPLES / name / "README.md").is_file()


def test_there_are_a_shop_and_two_real_applications() -> None:
    assert {path.name for path in EXAMPLES.iterdir() if path.is_dir()} >= {"shop", "kinto", "parse-server"}
