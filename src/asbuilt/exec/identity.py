"""Who engines run as. PostgreSQL refuses root, and nothing that faces traffic should be root.

Started by an ordinary user: as that user. Started by root: inside a user namespace that maps root to
`nobody`, so that files stay owned by root and nothing below a private home becomes unreachable. Where user
namespaces are forbidden: as the service user `asbuilt`, through setpriv.
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
from dataclasses import dataclass

from asbuilt.values.errors import AsbuiltError

_NOBODY = "65534"
SERVICE_USER = "asbuilt"


@dataclass(frozen=True, slots=True)
class Identity:
    """How a command line becomes an unprivileged one.

    Args:
        kind: `user` (as we are), `namespace` or `service-user`.
        prefix: words put before the command.
        uid: owner of the files that engines write.
        gid: group of them.
    """

    kind: str
    prefix: tuple[str, ...]
    uid: int
    gid: int

    def wrap(self, argv: tuple[str, ...]) -> tuple[str, ...]:
        """The command line as this identity."""
        return (*self.prefix, *argv)


def find_identity() -> Identity:
    """The identity for this process's engines. Raises AsbuiltError LOCAL-001 when root has none to offer."""
    uid, gid = os.geteuid(), os.getegid()
    if uid != 0:
        return Identity("user", (), uid, gid)
    unshare = shutil.which("unshare")
    if unshare:
        prefix = (unshare, "--user", f"--map-user={_NOBODY}", f"--map-group={_NOBODY}", "--")
        tried = subprocess.run([*prefix, "true"], capture_output=True, check=False)
        if tried.returncode == 0:
            return Identity("namespace", prefix, uid, gid)
    setpriv = shutil.which("setpriv")
    try:
        service = pwd.getpwnam(SERVICE_USER)
    except KeyError:
        service = None
    if setpriv and service:
        words = (
            setpriv,
            f"--reuid={service.pw_uid}",
            f"--regid={service.pw_gid}",
            "--clear-groups",
            "--no-new-privs",
            "--",
        )
        return Identity("service-user", words, service.pw_uid, service.pw_gid)
    raise AsbuiltError(
        "LOCAL-001",
        "started as root, and there is no unprivileged identity to run the engines as",
        hint=f"allow user namespaces, or make a service user: useradd --system {SERVICE_USER}",
    )
