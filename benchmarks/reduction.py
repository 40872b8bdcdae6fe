"""What decoding at reduced scale costs: tiles read by the fast reader against full decode and area mean.

    python benchmarks/reduction.py [--side 4096] [--qualities 75,80,90] [SLIDE ...]

Tiles of 224 px at 0.5 um/px are read twice: by `jpeg_tiff`, which decodes stored tiles at 1/2, 1/4 or 1/8 in the DCT
domain where that gives the same area means, and through OpenSlide, whole, with the same area mean. Prints the PSNR
over all pixels, the worst tile's, and the cosine of their `lite0` features (mean and least). Slides that are named
are measured as well, at 1, 2, 4 and 8 times their own pixel size and at odd scales between.
"""

import argparse
import tempfile
from contextlib import ExitStack, closing
from pathlib import Path

import numpy as np

from mil.encoders import load_encoder
from wsi.slide import open_slide
from wsi.synthetic import write_slide
from wsi.tiles import TileGrid, TileReader, TileSpec

MPP = 0.25
MOST_TILES = 64


def grid_of(size_px0: tuple[int, int], factor: float, mpp: float) -> TileGrid:
    """Tiles side by side over a slide, at most `MOST_TILES` of them."""
    spec = TileSpec(224, mpp * factor, 224)
    side = 224 * factor
    places = [np.rint(np.arange(0, extent - side + 1e-6, side)) for extent in size_px0]
    coords = np.stack(np.meshgrid(*places), axis=-1).reshape(-1, 2).astype(np.int32)
    coords = (
        coords[np.linspace(0, len(coords) - 1, min(MOST_TILES, len(coords))).astype(int)] if len(coords) else coords
    )
    return TileGrid(spec, coords, np.ones(len(coords), np.float32), (side, side))


def psnr_db(found: np.ndarray, expected: np.ndarray) -> float:
    """Peak signal to noise ratio of uint8 pixels; infinite where they are equal."""
    error = np.mean((found.astype(np.float64) - expected) ** 2)
    return float(10 * np.log10(255**2 / error)) if error else float("inf")


def compare(title: str, path: Path, factor: float, mpp: float) -> None:
    """Read both ways and print a line."""
    with ExitStack() as stack:
        readers = [
            stack.enter_context(closing(open_slide(path, reader=name, mpp=(mpp, mpp), content_hash="0")))
            for name in ("jpeg_tiff", "openslide")
        ]
        grid = grid_of(readers[0].info.bounds_px0[2:], factor, mpp)
        rows = np.arange(len(grid))
        if not len(rows):
            return
        fast, slow = (TileReader(slide, grid) for slide in readers)
        found, expected = fast.read(rows), slow.read(rows)
        both = np.intersect1d(found.rows, expected.rows)
        ours, theirs = (one.pixels[np.isin(one.rows, both)] for one in (found, expected))
        textured = [place for place, tile in enumerate(theirs) if tile.std() > 8]  # glass says nothing
        ours, theirs = ours[textured], theirs[textured]
    if not len(ours):
        return
    encoder = load_encoder("lite0")
    a, b = (encoder.encode(tiles).astype(np.float64) for tiles in (ours, theirs))
    cosine = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    worst = min(map(psnr_db, ours, theirs))
    print(
        f"{title:42} x{factor:<6g} 1/{fast._reduce}  {len(ours):3} tiles  PSNR {psnr_db(ours, theirs):5.1f} dB "
        f"(worst {worst:5.1f})  cosine {cosine.mean():.5f} (least {cosine.min():.5f})",
        flush=True,
    )


def main() -> None:
    """Compare and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--side", type=int, default=4096, help="side of the drawn slides in level-0 pixels")
    parser.add_argument("--qualities", default="75,80,90")
    parser.add_argument("slides", nargs="*", type=Path, metavar="SLIDE")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for subsampling in ("4:2:0", "4:2:2", "4:4:4"):
            for quality in map(int, args.qualities.split(",")):
                path = Path(folder) / f"{subsampling.replace(':', '')}-{quality}.svs"
                size = (args.side, args.side)
                write_slide(path, seed=1, size_px0=size, mpp=MPP, tissue=0.9, subsampling=subsampling, quality=quality)
                compare(f"drawn, {subsampling}, Q{quality}", path, 2.0, MPP)
    for path in args.slides:
        with closing(open_slide(path, reader="jpeg_tiff", content_hash="0")) as slide:
            mpp = (slide.info.mpp or (MPP,))[0]
            mpp = mpp if 0.05 < mpp < 20 else MPP
        for factor in (1.0, 2.0, 2.004, 2.5, 3.0, 4.0, 8.0):
            compare(path.name, path, factor, mpp)


if __name__ == "__main__":
    main()
