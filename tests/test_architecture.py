"""Which room may know which: the imports of every module, also those inside of functions."""

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from workflows.cli import COMMANDS

REPOSITORY = Path(__file__).resolve().parents[1]
FORBIDDEN = {
    "wsi": (
        "torch", "torchvision", "lightning", "timm", "distributed", "dask.distributed", "fastapi", "uvicorn",
        "requests", "httpx", "mil", "workflows",
    ),
    "mil": ("workflows", "distributed", "dask.distributed", "openslide", "tiffslide", "wsi.readers"),
}  # fmt: skip
FETCHES = "wsi/ranged_http.py"
"""The one module that knows an HTTP client. It is imported for a URL that a user named, and then only."""
STORES_FAR, CLIENTS = "wsi/object_store.py", ("obstore", "botocore", "boto3")
"""The one that knows the client of buckets; it imports that when a store in one is named."""
VERBS = {module for module, _ in COMMANDS.values()}
PLAYS_ALL = "workflows.demo"


def modules(package: str) -> list[Path]:
    found = sorted((REPOSITORY / package).rglob("*.py"))
    assert found, f"{package} has no modules"
    return found


def imported(source: str) -> set[str]:
    """Dotted names of all that a module imports: of `from a import b` both `a` and `a.b`."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are written in full, not relative"
            assert node.module
            names.add(node.module)
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return names


def within(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


def test_imports_are_found_wherever_they_stand() -> None:
    source = "import a.b\ndef f():\n    from c.d import e\nif True:\n    import g as h\n"
    assert imported(source) == {"a.b", "c.d", "c.d.e", "g"}


@pytest.mark.parametrize("package", FORBIDDEN)
def test_packages_point_one_way(package: str) -> None:
    wrong = [
        f"{path.relative_to(REPOSITORY)} imports {name}"
        for path in modules(package)
        for name in sorted(imported(path.read_text(encoding="utf-8")))
        if any(within(name, one) for one in FORBIDDEN[package])
    ]
    assert not wrong


def test_one_module_knows_an_http_client() -> None:
    knows = [
        path.relative_to(REPOSITORY).as_posix()
        for package in ("wsi", "mil", "workflows")
        for path in modules(package)
        if any(within(name, "aiohttp") for name in imported(path.read_text(encoding="utf-8")))
    ]
    assert knows == [FETCHES]


def test_one_module_knows_the_client_of_buckets() -> None:
    knows = [
        path.relative_to(REPOSITORY).as_posix()
        for package in ("wsi", "mil", "workflows")
        for path in modules(package)
        if any(within(name, client) for name in imported(path.read_text(encoding="utf-8")) for client in CLIENTS)
    ]
    assert knows == [STORES_FAR]


def test_mil_opens_no_slide() -> None:
    wrong = [
        f"{path.relative_to(REPOSITORY)}:{node.lineno}"
        for path in modules("mil")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if (isinstance(node, ast.alias) and node.name == "open_slide")
        or (isinstance(node, ast.Attribute) and node.attr == "open_slide")
    ]
    assert not wrong


def test_a_verb_imports_no_other_verb() -> None:
    wrong = []
    for verb in sorted(VERBS - {PLAYS_ALL}):
        path = REPOSITORY / (verb.replace(".", "/") + ".py")
        names = imported(path.read_text(encoding="utf-8"))
        wrong += [f"{verb} imports {name}" for name in names for other in VERBS - {verb} if within(name, other)]
    assert not wrong


def test_a_noun_imports_no_verb() -> None:
    wrong = [
        f"{path.name} imports {name}"
        for path in modules("workflows")
        if f"workflows.{path.stem}" not in VERBS
        for name in imported(path.read_text(encoding="utf-8"))
        if any(within(name, verb) for verb in VERBS)
    ]
    assert not wrong


def test_no_module_is_a_drawer_for_everything() -> None:
    drawers = {"utils", "util", "helpers", "common", "base", "core", "misc"}
    parts = {
        part
        for package in ("wsi", "mil", "workflows")
        for path in modules(package)
        for part in path.relative_to(REPOSITORY).with_suffix("").parts
    }
    assert not parts & drawers


PROBE = """
import json, logging, sys
from workflows.cli import main
found = {}
try:
    main(["--help"])
except SystemExit as stopped:
    found["code"] = stopped.code
found["after_help"] = sorted(sys.modules)
import wsi, mil, workflows, mil.metrics, mil.calibration
import wsi.slide, wsi.tissue, wsi.store, wsi.readers.jpeg_tiff
found["after_import"] = sorted(sys.modules)
found["handlers"] = [
    name for name in ("", "wsi", "mil", "workflows") if logging.getLogger(name).handlers
]
print("\\n" + json.dumps(found))
"""


def test_what_an_import_brings_with_it() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROBE], cwd=REPOSITORY, capture_output=True, text=True, check=True, timeout=60
    )
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["code"] == 0
    assert "extract" in done.stdout
    assert not {"numpy", "torch", "zarr", "dask"} & set(found["after_help"])
    assert "numpy" in found["after_import"]
    assert not {"torch", "aiohttp", "s3fs", "obstore", "botocore", "wsi.remote_bytes"} & set(found["after_import"])
    assert not found["handlers"]


def test_no_test_sets_the_clock_of_the_whole_process() -> None:
    """The `time` of a module is that of every thread: an event loop that meets a stopped clock sleeps for hours."""
    changing = re.compile(r"setattr\((?:\w+\.)?time,")
    found = [
        f"{path.relative_to(REPOSITORY)}:{number}"
        for path in sorted((REPOSITORY / "tests").rglob("*.py"))
        for number, line in enumerate(path.read_text().splitlines(), start=1)
        if changing.search(line)
    ]
    assert found == []
