"""In a bucket: marks beside a store whose run is gone, and grids that were begun there.

A grid in the making has no manifest, so that nothing proves what is there of it.
"""

from wsi.files import remove_tree
from wsi.grid_writer import feature_folders, set_aside
from wsi.lease import clock_of
from wsi.object_store import each
from wsi.repair_look import Look
from wsi.sealing import partial_of
from wsi.store_lock import lock_of
from wsi.store_remains import foreign_in_grid
from wsi.store_url import StoreUrl


def finish_marks(look: Look, target: StoreUrl) -> bool:
    """Take away marks that nobody needs, and a grid that was only begun.

    Returns
    -------
    bool
        False if nothing more can be said of the store.
    """
    mark, aside, clock = partial_of(target), set_aside(target), clock_of(lock_of(target))
    marked, clocked, *moved = each(lambda ask: ask(), [mark.is_file, clock.is_file, mark.is_dir, aside.is_dir])
    if clocked:
        look.do("took away what a run that is gone read the server's clock off", clock.unlink)
    for name in [place.name for place, there in zip((mark, aside), moved, strict=True) if there]:
        look.found.left.append(f"{name} was copied from a disk; repair it there and copy it again, or remove it")
    if any(moved):
        return False
    return not marked or _finish_grid(look, target, mark)


def _finish_grid(look: Look, target: StoreUrl, mark: StoreUrl) -> bool:
    if (target / "manifest.json").is_file():
        look.do("ended the publication of its grid", mark.unlink)
        return True
    if feature_folders(target):
        look.found.left.append(f"its grid is unfinished: {look.maker} makes it again and keeps the features")
    elif foreign := foreign_in_grid(target):
        look.found.kept += foreign
        look.found.left.append("its grid is unfinished, and holds files that are not of a store; move those elsewhere")
    else:
        look.do("removed an unfinished grid", lambda: _remove_grid(target, mark))
    return False


def _remove_grid(target: StoreUrl, mark: StoreUrl) -> None:
    """The mark goes last: what lies there without one is damaged, and not unfinished."""
    remove_tree(target)
    mark.unlink()
