"""Every registered export keeps the contract."""

from pathlib import Path

import pytest

from wsi.exports import EXPORTS, Export
from wsi.testing import check_export


@pytest.mark.parametrize("name", EXPORTS)
def test_export_keeps_its_contract(name: str, tmp_path: Path) -> None:
    check_export(EXPORTS[name], tmp_path)


def test_file_names_do_not_collide() -> None:
    names = [name for export in EXPORTS.values() for name in export.file_names]
    assert len(names) == len(set(names))


def test_the_check_finds_an_export_that_leaves_a_file_behind(tmp_path: Path) -> None:
    def write(folder: Path, maps: object) -> None:
        (folder / "named").write_text(repr(maps))
        (folder / "stray").touch()

    with pytest.raises(AssertionError, match="stray"):
        check_export(Export(("named",), write), tmp_path)


def test_the_check_finds_an_export_that_depends_on_the_folder(tmp_path: Path) -> None:
    def write(folder: Path, maps: object) -> None:
        (folder / "named").write_text(str(folder))

    with pytest.raises(AssertionError, match="differs"):
        check_export(Export(("named",), write), tmp_path)
