"""The three lists of packages say the same: pyproject.toml, environment.yml, requirements.lock."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml

REPOSITORY = Path(__file__).resolve().parents[1]
CONDA_NAMES = {"torch": ["pytorch"], "dask[distributed]": ["dask", "distributed"]}
EXTRAS = ("mil", "remote", "slurm", "import", "anndata", "report", "lite0")


def by_name(requirements: list[str]) -> dict[str, str]:
    """Name to bound, as in `numpy>=2.0`."""
    parted = [re.fullmatch(r"([^<>=!~;\s]+)(>=[\d.]+)", one) for one in requirements]
    assert all(parted), f"not of the form name>=version: {requirements}"
    return {one[1]: one[2] for one in parted if one}


@pytest.fixture(scope="module")
def project() -> dict:
    return tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]


@pytest.fixture(scope="module")
def lock() -> str:
    return (REPOSITORY / "requirements.lock").read_text(encoding="utf-8")


def test_environment_agrees_with_pyproject(project: dict) -> None:
    listed = yaml.safe_load((REPOSITORY / "environment.yml").read_text(encoding="utf-8"))["dependencies"]
    assert "pip" in listed
    (from_pypi,) = (one["pip"] for one in listed if isinstance(one, dict))
    from_conda = [one for one in listed if isinstance(one, str) and one != "pip"]
    assert not set(by_name(from_conda)) & set(by_name(from_pypi))
    extras = [one for extra in EXTRAS for one in project["optional-dependencies"][extra]]
    expected = {"python": project["requires-python"]}
    for name, bound in by_name([*project["dependencies"], *extras]).items():
        expected |= dict.fromkeys(CONDA_NAMES.get(name, [name]), bound)
    assert by_name([*from_conda, *from_pypi]) == expected


def test_every_locked_package_has_hashes(lock: str) -> None:
    packages = re.split(r"\n(?=[^\s#])", lock.strip())
    assert len(packages) > 50
    for package in packages:
        head = package.splitlines()[0]
        assert re.match(r"[\w.-]+(\[[\w,-]+\])?==\S+", head), head
        assert re.search(r"--hash=sha256:[0-9a-f]{64}", package), head


def test_lock_names_no_place(lock: str) -> None:
    assert "://" not in lock
    assert "--index" not in lock
    assert "--extra-index" not in lock


def test_all_direct_requirements_are_locked_within_bounds(project: dict, lock: str) -> None:
    locked = {
        re.sub(r"[-_.]+", "-", name).lower(): version
        for name, version in re.findall(r"^([\w.-]+)(?:\[[\w,-]+\])?==([\w.+!]+)", lock, flags=re.MULTILINE)
    }
    wanted = [*project["dependencies"], *(one for extra in EXTRAS for one in project["optional-dependencies"][extra])]
    for name, bound in by_name(wanted).items():
        version = locked[re.sub(r"[-_.]+", "-", name.partition("[")[0]).lower()]
        assert numbers(version) >= numbers(bound.removeprefix(">=")), f"{name} {version} is below {bound}"


def numbers(version: str) -> list[int]:
    return [int(part) for part in re.findall(r"\d+", version.partition("+")[0])]
