"""Paths and URLs of slides, and that a URL shows no more than it may."""

import pickle
from pathlib import Path

import pytest

from wsi.errors import UsageError
from wsi.slide import path_slide_id
from wsi.slide_url import SlideUrl, slide_location

SECRET = "https://anna:pass@host.example:8443/a%20b/case%207.ome.tiff?X-Amz-Signature=deadbeef#frag"


def test_a_path_stays_a_path() -> None:
    for text in ("slide.svs", "/data/slide.svs", "../a b.svs", "C:/slides/x.svs", "odd:name//x.svs"):
        assert slide_location(text) == Path(text)
    assert slide_location(Path("x.svs")) == Path("x.svs")
    assert slide_location("file:///data/a%20b.svs") == Path("/data/a b.svs")


def test_a_url_keeps_its_slashes_and_is_the_same_after_a_journey() -> None:
    url = slide_location("s3://bucket/folder/slide.svs")
    assert isinstance(url, SlideUrl)
    assert (url.url, url.protocol, url.name, url.stem, url.suffix) == (
        "s3://bucket/folder/slide.svs", "s3", "slide.svs", "slide", ".svs",
    )  # fmt: skip
    assert pickle.loads(pickle.dumps(url)) == url
    assert slide_location(url) is url


def test_what_is_shown_holds_no_credentials() -> None:
    url = SlideUrl(SECRET)
    assert str(url) == "https://host.example:8443/a%20b/case%207.ome.tiff"
    for shown in (str(url), repr(url), f"{url}", f"{[url]}"):
        assert not any(part in shown for part in ("anna", "pass", "deadbeef", "Signature", "frag"))
    assert url.url == SECRET


def test_a_query_may_end_in_a_slash() -> None:
    assert SlideUrl("https://host.example/x.svs?sig=abc/").name == "x.svs"


def test_slide_id_is_the_last_component_without_query() -> None:
    assert path_slide_id(SlideUrl(SECRET)) == "case 7"
    assert path_slide_id(SlideUrl("s3://bucket/50%25.svs")) == "50%25"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("https://host.example/?token=abc", "names no file"),
        ("s3://bucket/folder/", "list the slides"),
        ("s3://bucket/*.svs", "not searched"),
        ("zip://a.svs::s3://bucket/x.zip", "(::)"),
    ],
)
def test_what_names_no_single_file_is_refused(text: str, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        slide_location(text)
    assert said in str(caught.value)
    assert "abc" not in str(caught.value)
