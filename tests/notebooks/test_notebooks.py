"""The notebooks run from top to bottom, and the committed pages are those of the scripts beside them."""

import os
import re
from pathlib import Path

import jupytext
import nbformat
import pytest
from nbclient import NotebookClient

REPOSITORY = Path(__file__).resolve().parents[2]
SCRIPTS = sorted((REPOSITORY / "notebooks").glob("[0-9]*.py"))
LARGEST_PAGE_BYTES = 400_000
MACHINE_PATH = re.compile(r"(?<![\w.])/(?:home|root|tmp|work|var|usr|opt|Users|private)/\w|[A-Z]:\\\\")

every_notebook = pytest.mark.parametrize("script", SCRIPTS, ids=[script.stem[:2] for script in SCRIPTS])


def texts(notebook: nbformat.NotebookNode) -> list[str]:
    """What the code cells of a notebook print or show as text."""
    found = []
    for cell in notebook.cells:
        for output in cell.get("outputs", ()):
            found.append(output.get("text", ""))
            found += [data for kind, data in output.get("data", {}).items() if kind.startswith("text/")]
    return found


def pictures(notebook: nbformat.NotebookNode) -> int:
    """How many pictures are in the outputs."""
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    return sum(kind.startswith("image/") for output in outputs for kind in output.get("data", {}))


def complaints(notebook: nbformat.NotebookNode) -> list[str]:
    """Errors and whatever went to the error stream, warnings among it."""
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    return [str(one) for one in outputs if one.output_type == "error" or one.get("name") == "stderr"]


def test_there_are_three_pairs() -> None:
    assert [script.stem[:2] for script in SCRIPTS] == ["01", "02", "03"]
    pages = sorted((REPOSITORY / "notebooks").glob("*.ipynb"))
    assert [page.stem for page in pages] == [script.stem for script in SCRIPTS]


@every_notebook
def test_page_has_the_cells_of_its_script(script: Path) -> None:
    ours, theirs = jupytext.read(script), nbformat.read(script.with_suffix(".ipynb"), as_version=4)
    assert [(cell.cell_type, cell.source) for cell in theirs.cells] == [
        (cell.cell_type, cell.source) for cell in ours.cells
    ]


@every_notebook
def test_page_was_run_in_order_and_shows_pictures_only_of_the_slides(script: Path) -> None:
    path = script.with_suffix(".ipynb")
    page = nbformat.read(path, as_version=4)
    counts = [cell.execution_count for cell in page.cells if cell.cell_type == "code"]
    assert counts == list(range(1, len(counts) + 1))
    assert pictures(page) >= 3
    assert complaints(page) == []
    assert [text for text in texts(page) if MACHINE_PATH.search(text)] == []
    assert path.stat().st_size < LARGEST_PAGE_BYTES


@pytest.mark.slow
@every_notebook
def test_notebook_runs(script: Path, tmp_path: Path) -> None:
    notebook = jupytext.read(script)
    environment = os.environ | {
        "PYTHONPATH": str(REPOSITORY),
        "IPYTHONDIR": str(tmp_path / "ipython"),
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
    }
    client = NotebookClient(notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": tmp_path}})
    client.execute(env=environment)
    assert complaints(notebook) == []
    assert pictures(notebook) == pictures(nbformat.read(script.with_suffix(".ipynb"), as_version=4))
