"""Everything that can be put right about a store without its slide. FORMAT.md says what a crash can leave behind.

Nothing unproved is made to look sound: what is kept agrees with a SHA-256 of a manifest or of a journal, and what
cannot be proved is left to `extract`, which computes it, or to `import`. A chunk that agrees with its own CRC-32C alone
proves nothing, because a chunk of other features does so too. Files that are not of a store stay where they are.
"""

import os
import re
from uuid import uuid4

from wsi.errors import StoreBusyError, UnreachableStoreError, WsiError
from wsi.repair_features import mend_features
from wsi.repair_grid import mend_grid
from wsi.repair_look import Look, Repair
from wsi.repair_marks import finish_marks
from wsi.repair_moves import finish_moves
from wsi.sealing import attributes_of, is_store
from wsi.store import FORMAT_VERSION, FeatureStore
from wsi.store_lock import lock_of, slide_lock
from wsi.store_url import StorePath, StoreUrl

LOCK_TAKEN_AWAY = "took away the lock of a run that is gone"

_OF_SLIDE = re.compile(r"\.(.+?)\.(zarr\.partial|zarr\.old|lock|lock\.now)|([^.].*)\.zarr")


def slide_ids(root: StorePath) -> list[str]:
    """Slides of which anything lies in a folder of stores, sorted."""
    if isinstance(root, StoreUrl):
        from wsi.object_store import children

        names = [name for kind in children(root) for name in kind]
    else:
        names = os.listdir(root)
    found = (_OF_SLIDE.fullmatch(name) for name in names)
    return sorted({one[1] or one[3] for one in found if one})


def repair_slide(
    root: StorePath, slide_id: str, *, dry_run: bool = False, drop_unfinished: bool = False, max_bad: float = 0.2
) -> Repair:
    """Put right what can be put right about a slide's store without the slide.

    A sound store is read and not locked, so that a run can take it up meanwhile.

    Parameters
    ----------
    dry_run : bool
        Write nothing, take no lock; `done` is what would be done first. What shows only after that is not in it.
    drop_unfinished : bool
        Remove stages although chunks in them are finished.
    max_bad : float
        Largest share of bad tiles with which features are published, 0 to 1: `extract` refuses a slide with more.

    Raises
    ------
    UnreachableStoreError
        If the server of a bucket does not answer: that says nothing of the store.
    """
    if isinstance(root, StoreUrl):
        root = root.of_run(uuid4().hex)
    target = root / f"{slide_id}.zarr"

    def look(*, dry: bool) -> Repair:
        return _looked(Look(target, dry, drop_unfinished, max_bad, Repair(target.name)))

    seen = look(dry=True)
    if dry_run or not (seen.done or seen.left):
        return seen
    try:
        with slide_lock(root, slide_id):
            found = look(dry=False)
        found.done = [*(one for one in seen.done if one == LOCK_TAKEN_AWAY), *found.done]
        return found
    except StoreBusyError:
        return Repair(seen.name, left=["another run is at work on it"])
    except UnreachableStoreError:
        raise
    except WsiError as error:
        return Repair(seen.name, left=[str(error)])


def _looked(look: Look) -> Repair:
    found = look.found
    try:
        _mend(look)
    except UnreachableStoreError:
        raise
    except WsiError as error:  # some of which are an OSError too
        found.left.append(str(error).removeprefix(f"{found.name}: "))
    except OSError as error:
        found.left.append(f"cannot be repaired: {error.strerror}")
    except Exception as error:  # whatever it is, it ends the repair of this store only
        found.left.append(f"cannot be understood ({type(error).__name__}: {error})")
    return found


def _mend(look: Look) -> None:
    """All steps, in the order in which a writer would have gone on."""
    target = look.target
    if look.dry and lock_of(target).exists():
        look.found.done.append(LOCK_TAKEN_AWAY)
    more = finish_marks(look, target) if isinstance(target, StoreUrl) else finish_moves(look, target)
    if not more or not target.exists():
        return
    if not is_store(target):
        look.found.left.append("is not a feature store; remove it, or keep it elsewhere")
        return
    if (attributes_of(target) or {}).get("format_version", FORMAT_VERSION) != FORMAT_VERSION:
        FeatureStore(target)  # refuses another version of the format by name
    look.remove_temporary(target)
    if mend_grid(look):
        mend_features(look, FeatureStore(target))


__all__ = ["LOCK_TAKEN_AWAY", "Repair", "repair_slide", "slide_ids"]
