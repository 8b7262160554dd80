"""What is asked for while a release is on its way."""

from __future__ import annotations

from argparse import Namespace
from typing import TYPE_CHECKING

import pytest

from asbuilt.cli.deploy_verbs import _join
from asbuilt.cli.talk import Talk
from asbuilt.operations.order import Order
from asbuilt.values.errors import RefusedError
from asbuilt.values.stage import Stage

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("back", [False, True])
def test_a_release_to_go_back_to_is_not_ignored(tmp_path: Path, *, back: bool) -> None:
    stage = Stage(tmp_path / "asbuilt.yaml", "shop", "production", tmp_path)
    with pytest.raises(RefusedError) as caught:
        _join(Namespace(promote=False), stage, Order("rollback", release="r3"), Talk(quiet=True), back=back)
    assert caught.value.code == "RELEASE-002"
    assert "r3" in caught.value.hint
