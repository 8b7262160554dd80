"""What is known of a campaign: a file of JSON lines that it goes on with, and the table that comes of it."""

from __future__ import annotations

import json
import statistics
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from campaign_targets import CHANGED
from common import Row

from asbuilt.plan.verdict import Verdict

if TYPE_CHECKING:
    from collections.abc import Iterable


@dataclass
class Book:
    """The file of JSON lines: what was asked for, each round, and how each part of the campaign ended."""

    file: Path
    lines: list[dict[str, Any]] = field(default_factory=list)

    @classmethod
    def begin(cls, seed: int, count: int) -> Book:
        """A new campaign, in a folder of its own."""
        folder = Path(tempfile.mkdtemp(prefix="abm-"))
        folder.chmod(0o755)
        book = cls(folder / "campaign.jsonl")
        book.add(seed=seed, count=count)
        return book

    @classmethod
    def read(cls, file: Path) -> Book:
        """One to go on with."""
        return cls(file.resolve(), [json.loads(line) for line in file.read_text().splitlines()])

    def add(self, **values: Any) -> None:  # noqa: ANN401 - JSON
        """One line more, on disk before anything else happens."""
        self.lines.append(values)
        with self.file.open("a") as stream:
            stream.write(json.dumps(values) + "\n")

    @property
    def seed(self) -> int:
        """Of the sequence."""
        return int(self.lines[0]["seed"])

    @property
    def rounds(self) -> list[dict[str, Any]]:
        """Every round so far."""
        return [line for line in self.lines if "index" in line]

    @property
    def ends(self) -> list[dict[str, Any]]:
        """The end of every part so far."""
        return [line for line in self.lines if "left" in line]

    @property
    def counted(self) -> list[dict[str, Any]]:
        """The rounds whose faults were seen to be on."""
        return [one for one in self.rounds if one["verdict"] != Verdict.INCONCLUSIVE]

    @property
    def missing(self) -> int:
        """Rounds that are still wanted."""
        return int(self.lines[0]["count"]) - len(self.counted)

    @property
    def acknowledged(self) -> set[int]:
        """Every number that was acknowledged at the front door."""
        spans = (span for line in self.lines for span in line.get("acknowledged", ()))
        return {number for first, last in spans for number in range(first, last + 1)}


def to_spans(numbers: Iterable[int]) -> list[list[int]]:
    """First and last of each series of numbers without a hole."""
    spans: list[list[int]] = []
    for number in sorted(numbers):
        if spans and number == spans[-1][1] + 1:
            spans[-1][1] = number
        else:
            spans.append([number, number])
    return spans


def to_rows(book: Book) -> list[Row]:
    """The table."""
    counted = book.counted
    found = []
    kinds = sorted({one["kinds"][0] for one in counted if len(one["kinds"]) == 1})
    groups = [(kind, [one for one in counted if one["kinds"] == [kind]]) for kind in kinds]
    pairs = [one for one in counted if len(one["kinds"]) > 1]
    groups += [
        ("a pair with a planned change", [one for one in pairs if _has_change(one)]),
        ("a pair of faults", [one for one in pairs if not _has_change(one)]),
    ]
    for name, rounds in groups:
        gaps = tuple(one["gap"] for one in rounds if one["gap"] is not None)
        wholes = [one["whole"] for one in rounds if one["whole"] is not None]
        if gaps:
            whole = (
                f"whole after {statistics.median(wholes):.1f} s, at most {max(wholes):.1f} s"
                if wholes
                else ""
            )
            found.append(Row(f"{name}: longest gap", "s", gaps, whole))
    return [*found, *_to_totals(book, counted, len(pairs))]


def _has_change(one: dict[str, Any]) -> bool:
    return any(kind.endswith(CHANGED) for kind in one["kinds"])


def _to_totals(book: Book, counted: list[dict[str, Any]], pairs: int) -> list[Row]:
    whole = [line for line in book.lines if "all" in line]
    acknowledged = whole[-1]["all"] if whole else 0
    routed = sum(int(one["writes"]) for one in counted)
    missed = len(book.rounds) - len(counted)
    beside = f"; {missed} more do not count: no trace, or the machine stood still" if missed else ""
    # one that was found twice is one
    lost = sum(one["lost"] for one in counted) + len({n for line in whole for n in line["all_lost"]})
    doubled = sum(one["doubled"] for one in counted) + len({n for line in whole for n in line["all_doubled"]})
    two = sum(one["two_primaries"] for one in counted)
    left = sum(len(one["left"]) for one in book.ends)
    bad = [one for one in counted if one["verdict"] != Verdict.PASSED]
    words = f"{acknowledged:,} acknowledged at the front door, {routed:,} on the route; {doubled} doubled"
    kinds = len(counted) - pairs, pairs
    return [
        Row(
            "rounds passed",
            "rounds",
            (len(counted) - len(bad),),
            f"{kinds[0]} single faults and {kinds[1]} pairs, seed {book.seed}{beside}",
            f"all {len(counted)}",
            not bad and book.missing <= 0,
        ),
        Row("acknowledged writes lost", "writes", (lost,), words, "0", lost == doubled == 0),
        Row("moments with two writable primaries", "moments", (two,), "", "0", two == 0),
        Row("left-overs", "things", (left,), f"after {len(book.ends)} times `down`", "0", left == 0),
    ]
