"""One training step on a bag of 500,000 tiles: the memory it takes, and its gradient.

    python -m benchmarks.large_bag [--tiles 500000] [--dim 1024] [--dtype float16]

Each way runs in a process of its own, on one thread: block by block as `mil.blockwise` does it, and plain, the
equations written out over the whole bag. "peak" is the highest resident memory during the step less what the process
held before the bag was made. Gradients are compared by their largest difference relative to the largest gradient.
"""

import argparse
import multiprocessing
import resource
import time
from typing import Any

import numpy as np
import psutil

ALLOWED = 1.15


def step(results: Any, tiles: int, dim: int, dtype: str, plain: bool) -> None:
    """Makes the bag, takes one step, and sends peak bytes, seconds and gradients."""
    import torch

    from benchmarks.mil_speed import PlainABMIL
    from mil.bag import Bag, pack
    from mil.network import Network, NetworkSpec

    torch.set_num_threads(1)
    torch.manual_seed(0)
    spec = NetworkSpec("abmil", "cross_entropy", dim, 3, {"dropout": 0.0})
    network, loss, written_out = Network(spec), spec.build_loss(), None
    network.mean += 0.1
    if plain:
        written_out = PlainABMIL(network.model)

    def take(bag: Bag) -> None:
        batch = pack([bag], [1])
        if written_out is None:
            network.objective(batch, loss).backward()
        else:
            features = (batch.stored.float() - network.mean) * network.scale
            loss(network.output(written_out(features)), batch.targets).backward()

    take(Bag("warm", np.ones((40_000, dim), dtype), np.zeros((40_000, 2), np.float32), np.arange(40_000)))
    network.zero_grad()
    before = psutil.Process().memory_info().rss
    rng = np.random.default_rng(0)
    features = np.empty((tiles, dim), dtype)
    for start in range(0, tiles, 4096):
        part = features[start : start + 4096]
        part[:] = rng.standard_normal(part.shape, np.float32)
    bag = Bag("large", features, np.zeros((tiles, 2), np.float32), np.arange(tiles))
    start_s = time.process_time()
    take(bag)
    seconds = time.process_time() - start_s
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before
    gradients = np.concatenate([p.grad.flatten().numpy() for p in network.parameters() if p.grad is not None])
    results.send((peak, seconds, gradients, features.nbytes))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--tiles", type=int, default=500_000)
    parser.add_argument("--dim", type=int, default=1024)
    parser.add_argument("--dtype", default="float16", choices=("float16", "float32"))
    options = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    found = {}
    for name, plain in (("blockwise", False), ("plain", True)):
        here, there = context.Pipe()
        process = context.Process(target=step, args=(there, options.tiles, options.dim, options.dtype, plain))
        process.start()
        there.close()
        found[name] = here.recv()
        process.join()
    size = found["plain"][3]
    print(f"gated ABMIL, {options.tiles:,} x {options.dim} {options.dtype}: a bag of {size / 1e6:,.0f} MB, one thread")
    for name, (peak, seconds, _, _) in found.items():
        print(
            f"{name:<10} peak {peak / 1e6:>8,.0f} MB = {peak / size:.3f} x the bag, {seconds:.1f} s of processor time"
        )
    ours, theirs = found["blockwise"][2], found["plain"][2]
    apart = float(np.abs(ours - theirs).max() / np.abs(theirs).max())
    print(f"gradients apart by {apart:.1e}; allowed: 1e-5, and a peak of {ALLOWED} x")


if __name__ == "__main__":
    main()
