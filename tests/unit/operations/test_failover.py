"""What a forced failover says before it is done."""

from __future__ import annotations

import pytest

from asbuilt.engines.postgresql.admin import Member
from asbuilt.operations.failover import assess
from asbuilt.values.errors import RefusedError

GONE = Member("db-1", "leader", "stopped", 1, None)
BEHIND = Member("db-2", "replica", "streaming", 1, 4096)
FAR = Member("db-3", "replica", "running", 1, None)
SYNC = Member("db-3", "sync_standby", "streaming", 1, 0)


def test_the_one_that_confirmed_everything_is_taken_and_loses_nothing() -> None:
    node, risk = assess((GONE, BEHIND, SYNC), None)
    assert node == "db-3"
    assert "nothing" in risk


def test_the_loss_is_said_in_bytes_or_as_unknown() -> None:
    assert assess((GONE, BEHIND, FAR), None)[0] == "db-2"
    assert "4,096 bytes" in assess((GONE, BEHIND, FAR), None)[1]
    assert "not known" in assess((GONE, BEHIND, FAR), "db-3")[1]


@pytest.mark.parametrize("node", [None, "db-3"])
def test_nobody_to_promote(node: str | None) -> None:
    with pytest.raises(RefusedError) as caught:
        assess((GONE, Member("db-3", "replica", "stopped", 1, 5)), node)
    assert caught.value.code == "FAILOVER-003"
    assert len(caught.value.evidence) == 2
