"""Which slides a command is about."""

from pathlib import Path

import pytest

from workflows.sources import SlideSource, find_slides, read_slide_list
from wsi.errors import UsageError


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def ids(sources: list[SlideSource]) -> list[str]:
    return [source.slide_id for source in sources]


def write_csv(path: Path, *lines: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_files_are_taken_whatever_their_suffix(tmp_path: Path) -> None:
    touch(tmp_path / "b.svs", tmp_path / "a.xyz")
    assert find_slides([tmp_path / "b.svs", tmp_path / "a.xyz"]) == [
        SlideSource("a", tmp_path / "a.xyz", "a"),
        SlideSource("b", tmp_path / "b.svs", "b"),
    ]


def test_an_absent_file_stays_a_slide_and_is_missed_by_name(tmp_path: Path) -> None:
    assert ids(find_slides([tmp_path / "absent.svs"])) == ["absent"]


def test_folder(tmp_path: Path) -> None:
    touch(
        tmp_path / "one.SVS",
        tmp_path / "deep" / "er" / "two.ome.tiff",
        tmp_path / "notes.txt",
        tmp_path / ".hidden.svs",
        tmp_path / ".hidden" / "three.svs",
        tmp_path / "store.zarr" / "four.tif",
    )
    assert ids(find_slides([tmp_path])) == ["one", "two"]


def test_dicom_folder_is_one_slide(tmp_path: Path) -> None:
    touch(tmp_path / "case" / "1.dcm", tmp_path / "case" / "2.dcm", tmp_path / "other" / "1.dcm", tmp_path / "p.svs")
    found = find_slides([tmp_path])
    assert [(source.slide_id, source.path) for source in found] == [
        ("case", tmp_path / "case"),
        ("other", tmp_path / "other"),
        ("p", tmp_path / "p.svs"),
    ]
    assert ids(find_slides([tmp_path / "case"])) == ["case"]


def test_side_folder_of_a_mirax_slide_holds_no_slides(tmp_path: Path) -> None:
    touch(tmp_path / "m.mrxs", tmp_path / "m" / "Data0000.dat", tmp_path / "m" / "preview.jpg")
    assert ids(find_slides([tmp_path])) == ["m"]
    assert ids(find_slides([str(tmp_path / "*")])) == ["m"]
    assert ids(find_slides([tmp_path / "m.mrxs", tmp_path / "m"])) == ["m"]


def test_glob(tmp_path: Path) -> None:
    touch(tmp_path / "a1.svs", tmp_path / "a2.svs", tmp_path / "b1.svs", tmp_path / "x" / "a3.svs")
    assert ids(find_slides([str(tmp_path / "a*.svs")])) == ["a1", "a2"]
    assert ids(find_slides([str(tmp_path / "**" / "a*.svs")])) == ["a1", "a2", "a3"]
    with pytest.raises(UsageError, match="matches no file"):
        find_slides([str(tmp_path / "c*.svs")])


def test_a_file_whose_name_looks_like_a_glob(tmp_path: Path) -> None:
    touch(tmp_path / "a[1].svs")
    assert ids(find_slides([tmp_path / "a[1].svs"])) == ["a[1]"]


def test_one_slide_named_twice_counts_once(tmp_path: Path) -> None:
    touch(tmp_path / "a.svs")
    (tmp_path / "link.svs").symlink_to(tmp_path / "a.svs")
    assert len(find_slides([tmp_path, tmp_path / "a.svs"])) == 1


def test_two_slides_of_one_name(tmp_path: Path) -> None:
    touch(tmp_path / "x" / "a.svs", tmp_path / "y" / "a.tif")
    with pytest.raises(UsageError, match=r"two slides are called 'a'.*CSV"):
        find_slides([tmp_path])


def test_nothing_found(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no slide"):
        find_slides([tmp_path])
    with pytest.raises(UsageError, match="no slide"):
        find_slides([])


def test_folder_that_leads_back_to_itself(tmp_path: Path) -> None:
    touch(tmp_path / "a.svs")
    (tmp_path / "loop").symlink_to(tmp_path, target_is_directory=True)
    assert ids(find_slides([tmp_path])) == ["a"]


def test_csv(tmp_path: Path) -> None:
    path = write_csv(
        tmp_path / "lists" / "slides.csv",
        "\ufeffslide_id, path, patient_id, site, mpp",
        "s2, ../scans/two.svs, P1, Bern, 0.25",
        f"s1, {tmp_path}/scans/one.svs, , ,",
        '"s,3", three.svs, P2, "Basel, west", "0.25,0.251"',
    )
    s1, s2 = tmp_path / "scans" / "one.svs", tmp_path / "lists" / "../scans/two.svs"
    fallback = (0.5, 0.5)
    three = tmp_path / "lists" / "three.svs"
    assert find_slides([path], fallback) == [
        SlideSource("s,3", three, "P2", "Basel, west", (0.25, 0.251), fallback),
        SlideSource("s1", s1, "s1", "", None, fallback),
        SlideSource("s2", s2, "P1", "Bern", (0.25, 0.25), fallback),
    ]


def test_what_a_csv_says_goes_before_the_bare_path(tmp_path: Path) -> None:
    touch(tmp_path / "a.svs")
    path = write_csv(tmp_path / "slides.csv", "slide_id,path,patient_id", "named,a.svs,P1")
    for order in ([path, tmp_path / "a.svs"], [tmp_path / "a.svs", path]):
        (found,) = find_slides(order)
        assert (found.slide_id, found.patient_id) == ("named", "P1")


def test_two_lines_that_contradict_each_other(tmp_path: Path) -> None:
    touch(tmp_path / "a.svs")
    path = write_csv(tmp_path / "slides.csv", "slide_id,path,patient_id", "a,a.svs,P1", "a,a.svs,P2")
    with pytest.raises(UsageError, match="named twice"):
        find_slides([path])


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (["slide_id,file", "a,a.svs"], "column path is missing"),
        (["slide_id;path", "a;a.svs"], "separated by commas"),
        ([""], "missing"),
        (["slide_id,path", "a,a.svs", ",b.svs"], "line 3"),
        (["slide_id,path", "a,"], "line 2"),
        (["slide_id,path,mpp", "a,a.svs,0.25", "b,b.svs,wide"], "line 3.*wide"),
        (["slide_id,path,mpp", "a,a.svs,250"], "line 2.*250"),
        (["slide_id,path", "../a,a.svs"], "line 2"),
    ],
)
def test_wrong_csv(tmp_path: Path, lines: list[str], said: str) -> None:
    path = write_csv(tmp_path / "slides.csv", *lines)
    with pytest.raises(UsageError, match=said) as refused:
        read_slide_list(path)
    assert "slides.csv" in str(refused.value)


def test_csv_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "slides.csv").write_bytes(b"\xff\xfe\x00s")
    with pytest.raises(UsageError, match="cannot be read as a CSV"):
        find_slides([tmp_path / "slides.csv"])
    with pytest.raises(UsageError, match="cannot be read as a CSV"):
        find_slides([tmp_path / "absent.csv"])


def test_opens_as_described(small_svs: Path) -> None:
    slide = SlideSource("mine", small_svs, "P", mpp=(0.3, 0.3)).open()
    try:
        assert slide.info.slide_id == "mine"
        assert slide.info.mpp == (0.3, 0.3)
        assert slide.info.mpp_source == "user (the file says 0.5)"
    finally:
        slide.close()
    slide = SlideSource("mine", small_svs, "P", fallback_mpp=(0.3, 0.3)).open(content_hash="00")
    try:
        assert slide.info.mpp == (0.5, 0.5)
        assert slide.info.content_hash == "00"
    finally:
        slide.close()
