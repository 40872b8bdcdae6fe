"""README and the pages of docs name what there is: every model, loss, setting and option, and nothing else."""

import re
from dataclasses import fields
from importlib import import_module
from pathlib import Path

import pytest

from mil.losses import LOSSES, VALUE_LOSSES
from mil.models import MODELS
from mil.packing import Packing
from workflows.cli import COMMANDS, load_command
from wsi.registry import Registry

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "models.md").read_text(encoding="utf-8")
README = (ROOT / "README.md").read_text(encoding="utf-8")

MODEL_COMMANDS = ("train", "sweep", "compare", "evaluate", "explain", "grade", "render")
TABLES = {"Models": MODELS, "Losses of classes": LOSSES, "Losses of times and values": VALUE_LOSSES}


def rows(heading: str) -> dict[str, str]:
    """First name of each row of the table under a heading, and the row."""
    section = PAGE.split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]
    return {found[1]: found[0] for found in re.finditer(r"^\| `(\w+)`.*\|$", section, flags=re.MULTILINE)}


def options(command: str) -> set[str]:
    """All that a command can be given, as --name."""
    return {spelling for one in load_command(command).params for spelling in (*one.opts, *one.secondary_opts)}


@pytest.mark.parametrize("heading", TABLES)
def test_every_entry_of_a_registry_has_a_row(heading: str) -> None:
    assert sorted(rows(heading)) == sorted(TABLES[heading])


@pytest.mark.parametrize("heading", TABLES)
def test_papers_are_those_of_the_files(heading: str) -> None:
    registry: Registry = TABLES[heading]
    for name, row in rows(heading).items():
        text = Path(import_module(registry[name].__module__).__file__ or "").read_text(encoding="utf-8")
        for link in re.findall(r"\((https://[^)]+)\)", row):
            assert link in text, f"{name}: {link} is not in its file"


def test_settings_are_those_of_packing() -> None:
    assert set(rows("Samplers and bags that are made")) <= {one.name for one in fields(Packing)}


def test_options_of_the_page_exist() -> None:
    known = {option for command in MODEL_COMMANDS for option in options(command)}
    assert set(re.findall(r"(?<![\w-])--[a-z][\w-]*", PAGE)) <= known


@pytest.mark.parametrize("page", [PAGE, README], ids=["models", "README"])
def test_commands_of_a_page_have_these_options(page: str) -> None:
    lines = re.findall(r"^histograde (\w+)(.*)$", page.replace("\\\n", " "), flags=re.MULTILINE)
    assert lines
    for command, rest in lines:
        assert command in COMMANDS
        given = set(re.findall(r"(?<![\w-])--[a-z][\w-]*", rest.split(" # ")[0]))
        assert given <= options(command), f"{command}: {given - options(command)}"


@pytest.mark.parametrize(
    "path", [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))], ids=lambda path: path.stem
)
def test_links_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", path.read_text(encoding="utf-8")):
        assert (path.parent / target).exists(), target
