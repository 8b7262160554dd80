"""Names that the configuration and those who talk to the running engine have to share. Imports nothing."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pathlib import Path

MASTER_SOCKET = "run/master.sock"
ADMIN_SOCKET = "run/admin.sock"
APP = "app"
"""Backend of the app servers."""
CANDIDATE = "candidate"
"""Backend of the app servers of a second release, while it gets a share of the traffic of its own."""
SHARE = "proc.share"
"""Ten-thousandths of the traffic that go to the candidate; changed at run time, and kept over reloads."""
HOLD = "hold"
"""The same servers without checks, for when every check fails."""


def find_admin_socket(root: Path) -> Path:
    """The socket to ask and tell the balancer of the environment in `root`."""
    return root / "nodes" / "lb-1" / ADMIN_SOCKET
