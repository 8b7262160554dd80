from __future__ import annotations

import os

import pytest


@pytest.fixture
def update_golden() -> bool:
    """ASBUILT_GOLDEN=write (`make golden`) writes the recorded texts again."""
    return os.environ.get("ASBUILT_GOLDEN") == "write"
