"""Which change of a column's type the release before can live with. Pure."""

from __future__ import annotations

import re
from typing import Final

from asbuilt.spec.migrations.change import Act

_TYPE: Final = re.compile(r"([a-z ]+?)\s*(?:\(\s*(\d{1,9})[^)]*\))?\s*")
_INTEGERS: Final = {
    "smallint": 2, "smallinteger": 2, "smallintegerfield": 2, "positivesmallintegerfield": 2,
    "int": 4, "integer": 4, "integerfield": 4, "positiveintegerfield": 4, "autofield": 4,
    "bigint": 8, "biginteger": 8, "bigintegerfield": 8, "positivebigintegerfield": 8, "bigautofield": 8,
}  # fmt: skip
_TEXTS: Final = frozenset(
    {"varchar", "character varying", "string", "text", "charfield", "textfield", "slugfield",
     "urlfield", "emailfield", "unicode", "unicodetext"}
)  # fmt: skip


def judge_types(before: str, after: str) -> Act | None:
    """`RETYPE` where it can hurt, `REWRITE` where it only costs time, None where it is free."""
    old, new = _TYPE.fullmatch(before.lower()), _TYPE.fullmatch(after.lower())
    if old is None or new is None:
        return None if before.lower() == after.lower() else Act.RETYPE
    if old[1] in _TEXTS and new[1] in _TEXTS:
        fits = new[2] is None or (old[2] is not None and int(old[2]) <= int(new[2]))
        return None if fits else Act.RETYPE
    if old[1] in _INTEGERS and new[1] in _INTEGERS:
        grown = _INTEGERS[new[1]] - _INTEGERS[old[1]]
        return None if grown == 0 else Act.REWRITE if grown > 0 else Act.RETYPE
    return None if old[0].strip() == new[0].strip() else Act.RETYPE
