"""What a command was asked to do, and the record that lies beside every output."""

import platform
import sys
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, is_dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from wsi.errors import UsageError
from wsi.files import write_json
from wsi.store_url import StorePath, StoreUrl

RECORDED_PACKAGES = (
    "histograde", "numpy", "zarr", "dask", "openslide-python", "openslide-bin", "tiffslide", "tifffile",
    "opencv-python-headless", "torch", "timm", "lightning",
)  # fmt: skip


@dataclass(slots=True)
class RunRecord:
    """`run.json`: what ran, with what, and what came of it.

    Attributes
    ----------
    command : str
    config : mapping
        Every option as it was resolved.
    inputs, outputs : mapping
        Content hash by slide or file.
    counts : mapping
        Slides, tiles, bad tiles, quarantined ...
    timings_s : mapping
        Seconds by stage, summed over workers; `wall` is the clock's.
    throughput : mapping
        As `throughput` makes it, where slides went through.
    """

    command: str
    config: Mapping[str, Any]
    inputs: dict[str, str] = field(default_factory=dict)
    outputs: dict[str, str] = field(default_factory=dict)
    counts: dict[str, Any] = field(default_factory=dict)
    timings_s: dict[str, float] = field(default_factory=dict)
    throughput: dict[str, Any] = field(default_factory=dict)

    def write(self, folder: StorePath) -> None:
        """Write `run.json` into a folder, or as an object into a bucket, atomically."""
        record = {
            "command": self.command,
            "config": plain(self.config),
            "versions": versions(),
            "inputs": self.inputs,
            "outputs": self.outputs,
            "counts": self.counts,
            "timings_s": {stage: round(seconds, 3) for stage, seconds in self.timings_s.items()},
            "throughput": self.throughput,
        }
        if isinstance(folder, Path):
            folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / "run.json", record)


def throughput(slides: int, timings_s: Mapping[str, float]) -> dict[str, Any]:
    """Slides per hour of the clock, and what a slide costs by stage: seconds of a worker. Empty if there was none.

    Parameters
    ----------
    slides : int
        That went through; what was spent on the others is in what these cost.
    timings_s : mapping
        As in `RunRecord`.
    """
    if not slides:
        return {}
    cost = {stage: round(spent / slides, 4) for stage, spent in timings_s.items() if stage != "wall"}
    return {"slides_per_hour": round(slides * 3600 / timings_s["wall"], 2), "seconds_per_slide": cost}


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that can change a result."""
    found = {"python": platform.python_version(), "platform": sys.platform}
    for package in RECORDED_PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def plain(value: Any) -> Any:
    """Dataclasses, paths and tuples as JSON values."""
    if is_dataclass(value) and not isinstance(value, type):
        return plain(asdict(value))
    if isinstance(value, Mapping):
        return {str(key): plain(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(part) for part in value]
    return str(value) if isinstance(value, Path | StoreUrl) else value


def read_defaults(path: Path) -> dict[str, Any]:
    """Defaults of the commands' options out of a TOML file: one table a command, names as on the command line.

    Raises
    ------
    UsageError
        If the file cannot be read, or is not a table of tables.
    """
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"{path}: cannot be read as TOML ({error})") from error
    for name, table in tables.items():
        if not isinstance(table, dict):
            raise UsageError(f"{path}: {name!r} stands outside a table; write it under [extract], [train] ...")
    return {name: {key.replace("-", "_"): value for key, value in table.items()} for name, table in tables.items()}
