"""Every problem a spec can have: its stable code and what to do about it. The manual shows this table."""

from __future__ import annotations

from typing import Final

CODES: Final[dict[str, tuple[str, str]]] = {
    "SPEC-001": ("The file can't be read", "Check its path and permissions; `asbuilt init` writes one."),
    "SPEC-002": ("The file is empty", "`asbuilt init --force` writes one."),
    "SPEC-003": ("Not valid YAML", "Look at the line named, and at the one above."),
    "SPEC-004": ("A key is there twice", "Keep one of them."),
    "SPEC-005": ("A key is not known", "Correct the spelling, or remove it."),
    "SPEC-006": ("Something needed is missing", "Add it."),
    "SPEC-007": ("A value of the wrong shape", "A block where a word was meant, or the other way round."),
    "SPEC-008": ("A value is not understood", "Write it in the form that the message names."),
    "SPEC-009": ("A number is out of range", "Choose one between the limits of the message."),
    "SPEC-010": (
        "A name that can't be used",
        "Small letters, digits and dashes, at most 32, beginning with a letter.",
    ),
    "SPEC-011": ("An environment of an unknown kind", "Add `kind:` development, staging or production."),
    "SPEC-012": ("A range is the wrong way round", "Write the smaller one first."),
    "SPEC-013": ("A command can't be run", "A command is a program and its words; there is no shell."),
    "SPEC-014": ("A command names an unknown variable", "Add it to `env`, or write `$$` for a plain `$`."),
    "SPEC-015": ("A secret stands in the open", "Move it to `secrets`, by reference."),
    "SPEC-016": ("A variable that asbuilt sets itself", "Remove it from `env` or `secrets`."),
    "SPEC-017": ("A variable is in `env` and in `secrets`", "Keep one of them."),
    "SPEC-018": ("A file or folder of the app is not there", "Correct the path, or add it."),
    "SPEC-019": ("Two ports are the same", "Choose another port for one of them."),
    "SPEC-020": ("Not supported yet", "Choose what the message says is there."),
}
