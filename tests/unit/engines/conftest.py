from __future__ import annotations

import os

import pytest


@pytest.fixture
def update_golden() -> bool:
    """UPDATE_GOLDEN=1 writes the recorded texts again; look at the difference before you keep it."""
    return os.environ.get("UPDATE_GOLDEN") == "1"
