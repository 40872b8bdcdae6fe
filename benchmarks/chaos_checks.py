"""What must hold after a chaos run, read from the folders alone."""

import csv
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

ENCODER = "toy"
TEMPORARY = (".tmp", ".partial", ".lock", ".old")
CACHE_KEY = ".source.json"
"""Has time stamps of the slide's file; FORMAT.md leaves it out of what is equal."""

MOST_NAMED = 4
MOST_TWICE = 0.05


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that must hold: what was found of it, and whether that is as it must be."""

    name: str
    passed: bool
    found: str


def table(path: Path) -> dict[str, dict[str, str]]:
    """The rows of a CSV by slide_id; empty where there is none."""
    if not path.exists():
        return {}
    with path.open(newline="", encoding="utf-8") as handle:
        return {row["slide_id"]: row for row in csv.DictReader(handle)}


def some(names: Iterable[str]) -> str:
    """The first few of them."""
    ordered = sorted(names)
    return ", ".join(ordered[:MOST_NAMED]) + (f" and {len(ordered) - MOST_NAMED} more" * (len(ordered) > MOST_NAMED))


def all_graded(run: Path, good: Iterable[str]) -> Check:
    """Every good slide, and no other, is in predictions.csv."""
    expected, found = set(good), set(table(run / "predictions.csv"))
    text = f"{len(expected & found)} of {len(expected)}"
    if missing := expected - found:
        text += f"; not graded: {some(missing)}"
    if more := found - expected:
        text += f"; graded though bad: {some(more)}"
    return Check("good slides graded", expected == found, text)


def same_predictions(run: Path, undisturbed: Path, good: Iterable[str]) -> Check:
    """The rows of the good slides are those of the undisturbed run, the seconds aside."""
    found, expected = table(run / "predictions.csv"), table(undisturbed / "predictions.csv")
    names = list(good)
    for rows in (found, expected):
        for row in rows.values():
            row.pop("seconds", None)
    other = [name for name in names if name not in found or found[name] != expected.get(name)]
    text = f"{len(names) - len(other)} of {len(names)} equal" + (f"; others: {some(other)}" if other else "")
    return Check("predictions as undisturbed", not other, text)


def store_digests(store: Path) -> dict[str, str]:
    """SHA-256 of every file of a store by its place in it."""
    return {
        path.relative_to(store).as_posix(): sha256(path.read_bytes()).hexdigest()
        for path in sorted(store.rglob("*"))
        if path.is_file() and path.name != CACHE_KEY
    }


def same_features(run: Path, undisturbed: Path, good: Iterable[str]) -> Check:
    """The stores of the good slides are byte for byte those of the undisturbed run."""
    files, other = 0, []
    for name in good:
        found, expected = (store_digests(root / "features" / f"{name}.zarr") for root in (run, undisturbed))
        files += len(expected)
        if not any(f"features/{ENCODER}/values/c/" in place for place in expected):
            other.append(f"{name} (the undisturbed run has no features)")
        elif found != expected:
            places = {place for place in {*found, *expected} if found.get(place) != expected.get(place)}
            other.append(f"{name} ({some(places)})")
    return Check("stores byte-equal", not other, f"{files} files" + (f"; others: {some(other)}" if other else ""))


def right_classes(run: Path, bad: Mapping[str, str]) -> Check:
    """Every bad slide, and no other, is in quarantine under its class."""
    found = {name: row["error_class"] for name, row in table(run / "quarantine.csv").items()}
    wrong = [
        f"{name} is {found.get(name, 'not there')}, not {want}" for name, want in bad.items() if found.get(name) != want
    ]
    wrong += [f"{name} is {error_class} though good" for name, error_class in found.items() if name not in bad]
    counted = ", ".join(f"{count} {error_class}" for error_class, count in sorted(Counter(found.values()).items()))
    return Check("bad slides in quarantine by class", not wrong, counted + (f"; wrong: {some(wrong)}" if wrong else ""))


def nothing_temporary(run: Path) -> Check:
    """No file or folder that was meant for a while only.

    Features begun of a slide that is in quarantine are none: with `--retry-quarantined` the work goes on there.
    """
    quarantined = table(run / "quarantine.csv")
    begun = {run / "features" / f"{name}.zarr" / "features" / f".{ENCODER}.partial" for name in quarantined}
    found = [path for path in run.rglob("*") if path.name.endswith(TEMPORARY)]
    left = [path.relative_to(run).as_posix() for path in found if path not in begun]
    kept = f"begun features of {len(found) - len(left)} slides in quarantine are kept"
    return Check("no temporary file left", not left, f"{some(left) or 'none'}; {kept}")


class ChunkWatch:
    """Sees how often each chunk is written, by the time stamps of its file while its slide is under way.

    A log says what a run heard of; a chunk whose worker died with the news of it is written twice and heard of once.
    """

    def __init__(self, stores: Path) -> None:
        self._stores = stores
        self._times: dict[tuple[str, int], set[int]] = {}
        self._settled: set[str] = set()

    def look(self) -> None:
        """Take up the chunks that are there now; call several times a second."""
        if not self._stores.is_dir():
            return
        for store in self._stores.glob("[!.]*.zarr"):
            features = store / "features"
            stage, published = features / f".{ENCODER}.partial", features / ENCODER
            if stage.is_dir():
                self._settled.discard(store.stem)
            elif store.stem in self._settled:
                continue
            elif published.is_dir():
                self._settled.add(store.stem)
            for folder in (stage, published):
                for path in folder.glob("values/c/*/0"):
                    self._take(store.stem, path)

    def _take(self, slide_id: str, path: Path) -> None:
        try:
            found = path.stat()
        except OSError:
            return
        if found.st_size:
            self._times.setdefault((slide_id, int(path.parent.name)), set()).add(found.st_mtime_ns)

    def check(self, damaged: set[tuple[str, int]], bad: Iterable[str]) -> Check:
        """Less than 5 % of the chunks were computed again."""
        left_out = set(bad)
        counted = {key: times for key, times in self._times.items() if key[0] not in left_out and key not in damaged}
        again = sum(len(times) - 1 for times in counted.values())
        share = again / max(1, len(counted))
        text = f"{again} of {len(counted)} ({share:.1%}), by their files"
        return Check("chunks computed twice", bool(counted) and share < MOST_TWICE, text)


def heard_twice(lines: Iterable[Mapping[str, Any]], damaged: set[tuple[str, int]]) -> Check:
    """The same by the log of all starts; `damaged` has (first digits of the slide's hash, chunk)."""
    contents: dict[tuple[str, int], str] = {}
    chunks: Counter[tuple[str, int]] = Counter()
    for line in lines:
        if line["event"] == "planned":
            contents[line["run"], line["slide"]] = line["content"]
        elif line["event"] == "chunk" and line.get("computed", True) and (line["run"], line["slide"]) in contents:
            chunks[contents[line["run"], line["slide"]], line["chunk"]] += 1
    counted = {key: count for key, count in chunks.items() if key not in damaged}
    again = sum(count - 1 for count in counted.values())
    share = again / max(1, len(counted))
    text = f"{again} of {len(counted)} ({share:.1%}), by the log"
    return Check("chunks computed twice", bool(counted) and share < MOST_TWICE, text)
