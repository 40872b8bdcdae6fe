"""`histograde verify`: every chunk of feature stores against its checksum and the manifest."""

from pathlib import Path
from typing import Annotated

import typer


def command(
    store: Annotated[Path, typer.Argument(metavar="STORE", help="A folder of stores, or one <slide>.zarr.")],
) -> None:
    """Every chunk against its checksum and the manifest; says what is damaged, missing or unfinished.

    Exit code 0: all is well. 1: something is damaged; `histograde extract` on the same slides repairs it.

    Example: `histograde verify features/`
    """
    report, damaged = verify(store)
    typer.echo("\n".join(report))
    if damaged:
        raise typer.Exit(1)


def verify(root: Path) -> tuple[list[str], int]:
    """Check all stores below a folder.

    Returns
    -------
    report : list of str
        A line for each thing that is wrong, and a last line that sums up.
    damaged : int
        Number of slides with damage. Unfinished work is reported and is not damage.

    Raises
    ------
    UsageError
        If there is no store.
    """
    from wsi.errors import UsageError, WsiError
    from wsi.store import FeatureStore

    if not root.exists():
        raise UsageError(f"{root}: no such folder")
    paths = [root] if root.suffix == ".zarr" else sorted(root.glob("*.zarr")) if root.is_dir() else []
    if not paths:
        raise UsageError(f"{root}: no feature store (*.zarr) in this folder")
    report: list[str] = []
    damaged, complete = 0, 0
    for path in paths:
        try:
            store = FeatureStore(path)
            wrong = [f"{path.name}: {one.where} {one.what}" for one in store.verify()]
            complete += len(store.encoders)
            if not store.encoders:
                report.append(f"{path.name}: has no complete features")
        except WsiError as error:
            wrong = [str(error)]
        damaged += bool(wrong)
        report += wrong + [
            f"{path.name}: {part.name} is unfinished" for part in sorted(path.glob("features/.*.partial"))
        ]
    for pattern in (".*.zarr.partial", ".*.zarr.old"):
        report += [f"{part.name} is unfinished" for part in sorted(root.glob(pattern))]
    verdict = f"{damaged} damaged" if damaged else "all chunks agree with their checksums"
    return [*report, f"{len(paths)} stores, {complete} complete sets of features: {verdict}"], damaged
