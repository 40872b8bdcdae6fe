"""`histograde verify`: every chunk of feature stores against its checksum and the manifest."""

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from wsi.store_url import StorePath


def command(
    store: Annotated[
        str, typer.Argument(metavar="STORE", help="A folder of stores, or one <slide>.zarr; also as s3://BUCKET/...")
    ],
) -> None:
    """Every chunk against its checksum and the manifest; says what is damaged, missing or unfinished.

    Exit code 0: all is well. 1: something is damaged; `histograde extract` on the same slides repairs it.

    Example: `histograde verify features/`
    """
    from wsi.store_url import store_location

    report, damaged = verify(store_location(store))
    typer.echo("\n".join(report))
    if damaged:
        raise typer.Exit(1)


def verify(root: "StorePath") -> tuple[list[str], int]:
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
    UnreachableStoreError
        If the server of a bucket does not answer: that says nothing of the stores.
    """
    from wsi.errors import UnreachableStoreError, UsageError, WsiError
    from wsi.store import FeatureStore, store_paths, unfinished

    if not root.exists():
        raise UsageError(f"{root}: no such folder")
    paths = store_paths(root)
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
        except UnreachableStoreError:
            raise
        except WsiError as error:
            wrong = [str(error)]
        damaged += bool(wrong)
        report += wrong + [f"{path.name}: {name} is unfinished" for name in unfinished(path / "features")]
    report += [f"{name} is unfinished" for name in unfinished(root)]
    verdict = f"{damaged} damaged" if damaged else "all chunks agree with their checksums"
    return [*report, f"{len(paths)} stores, {complete} complete sets of features: {verdict}"], damaged
