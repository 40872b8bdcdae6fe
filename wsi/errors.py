"""Every error a user can meet. One base, and each leaf is also the builtin that a caller would expect.

A message says what was found, what was expected and what to do. `code` is the class of failure that the
quarantine lists, `remedy` what cures it in a few words.
"""

from typing import ClassVar


class WsiError(Exception):
    """Base of all errors of this project; `str(error)` is one line made for a person."""

    code: ClassVar[str] = "failed"
    remedy: ClassVar[str] = "see the message; run again with --debug for the traceback"


class UsageError(WsiError, ValueError):
    """An argument, a CSV or a configuration cannot be used as it is."""

    code = "usage"
    remedy = "correct the argument or the file named in the message"


class MissingPackageError(WsiError, ImportError):
    """An optional package is needed for what was asked."""

    code = "missing_package"
    remedy = "install the extra that the message names"


class UnreadableSlideError(WsiError, OSError):
    """No reader can open the file, or what it holds is not a slide."""

    code = "unreadable"
    remedy = "check the file against its source and copy it again"


class VanishedSlideError(UnreadableSlideError):
    """The slide's file is not there, or not any more."""

    code = "vanished"
    remedy = "check the path and the mount, then run the same command again"


class SlideChangedError(UnreadableSlideError):
    """The slide's file was replaced or written to while it was read."""

    code = "changed"
    remedy = "run the same command again once nothing writes to the slide"


class UnreachableSlideError(UnreadableSlideError):
    """A server does not give a slide's bytes: it is away, denies them, or holds another file by now.

    Says nothing of the slide, so no tile is recorded as bad for it.
    """

    code = "unreachable"
    remedy = "check network, server and credentials, then run the same command again: it goes on where it stopped"


class MissingMppError(WsiError, ValueError):
    """The slide does not say how large a pixel is."""

    code = "missing_mpp"
    remedy = "give the pixel size with --slide-mpp, or in the mpp column of the slide list"


class ImplausibleMppError(MissingMppError):
    """The slide states a pixel size that no scanner has, or two that contradict each other."""

    code = "implausible_mpp"


class NoTissueError(WsiError, ValueError):
    """The slide was read and holds no tissue (or no tile with enough of it). An outcome, not a fault."""

    code = "no_tissue"
    remedy = "look at the slide; lower --min-tissue if there is tissue"


class UnsupportedStainError(WsiError, ValueError):
    """The slide is not brightfield: nothing here is made for fluorescence."""

    code = "not_brightfield"
    remedy = "leave fluorescence slides out; only brightfield slides can be graded"


class TileReadError(WsiError, OSError):
    """One region of a slide cannot be decoded; the rest of the slide may be fine."""

    code = "tile_unreadable"
    remedy = "copy the slide again; the tile is recorded as bad and left out"


class TooManyBadTilesError(WsiError, OSError):
    """So many tiles cannot be decoded that a grade from the rest would mean little."""

    code = "too_many_bad_tiles"
    remedy = "copy the slide again or rescan it; --max-bad sets the share that is borne"


class CorruptStoreError(WsiError, ValueError):
    """A feature store is damaged or incomplete."""

    code = "corrupt_store"
    remedy = (
        "run `histograde extract` on the same slide, or `import` on the same file, again: it repairs what is damaged"
    )


class UnreachableStoreError(WsiError, RuntimeError):
    """A server does not give or take a feature store's objects: it is away, or denies them.

    No `OSError`: what could not be asked for must never pass for what is missing or damaged.
    """

    code = "unreachable"
    remedy = "check network, server and credentials, then run the same command again: it goes on where it stopped"


class UnreadableFeaturesError(WsiError, ValueError):
    """A file of features that another program made cannot be taken over."""

    code = "unreadable_features"
    remedy = "check the file against its source; write it again with the program that made it"


class RecipeMismatchError(WsiError, ValueError):
    """A store, an encoder or a model was made another way than is asked for now."""

    code = "recipe_mismatch"
    remedy = "use the same recipe, or another --store folder"


class StoreBusyError(WsiError, BlockingIOError):
    """Another process is writing the same store."""

    code = "store_busy"
    remedy = "wait for the other run to end"


class TaskLimitError(WsiError, TimeoutError):
    """A task ran longer than it may: a reader that hangs, or a slide that takes forever."""

    code = "timeout"
    remedy = (
        "look at the slide by itself; run the same command again with --retry-quarantined and a longer --task-limit"
    )


class LostSchedulerError(WsiError, ConnectionError):
    """The scheduler that hands out the work has gone away."""

    code = "lost_scheduler"
    remedy = "start the scheduler, then run the same command again: it goes on where it stopped"


class PatientLeakError(WsiError, ValueError):
    """One patient stands on both sides of a split."""

    code = "patient_leak"
    remedy = "correct the fold or patient_id column"
