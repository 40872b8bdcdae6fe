"""A training that can be killed: where it stands after an epoch, and what it came to."""

import io
import json
import time
from collections.abc import Callable, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import safetensors.torch
import torch

from mil.network import Network
from wsi.files import to_json, write_atomic

EVERY_S = 30.0
"""Seconds between two checkpoints: the most that a kill costs, beside the epoch at hand."""
DIGEST = 32


class FitFolder:
    """The folder of one fit: `checkpoint` while it runs, `weights.safetensors` and `fit.json` when it is done.

    A file that is damaged counts as not there: the fit begins anew and comes to the same weights.

    Parameters
    ----------
    path : Path
    every_s : float
    """

    def __init__(self, path: Path, every_s: float = EVERY_S):
        self.path = path
        self._every_s = every_s
        self._last = time.monotonic()

    def below(self, name: str) -> "FitFolder":
        """The folder of a fit that this one needs."""
        return FitFolder(self.path / name, self._every_s)

    def save(self, state: Callable[[], Mapping[str, Any]]) -> None:
        """Keep a state of tensors and plain values, unless the last one is not old yet."""
        if time.monotonic() - self._last < self._every_s:
            return
        buffer = io.BytesIO()
        torch.save(dict(state()), buffer)
        self.path.mkdir(parents=True, exist_ok=True)
        data = buffer.getvalue()
        write_atomic(self.path / "checkpoint", sha256(data).digest() + data)
        self._last = time.monotonic()

    def load(self) -> dict[str, Any] | None:
        """The state that was kept last."""
        try:
            data = (self.path / "checkpoint").read_bytes()
        except OSError:
            return None
        if sha256(data[DIGEST:]).digest() != data[:DIGEST]:
            return None
        state: dict[str, Any] = torch.load(io.BytesIO(data[DIGEST:]), map_location="cpu", weights_only=True)
        return state

    def finish(self, network: Network, record: Mapping[str, Any]) -> None:
        """Keep the trained network and what is to be known of its training; the checkpoint goes."""
        self.path.mkdir(parents=True, exist_ok=True)
        weights = safetensors.torch.save({name: part.contiguous() for name, part in network.state_dict().items()})
        write_atomic(self.path / "weights.safetensors", weights)
        note = {"weights_sha256": sha256(weights).hexdigest(), "record": dict(record)}
        write_atomic(self.path / "fit.json", to_json(note))
        (self.path / "checkpoint").unlink(missing_ok=True)

    def finished(self, network: Network) -> dict[str, Any] | None:
        """What was kept of a fit that is done, and its weights into `network`; None while it is not."""
        try:
            note = json.loads((self.path / "fit.json").read_bytes())
            weights = (self.path / "weights.safetensors").read_bytes()
        except (OSError, ValueError):
            return None
        if sha256(weights).hexdigest() != note["weights_sha256"]:
            return None
        network.load_state_dict(safetensors.torch.load(weights))
        record: dict[str, Any] = note["record"]
        return record
