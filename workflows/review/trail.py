"""The trail: who did what to which case, and what they were shown. It is appended to and never changed.

Each entry carries the hash of the one before it,

    hash_n = SHA-256(hash_(n-1) + canonical JSON of entry n)

with 64 zeros before the first (linked time stamps after Haber and Stornetta: How to Time-Stamp a Digital Document,
Journal of Cryptology 3, 1991). An entry that is changed, taken out, put in or moved breaks the chain at its place.
Entries cut off at the end leave a sound chain; they are missed by the side file that holds the last hash.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, insert, select

from workflows.review.errors import DeskError
from workflows.review.rows import Row, all_rows
from workflows.review.tables import entries
from workflows.review.trail_head import Head, read_head

FIRST = "0" * 64
HASHED = [column.name for column in entries.columns if column.name not in {"previous_hash", "hash"}]
BATCH = 5000


@dataclass(frozen=True, slots=True)
class Soundness:
    """Whether a trail is whole: how many entries are sound from the first on, and what is wrong with the next.

    Attributes
    ----------
    entries : int
    first_broken : int or None
        Its number; None for a sound trail.
    problem : str
        In one line; empty for a sound trail.
    """

    entries: int
    first_broken: int | None = None
    problem: str = ""

    @property
    def sound(self) -> bool:
        """Whether nothing is wrong."""
        return self.first_broken is None


def canonical(value: Any) -> str:
    """JSON that is the same text for equal values: keys sorted, no spaces, ASCII."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def entry_hash(previous_hash: str, entry: Mapping[str, Any]) -> str:
    """The hash of an entry behind another."""
    return sha256((previous_hash + canonical({name: entry[name] for name in HASHED})).encode("ascii")).hexdigest()


def append(connection: Connection, said: Mapping[str, Any], head_file: Path) -> dict[str, Any]:
    """Append an entry, within a transaction that holds the writers' lock; gives it with its number and hashes.

    Raises
    ------
    DeskError
        409 if the end that the side file remembers is not in the trail: new entries would cover that up.
    """
    _refuse_cut(connection, read_head(head_file))
    last = connection.execute(select(entries.c.seq, entries.c.hash).order_by(entries.c.seq.desc()).limit(1)).first()
    seq, previous_hash = (last.seq + 1, last.hash) if last else (1, FIRST)
    entry = {**said, "seq": seq, "previous_hash": previous_hash}
    entry["hash"] = entry_hash(previous_hash, entry)
    connection.execute(insert(entries).values(entry))
    return entry


def _refuse_cut(connection: Connection, head: Head | None) -> None:
    if head is None:
        return
    found = connection.execute(select(entries.c.hash).where(entries.c.seq == head.seq)).scalar()
    if found != head.hash:
        raise DeskError(
            409,
            f"entry {head.seq} of the trail is gone or changed, so nothing can be signed; "
            "see `histograde review RUN --check-trail`",
        )


def check(engine: Engine, head_file: Path | None = None) -> Soundness:
    """Walk the whole trail, and hold its end against the side file."""
    head = read_head(head_file) if head_file else None
    with engine.connect() as connection:
        return _walk(_rows(connection), head)


def _walk(rows: Iterator[Row], head: Head | None) -> Soundness:
    seq, previous_hash = 0, FIRST
    for row in rows:
        expected = seq + 1
        if row["seq"] != expected:
            return Soundness(seq, expected, f"entry {expected} is missing; the next is {row['seq']}")
        if row["previous_hash"] != previous_hash:
            return Soundness(
                seq, expected, f"entry {expected} does not follow from entry {seq}: one was put in or moved"
            )
        if row["hash"] != entry_hash(previous_hash, row):
            return Soundness(seq, expected, f"entry {expected} was changed: its content does not give its hash")
        seq, previous_hash = expected, row["hash"]
        if head and head.seq == seq and head.hash != previous_hash:
            return Soundness(seq - 1, seq, f"entry {seq} is not the one that the side file remembers")
    if head and head.seq > seq:
        return Soundness(seq, seq + 1, f"entries {seq + 1} to {head.seq} were cut off: the side file remembers them")
    return Soundness(seq)


def of_case(connection: Connection, case_id: int) -> list[Row]:
    """The entries of one case, in their order."""
    asked = select(entries).where(entries.c.case_id == case_id).order_by(entries.c.seq)
    return all_rows(connection, asked)


def _rows(connection: Connection) -> Iterator[Row]:
    asked = select(entries).order_by(entries.c.seq)
    for row in connection.execution_options(yield_per=BATCH).execute(asked):
        yield row._asdict()
