"""OME-XML that makes a parser work for nothing is refused; what an OME-TIFF says passes."""

import contextlib
from pathlib import Path

import pytest

from tests.hostile.mutate import DESCRIPTION, Tiff, sound_slides
from wsi.errors import UnreadableSlideError
from wsi.readers.jpeg_tiff import JpegTiffReader
from wsi.readers.ome_limits import check_ome
from wsi.readers.tiff_limits import Claims
from wsi.readers.tiffslide import TiffSlideReader

SIZES = {"SizeX": 256, "SizeY": 192, "SizeZ": 1, "SizeC": 3, "SizeT": 1}
BLOCK = '<TiffData IFD="0" PlaneCount="1"/>'


def xml(inner: str = BLOCK, order: str = "XYCZT", notes: str = "", **sizes: object) -> bytes:
    said = " ".join(f'{key}="{value}"' for key, value in (SIZES | sizes).items())
    return f'<OME>{notes}<Image><Pixels DimensionOrder="{order}" {said}>{inner}</Pixels></Image></OME>'.encode()


REFUSED = {
    "planes": xml(SizeZ=100_000_000),
    "channels": xml(SizeC=10**18),
    "nothing": xml(SizeT=0),
    "word": xml(SizeX="wide"),
    "area": xml(SizeX=10**9, SizeY=10**9),
    "blocks": xml(BLOCK * 5000),
    "count": xml('<TiffData IFD="0" PlaneCount="1000000000"/>'),
    "page": xml('<TiffData IFD="-1" PlaneCount="1"/>'),
    "order": xml(order="XYXYXYXY"),
    "modulo": xml(notes='<StructuredAnnotations><A Namespace="a/modulo" ID="b"/></StructuredAnnotations>'),
}


@pytest.mark.parametrize("name", REFUSED)
def test_impossible_claims_are_refused(name: str) -> None:
    with pytest.raises(UnreadableSlideError, match="OME-XML claims"):
        check_ome(Claims(((256, 192),), REFUSED[name]))


@pytest.mark.parametrize(
    "text", [xml(), xml("<TiffData/>"), xml(BLOCK * 3, SizeC=9), b"<OME><OME>", b"Aperio", b"", xml("")]
)
def test_what_can_be_passes(text: bytes) -> None:
    check_ome(Claims(((256, 192),), text))


@pytest.mark.parametrize("reader", [JpegTiffReader, TiffSlideReader])
def test_both_readers_look(tmp_path: Path, reader: type) -> None:
    tiff = Tiff(sound_slides()["ome"][0])
    tiff.set_bytes(next(one for one in tiff.entries if one.tag == DESCRIPTION), REFUSED["planes"], 2)
    path = tmp_path / "slide.ome.tif"
    path.write_bytes(bytes(tiff.data))
    with pytest.raises(UnreadableSlideError, match="OME-XML claims"):
        reader(path)


@pytest.mark.parametrize("reader", [JpegTiffReader, TiffSlideReader])
def test_no_other_file_is_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reader: type) -> None:
    opened: list[str] = []

    def spy(name: object, *arguments: object, **options: object) -> object:
        opened.append(str(name))
        return open(name, *arguments, **options)  # type: ignore[call-overload]

    other = tmp_path / "other.tif"
    other.write_bytes(sound_slides()["tiff"][0])
    tiff = Tiff(sound_slides()["ome"][0])
    link = f'<TiffData IFD="0" PlaneCount="1"><UUID FileName="{other}">urn:uuid:1</UUID></TiffData>'
    tiff.set_bytes(next(one for one in tiff.entries if one.tag == DESCRIPTION), xml(link), 2)
    path = tmp_path / "slide.ome.tif"
    path.write_bytes(bytes(tiff.data))
    monkeypatch.setattr("tifffile.tifffile.open", spy, raising=False)
    with contextlib.suppress(UnreadableSlideError):
        reader(path).close()
    assert {Path(name).name for name in opened} == {"slide.ome.tif"}
