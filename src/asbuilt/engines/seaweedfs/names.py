"""Names that others know the object storage's keys by."""

from __future__ import annotations

from typing import Final

REGION: Final = "us-east-1"
ADMIN_ACCESS: Final = "objects.admin.access"
ADMIN_SECRET: Final = "objects.admin.secret"  # noqa: S105 - the name of a secret, not one
APP_ACCESS: Final = "objects.app.access"
APP_SECRET: Final = "objects.app.secret"  # noqa: S105 - the name of a secret, not one
