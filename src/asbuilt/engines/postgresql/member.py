"""Starts Patroni, unchanged, with the YAML reader that is written in C.

Patroni reads tables of PostgreSQL's settings at every import, in itself and in the short process that starts
PostgreSQL: 0.3 s of CPU with the reader in Python, 0.03 s with libyaml's. A node that comes back, and an
environment that starts, wait for exactly that. Invariant: nothing but the reader differs from
`python -m patroni`, and where libyaml is missing nothing does.
"""

from __future__ import annotations

import yaml

if hasattr(yaml, "CSafeLoader"):
    yaml.SafeLoader = yaml.CSafeLoader  # type: ignore[assignment,misc]  # the same documents, read by libyaml

if __name__ == "__main__":
    from patroni.__main__ import main  # type: ignore[import-untyped]  # it ships no types

    main()
