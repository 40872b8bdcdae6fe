"""Places of stores: what is one, and that one in a bucket is handled like a path."""

import copy
import pickle
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath

import pytest

from wsi.errors import UsageError
from wsi.store_url import StoreUrl, store_location


def test_a_place_in_a_bucket_is_named_like_a_path() -> None:
    for text in ("stores", "stores/a b/cohort.v2", "stores/x/s.1.zarr"):
        place, path = StoreUrl(f"s3://{text}/"), PurePosixPath(text)
        assert str(place) == f"s3://{path}"
        assert (place.name, place.stem) == (path.name, path.stem)
        assert place / "y.z" == StoreUrl(f"s3://{path / 'y.z'}")
        assert place / "y" / "z" == place / "y/z"
    assert StoreUrl("s3://stores/x/s.zarr").suffix == ".zarr"
    assert StoreUrl("s3://stores").suffix == StoreUrl("s3://my.stores").suffix == ""
    assert StoreUrl("s3://stores/x/s.zarr").with_name(".s.lock") == StoreUrl("s3://stores/x/.s.lock")
    assert StoreUrl("s3://stores/x").parent == StoreUrl("s3://stores") == StoreUrl("S3://stores//")
    assert sorted([StoreUrl("s3://stores/a-b"), StoreUrl("s3://stores/a/b")]) == [
        StoreUrl("s3://stores/a/b"),
        StoreUrl("s3://stores/a-b"),
    ]


def test_the_name_of_the_run_goes_with_it_and_is_not_shown() -> None:
    @dataclass(frozen=True)
    class Config:
        store: StoreUrl

    place = StoreUrl("s3://stores/x").of_run("r1")
    for other in (place, pickle.loads(pickle.dumps(place)), copy.deepcopy(place), asdict(Config(place))["store"]):
        assert (other / "y").with_name("z").run == "r1"
        assert other == StoreUrl("s3://stores/x")
        assert hash(other) == hash(StoreUrl("s3://stores/x"))
        assert "r1" not in f"{other} {other!r}"


@pytest.mark.parametrize(
    "text",
    [
        "https://h.example/x",
        "s3://",
        "s3://AB/x",
        "s3://key:secret@stores/x",
        "s3://stores/x?versionId=secret",
        "s3://stores/../x",
        "gs://stores/x",
    ],
)
def test_what_is_no_place_for_stores(text: str) -> None:
    with pytest.raises(UsageError, match="not a place for stores") as caught:
        store_location(text)
    assert "secret" not in str(caught.value)


def test_folders_stay_paths() -> None:
    assert store_location("a/b") == store_location(Path("a/b")) == Path("a/b")
    assert store_location("file:///a%20b/c") == Path("/a b/c")
    assert store_location(StoreUrl("s3://stores")) == StoreUrl("s3://stores")
