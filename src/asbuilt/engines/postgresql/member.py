"""Starts Patroni, unchanged, with the YAML reader that is written in C, and stays as its parent.

Patroni reads tables of PostgreSQL's settings at every import, in itself and in the short process that starts
PostgreSQL: 0.3 s of CPU with the reader in Python, 0.03 s with libyaml's. A node that comes back, and an
environment that starts, wait for exactly that. Invariant: nothing but the reader differs from
`python -m patroni`, and where libyaml is missing nothing does.
"""

from __future__ import annotations


def read_quickly() -> None:
    """The same documents, read by libyaml."""
    import yaml  # noqa: PLC0415 - Patroni's parent does without

    if hasattr(yaml, "CSafeLoader"):
        yaml.SafeLoader = yaml.CSafeLoader  # type: ignore[assignment,misc]


def be_patroni() -> None:
    """Run it to its end."""
    read_quickly()
    from patroni.__main__ import main  # type: ignore[import-untyped]  # noqa: PLC0415 - it ships no types

    main()


if __name__ == "__mp_main__":  # the short process, which multiprocessing starts
    read_quickly()

if __name__ == "__main__":
    import sys

    from asbuilt.engines.postgresql.parent import run_as_child

    sys.exit(run_as_child(be_patroni))
