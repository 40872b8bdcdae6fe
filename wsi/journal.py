"""Journal records: which chunks of a slide's features are done, each record with a checksum of itself."""

import json
from collections.abc import Iterable, Mapping
from hashlib import sha256
from typing import Any

from wsi.errors import CorruptStoreError
from wsi.files import to_json, write_json
from wsi.store_url import StorePath
from wsi.tiles import BadTile


def write_record(path: StorePath, chunk_file: Mapping[str, Any], bad: Iterable[BadTile]) -> None:
    """Write the journal record of a chunk, with a checksum of the record itself."""
    record = {**chunk_file, "bad": [[one.row, one.reason] for one in bad]}
    write_json(path, record | {"check": sha256(to_json(record)).hexdigest()})


def parse_record(data: bytes, name: str) -> dict[str, Any]:
    """A journal record; raises `CorruptStoreError` if it is torn or altered."""
    try:
        record = dict(json.loads(data))
        check = record.pop("check")
    except (ValueError, KeyError, TypeError) as error:
        raise CorruptStoreError(f"{name}: not a journal record") from error
    if sha256(to_json(record)).hexdigest() != check:
        raise CorruptStoreError(f"{name}: the record differs from its checksum")
    return record
