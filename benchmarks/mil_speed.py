"""How fast MIL models train: epochs over packed bags against the usual loop over bags one by one.

    python -m benchmarks.mil_speed [--models abmil,transmil] [--sizes small,middle,large] [--dims 512,1024] [--rounds 5]
                                   [--device cpu] [--threads 1]

The loop is what everybody writes: a plain module without segments, one bag in a forward and a backward pass, gradients
summed over the same bags as a pack holds, so that both take the same optimiser steps. Its pooling is written out here,
with the weights of ours. Both start from float16 features in memory, as a store gives them, and make float32 of them;
packing is inside the clock. Variants run in turns; shown are medians of the seconds an epoch takes (of processor time,
where there is one thread, so that other work on the machine counts less).

    small    bags of   16 to    200 tiles
    middle   bags of  100 to  2,000 tiles
    large    bags of 1,000 to 20,000 tiles

"apart" is the largest difference of a gradient of one pack from that of the loop, relative to the largest gradient.
With --device cuda features travel from the host in both variants.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from mil.bag import Bag, BagBatch
from mil.models import MODELS
from mil.packing import Packing

SIZES = {"small": (16, 200, 256), "middle": (100, 2_000, 64), "large": (1_000, 20_000, 12)}
"""Fewest and most tiles of a bag, bags of an epoch."""
CLASSES = 3
ROOM = {"cpu": Packing(slides=64, tiles=4096, bag_tiles=1 << 30), "cuda": Packing(64, 65_536, 1 << 30)}


class PlainABMIL(nn.Module):
    """Gated attention pooling of one bag (N, D), as in the public code of the paper, with the weights of ours."""

    def __init__(self, ours: nn.Module):
        super().__init__()
        self.ours = ours

    def forward(self, features: Tensor) -> Tensor:
        h = self.ours.embed(features)
        scores = self.ours.w(torch.tanh(self.ours.v(h)) * torch.sigmoid(self.ours.u(h)))  # (N, 1)
        z = torch.mm(torch.softmax(scores.T, dim=1), h)  # (1, hidden)
        return self.ours.classify(z)


class OneByOne(nn.Module):
    """Any of our models on one bag (N, D): for those whose plain form is long."""

    def __init__(self, ours: nn.Module):
        super().__init__()
        self.ours = ours

    def forward(self, features: Tensor) -> Tensor:
        ends = torch.tensor([0, len(features)], device=features.device)
        nowhere = torch.zeros((len(features), 2), device=features.device)
        return self.ours.logits(BagBatch(features, ends, nowhere, ends[:1]))


PLAIN: dict[str, type[nn.Module]] = {"abmil": PlainABMIL}


@dataclass
class Contest:
    """One model on one kind of bags."""

    model: nn.Module
    plain: nn.Module
    bags: list[Bag]
    targets: np.ndarray
    packing: Packing
    device: str

    def batches(self) -> Iterator[BagBatch]:
        return self.packing.epoch(self.bags, self.targets, 0, 0)

    def groups(self) -> Sequence[list[int]]:
        """Bags of each batch, by number."""
        numbered = self.packing.epoch(self.bags, np.arange(len(self.bags)), 0, 0)
        return [batch.targets.tolist() for batch in numbered]

    def packed_step(self, batch: BagBatch) -> None:
        batch = batch.to(self.device)
        functional.cross_entropy(self.model.logits(batch), batch.targets).backward()

    def looped_step(self, group: list[int]) -> None:
        for number in group:
            features = torch.from_numpy(self.bags[number].features).to(self.device, non_blocking=True).float()
            target = torch.tensor([self.targets[number]], device=self.device)
            (functional.cross_entropy(self.plain(features), target) / len(group)).backward()

    def epoch(self, steps: Iterator[Any] | Sequence[Any], step: Callable[[Any], None]) -> float:
        optimizer = torch.optim.AdamW(self.model.parameters(), 1e-4)
        clock = time.perf_counter if self.device == "cuda" or torch.get_num_threads() > 1 else time.process_time
        start = clock()
        for one in steps:
            optimizer.zero_grad()
            step(one)
            optimizer.step()
        if self.device == "cuda":
            torch.cuda.synchronize()
        return clock() - start

    def apart(self) -> float:
        """Largest relative difference of the gradients of the first pack."""
        gradients = []
        for step, one in ((self.packed_step, next(self.batches())), (self.looped_step, self.groups()[0])):
            self.model.zero_grad()
            step(one)
            gradients.append(torch.cat([p.grad.flatten() for p in self.model.parameters() if p.grad is not None]))
        return float((gradients[0] - gradients[1]).abs().max() / gradients[1].abs().max())


def contest(name: str, size: str, dim: int, device: str) -> Contest:
    """Made-up bags and a model with dropout off, so that gradients can be compared."""
    low, high, count = SIZES[size]
    rng = np.random.default_rng(0)
    lengths = np.exp(rng.uniform(np.log(low), np.log(high), count)).round().astype(int)
    bags = [
        Bag(f"bag-{number}", rng.standard_normal((tiles, dim), np.float32).astype(np.float16), *places(tiles))
        for number, tiles in enumerate(lengths)
    ]
    torch.manual_seed(0)
    model = MODELS[name](dim, CLASSES, dropout=0.0).to(device).train()
    plain = PLAIN.get(name, OneByOne)(model)
    return Contest(model, plain, bags, rng.integers(0, CLASSES, count), ROOM[device], device)


def places(tiles: int) -> tuple[np.ndarray, np.ndarray]:
    side = int(np.ceil(np.sqrt(tiles)))
    rows = np.arange(tiles)
    return (112.0 * np.stack([rows % side, rows // side], axis=1)).astype(np.float32), rows


def measure(one: Contest, rounds: int) -> tuple[float, float]:
    """Median seconds of an epoch, packed and looped."""
    found: dict[str, list[float]] = {"packed": [], "loop": []}
    groups = one.groups()
    for number in range(rounds + 1):
        times = {"packed": one.epoch(one.batches(), one.packed_step), "loop": one.epoch(groups, one.looped_step)}
        if number:  # the first round warms up
            for name, seconds in times.items():
                found[name].append(seconds)
    return statistics.median(found["packed"]), statistics.median(found["loop"])


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--models", default="abmil")
    parser.add_argument("--sizes", default=",".join(SIZES))
    parser.add_argument("--dims", default="512,1024")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(f"{options.device}, {options.threads} threads; seconds an epoch, median of {options.rounds}")
    print(f"{'model':<12}{'bags':<8}{'dim':>5}{'tiles':>9}{'loop':>9}{'packed':>9}{'ratio':>7}{'apart':>10}")
    for name in options.models.split(","):
        for size in options.sizes.split(","):
            for dim in map(int, options.dims.split(",")):
                one = contest(name, size, dim, options.device)
                apart = one.apart()
                packed, looped = measure(one, options.rounds)
                tiles = sum(map(len, one.bags))
                times = f"{looped:>9.3f}{packed:>9.3f}{looped / packed:>6.2f}x"
                print(f"{name:<12}{size:<8}{dim:>5}{tiles:>9,}{times}{apart:>10.1e}", flush=True)


if __name__ == "__main__":
    main()
