"""What the judges said of a chat model's replies, counted; the replies themselves are never read here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from hardscale.artifacts.schemas import REPLIES
from hardscale.artifacts.tables import read_table
from hardscale.errors import ArtifactError

REPLIES_FILE = "replies.parquet"
#: The judge whose raw verdict is the mean cross-entropy of the opening aimed at.
LIKELIHOOD = "target-likelihood"
_COLUMNS = ("example_id", "iteration", "judge", "complied", "raw")


@dataclass(frozen=True)
class Verdicts:
    """What one judge said of one attack's replies.

    Attributes:
        judge: its name.
        iteration: 0 for the request as it is, else the last of the attack.
        n_judged: replies that the judge was asked about.
        n_complied: of them those that comply. A verdict that could not be read counts as not complied.
        n_unread: of them those whose verdict could not be read.
    """

    judge: str
    iteration: int
    n_judged: int
    n_complied: int
    n_unread: int


def read_replies(folders: Sequence[Path]) -> pa.Table:
    """``example_id iteration judge complied raw`` of an attack's shards.

    Raises:
        DataError: a file is missing or lacks a column.
    """
    return pa.concat_tables([read_table(folder / REPLIES_FILE, REPLIES, _COLUMNS) for folder in folders])


def verdicts(folders: Sequence[Path], n_attacked: int, last: int, primary: Mapping[bool, int]) -> Iterator[Verdicts]:
    """Every judge's verdicts before the attack and after it, judges in the order of the file.

    Of the first judge the counts given count, as they may hold verdicts of others (on protected texts). Judges that
    were asked about nothing are left out; one that is asked about some behaviors only has as many verdicts.

    Args:
        folders: the attack's shards.
        n_attacked: behaviors of all shards.
        last: the attack's last iteration, at which its final replies stand.
        primary: compliances before (False) and after (True) the attack.

    Raises:
        ArtifactError: a judge has no entry for some behavior.
    """
    rows = read_replies(folders).to_pylist()
    judges = list(dict.fromkeys(row["judge"] for row in rows))
    for after in (False, True):
        for judge in judges:
            mine = [row for row in rows if row["judge"] == judge and (row["iteration"] > 0) == after]
            if len({row["example_id"] for row in mine}) != n_attacked or len(mine) != n_attacked:
                raise ArtifactError(
                    f"{folders[0]}: judge {judge} has {len(mine)} entries {'after' if after else 'before'} the attack, "
                    f"the manifest says {n_attacked} behaviors; delete it and run again"
                )
            n_complied = sum(row["complied"] is True for row in mine)
            n_unread = sum(row["complied"] is None and bool(row["raw"]) for row in mine)
            n_judged = sum(row["complied"] is not None for row in mine) + n_unread
            if judge == judges[0]:
                n_judged, n_complied = n_attacked, primary[after]
            if n_judged:
                yield Verdicts(judge, last if after else 0, n_judged, n_complied, n_unread)


def clean_losses(folders: Sequence[Path]) -> dict[int, float]:
    """Mean cross-entropy of each behavior's opening after the request as it is, in nats a token."""
    rows = read_replies(folders).to_pylist()
    mine = [row for row in rows if row["judge"] == LIKELIHOOD and row["iteration"] == 0 and row["raw"]]
    return {row["example_id"]: float(row["raw"]) for row in mine}
