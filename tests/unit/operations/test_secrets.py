from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from asbuilt.operations.secrets import resolve_secrets
from asbuilt.spec.schema import SecretFromCommand, SecretFromEnvironment, SecretFromFile
from asbuilt.values.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

PATH = {"PATH": "/usr/bin:/bin"}


def test_each_kind_of_reference(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("from file\n")
    (tmp_path / "token").chmod(0o600)
    warned: list[str] = []
    found = resolve_secrets(
        {
            "A": SecretFromEnvironment(env="MINE"),
            "B": SecretFromFile(file="token"),
            "C": SecretFromCommand(command=["echo", "$HOME; `id`"]),
        },
        tmp_path,
        {**PATH, "MINE": "from env"},
        warned.append,
    )
    assert {name: value.reveal() for name, value in found.items()} == {
        "A": "from env",
        "B": "from file",
        "C": "$HOME; `id`",
    }
    assert warned == []


def test_all_missing_ones_are_told_together(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    with pytest.raises(UsageError) as refused:
        resolve_secrets(
            {
                "A": SecretFromEnvironment(env="NOT_SET"),
                "B": SecretFromFile(file="nowhere"),
                "C": SecretFromCommand(command=["false"]),
                "D": SecretFromCommand(command=["no-such-program-here"]),
                "E": SecretFromFile(file="empty"),
                "F": SecretFromFile(file="/dev/zero"),
            },
            tmp_path,
            PATH,
            lambda _: None,
        )
    assert [line.split(":")[0] for line in refused.value.evidence] == list("ABCDEF")
    assert refused.value.code == "SECRET-001"


def test_what_a_failing_command_printed_is_not_shown(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as refused:
        resolve_secrets(
            {"A": SecretFromCommand(command=["sh", "-c", "echo hunter2; echo hunter2 >&2; exit 3"])},
            tmp_path,
            PATH,
            lambda _: None,
        )
    assert "hunter2" not in refused.value.render()


def test_a_file_that_others_can_read_is_warned_about(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("x")
    (tmp_path / "token").chmod(0o644)
    warned: list[str] = []
    resolve_secrets({"A": SecretFromFile(file="token")}, tmp_path, {}, warned.append)
    assert len(warned) == 1
    assert "chmod 600" in warned[0]


@pytest.mark.parametrize("value", [b"a\0b", b"\xff\xfe", b"x" * 70_000])
def test_what_no_variable_can_hold_is_refused(tmp_path: Path, value: bytes) -> None:
    (tmp_path / "token").write_bytes(value)
    with pytest.raises(UsageError, match="SECRET-001"):
        resolve_secrets({"A": SecretFromFile(file="token")}, tmp_path, {}, lambda _: None)
