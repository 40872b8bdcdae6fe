"""Plug points: short names to parts that are imported when they are looked up, and not before.

An outside package adds a part through an entry point in the group `histograde.` and the plural of what it is.
"""

from collections.abc import Iterator, Mapping
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any

from wsi.errors import UsageError


class Registry(Mapping[str, Any]):
    """Names to parts, in the order in which they were written down.

    Parameters
    ----------
    kind : str
        What the parts are, as said in error messages; the entry-point group is `histograde.` and their
        plural.
    targets : mapping of str to str
        Name to `module:attribute`.
    """

    def __init__(self, kind: str, targets: Mapping[str, str]):
        self.kind = kind
        self.kinds = f"{kind}es" if kind.endswith("s") else f"{kind}s"
        self._targets = dict(targets)
        self._looked_outside = False

    def __getitem__(self, name: str) -> Any:
        if name not in self._all():
            raise UsageError(f"no {self.kind} is called {name!r}; there are: {', '.join(self)}")
        module, _, attribute = self._targets[name].partition(":")
        return getattr(import_module(module), attribute)

    def __iter__(self) -> Iterator[str]:
        return iter(self._all())

    def __len__(self) -> int:
        return len(self._all())

    def __contains__(self, name: object) -> bool:
        return name in self._all()

    def _all(self) -> dict[str, str]:
        if not self._looked_outside:
            self._looked_outside = True
            for point in sorted(entry_points(group=f"histograde.{self.kinds}"), key=lambda point: point.name):
                self._targets.setdefault(point.name, point.value)
        return self._targets
