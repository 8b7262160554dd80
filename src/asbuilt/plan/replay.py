"""Which stored objects a restore needs, in the order in which PostgreSQL asks for them. Pure.

PostgreSQL asks for a segment under the name of the newest timeline that began by then, and under older names
when it does not get that. It reads whatever an older file holds, also what was written after that timeline
was left. So a restore must give exactly what is listed here: nothing under other names, and nothing of a file
after the length that is said. Then what it reads is the log of the chosen timeline and no other.

History files are not in the list. A restore gives all of them: PostgreSQL takes the first number for which it
gets none as that of its new timeline.

Invariants, property-tested: the parts follow each other without a hole from the backup's start to the end,
and every byte of them was written by the timeline that owns it on the path.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from asbuilt.plan.stored import Held, Stored
from asbuilt.plan.wal import Segment, first_number, last_number

if TYPE_CHECKING:
    from collections.abc import Iterator

    from asbuilt.plan.archive import Archive
    from asbuilt.plan.choice import Choice
    from asbuilt.plan.timelines import Path


@dataclass(frozen=True, slots=True)
class Part:
    """One file of the log to give to PostgreSQL.

    Args:
        segment: the name under which it is asked for.
        objects: what it is made of: the whole segment, or pieces to be written over each other in this order.
        length: so many bytes of it count; the rest, up to the size of a segment, is to be zero.
    """

    segment: Segment
    objects: tuple[Stored, ...]
    length: int


def which_needed(choice: Choice, archive: Archive) -> tuple[Part, ...]:
    """The parts from the backup's start to the choice's end, in the order of replay.

    Where the target is a time or a transaction, only the log can tell where it is: the list then leads to the
    end of what is stored, and PostgreSQL stops asking for more when it is there.
    """
    return tuple(_walk(choice, archive))


def _walk(choice: Choice, archive: Archive) -> Iterator[Part]:
    size = archive.size
    path = archive.timelines.path(choice.timeline)
    last = last_number(choice.end, size)
    for number in range(first_number(choice.backup.start, size), last + 1):
        needed = size if number < last else choice.end - last * size
        yield _find_part(archive, path, number, needed)


def _find_part(archive: Archive, path: Path, number: int, needed: int) -> Part:
    """The newest file that has all that is needed, else the one that has most."""
    best: Part | None = None
    size = archive.size
    for leg in path.find_files(number, size):
        held: Held | None = archive.wal.get(leg.timeline, {}).get(number)
        if held is None:
            continue
        length = held.end if leg.end is None else min(held.end, leg.end - number * size)
        if best is None or length > best.length:
            best = Part(Segment(leg.timeline, number, size), held.objects, length)
        if best.length >= needed:
            break
    if best is None:
        raise ValueError(
            f"segment {number} of timeline {path.timeline} is not stored: the choice is of another archive"
        )
    return best
