"""One look at one store for its repair: what is found is noted, and put right unless the look is a dry one."""

from collections.abc import Callable
from dataclasses import dataclass, field

from wsi.files import remove_files
from wsi.grid_writer import feature_folders
from wsi.sealing import attributes_of
from wsi.store_lock import check_lock
from wsi.store_remains import temporary_files
from wsi.store_remake import manifest_records, proved, put
from wsi.store_url import StorePath


@dataclass(slots=True)
class Repair:
    """What became of one slide's store.

    Attributes
    ----------
    name : str
        `<slide_id>.zarr`.
    done : list of str
        What was put right, or would be.
    left : list of str
        What only `extract` or `import` can do, or a person.
    kept : list of str
        Files of somebody else that were found and not touched.
    """

    name: str
    done: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)

    def line(self) -> str:
        """All of it in one line."""
        parts = [*self.done]
        parts += [f"left: {'; '.join(self.left)}"] if self.left else []
        parts += [f"kept: {', '.join(self.kept)}"] if self.kept else []
        return f"{self.name}: {'; '.join(parts) if parts else 'sound'}"


@dataclass(frozen=True, slots=True)
class Look:
    """A look at the store `target`.

    Attributes
    ----------
    target : Path or StoreUrl
        The slide's store.
    dry : bool
        Note what would be done, and do not do it.
    drop_unfinished : bool
        Remove stages although chunks in them are finished.
    max_bad : float
        Largest share of bad tiles with which features are published, 0 to 1.
    found : Repair
    """

    target: StorePath
    dry: bool
    drop_unfinished: bool
    max_bad: float
    found: Repair

    @property
    def maker(self) -> str:
        """The verb that makes this store's files again; features of another program are imported again."""
        for part in (self.target, *feature_folders(self.target)):
            said = attributes_of(part) or {}
            if any(isinstance(said.get(key), dict) and said[key].get("imported") for key in ("recipe", "card")):
                return "import"
        return "extract"

    def do(self, what: str, action: Callable[[], object]) -> None:
        """Note what is done, once it is. In a bucket the lease is looked at before."""
        if not self.dry:
            check_lock(self.target)
            action()
        self.found.done.append(what)

    def remove_temporary(self, folder: StorePath) -> None:
        """Remove what killed writers left of files in a published folder."""
        if left := list(temporary_files(folder)):
            self.do(f"removed {count(len(left), 'temporary file')}{self._of(folder)}", lambda: remove_files(left))

    def make_again(self, folder: StorePath, damage: list[str], make: Callable[[], dict[str, bytes]]) -> list[str]:
        """Damaged files less those that could be made again, as the manifest proves."""
        made = proved(make(), manifest_records(folder) or {})
        for name in damage:
            if name in made:
                self.do(f"made {name}{self._of(folder)} again", lambda name=name: put(folder, name, made[name]))  # type: ignore[misc]
        return [name for name in damage if name not in made]

    def _of(self, folder: StorePath) -> str:
        return "" if folder == self.target else f" of {folder.name}"


def count(number: int, noun: str) -> str:
    """A number of things in words."""
    return f"{number} {noun}{'' if number == 1 else 's'}"
