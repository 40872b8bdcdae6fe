"""Objects of a bucket on a real server: conditions hold, names are kept, and trouble is named."""

import sys
from collections.abc import Iterator

import pytest

from tests.s3_server import BUCKET, S3Server, s3_server
from wsi import object_store
from wsi.errors import MissingPackageError, UnreachableStoreError, UsageError
from wsi.store_url import StoreUrl

pytest.importorskip("obstore")
pytest.importorskip("moto.server")

pytestmark = pytest.mark.services

ODD = "Präparat <1> & 50% #2~[a].zarr"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Server]:
    with s3_server(monkeypatch) as running:
        yield running


@pytest.fixture
def root(server: S3Server) -> StoreUrl:
    return StoreUrl(f"s3://{BUCKET}/a b")


def test_objects_are_kept_under_their_names(root: StoreUrl) -> None:
    import boto3

    etag = object_store.write(root / ODD / ".hidden/0", b"12345")
    (root / "a b.txt").write_bytes(b"")
    (root.parent / "a b2").write_bytes(b"beside it")
    client = boto3.client("s3")
    names = [one["Key"] for one in client.list_objects_v2(Bucket=BUCKET)["Contents"]]
    client.close()
    assert sorted(names) == sorted([f"a b/{ODD}/.hidden/0", "a b/a b.txt", "a b2"])
    assert list(object_store.below(root)) == [f"{ODD}/.hidden/0", "a b.txt"]
    assert object_store.children(root) == ([ODD], ["a b.txt"])
    assert (root / ODD).is_dir()
    assert not (root / ODD).is_file()
    assert not (root / "a").exists()
    stamp = (root / ODD / ".hidden/0").stamp()
    assert stamp is not None
    assert (stamp.size, stamp.etag) == (5, etag)
    assert object_store.read_ranges(root / ODD / ".hidden/0", [(3, 5), (0, 1)], etag) == [b"45", b"1"]
    assert object_store.read_ranges(root / ODD / ".hidden/0", [(0, 1)], '"another"') is None
    object_store.remove([root / "a b.txt", root / "never there"])
    assert (root / "a b.txt").stamp() is None
    with pytest.raises(FileNotFoundError):
        (root / "a b.txt").read_bytes()


def test_an_object_is_made_or_replaced_only_as_it_was_seen(root: StoreUrl) -> None:
    url = root / "x"
    assert object_store.write_if(url, b"0", '"another"') is None
    first = object_store.write_if(url, b"1", None)
    assert first is not None
    assert object_store.write_if(url, b"2", None) is None
    second = object_store.write_if(url, b"3", first)
    assert second is not None
    assert object_store.write_if(url, b"4", first) is None
    assert url.read_bytes() == b"3"


def test_a_server_that_is_away_is_not_an_object_that_is_missing(server: S3Server, root: StoreUrl) -> None:
    (root / "x").write_bytes(b"1")
    server.stop()
    for ask in (
        (root / "x").read_bytes,
        (root / "x").stamp,
        (root / "x").unlink,
        root.is_dir,
        lambda: object_store.below(root),
        lambda: object_store.children(root),
        lambda: (root / "x").write_bytes(b"2"),
        lambda: object_store.write_if(root / "x", b"2", None),
    ):
        with pytest.raises(UnreachableStoreError, match="in 7 tries .no connection.") as caught:
            ask()
        assert not isinstance(caught.value, OSError), "what is missing or damaged is caught as such"
        assert caught.value.code == "unreachable"
        assert str(caught.value).startswith(f"s3://{BUCKET}: "), "it is the server's fault, not the object's"
    server.start()
    assert (root / "x").read_bytes() == b"1"


@pytest.mark.parametrize(("status", "said"), [(403, "access denied; check the credentials"), (500, "HTTP 500")])
def test_what_a_server_says_is_named(root: StoreUrl, monkeypatch: pytest.MonkeyPatch, status: int, said: str) -> None:
    from moto.s3.responses import S3Response

    monkeypatch.setattr(S3Response, "_key_response", lambda *_, **__: (status, {}, "<Error/>"))
    for ask in ((root / "x").read_bytes, lambda: (root / "x").write_bytes(b"1")):
        with pytest.raises(UnreachableStoreError, match=said):
            ask()


def test_what_is_not_set_up_is_said(server: S3Server, root: StoreUrl, monkeypatch: pytest.MonkeyPatch) -> None:
    for ask in (StoreUrl("s3://no-such-bucket/x").read_bytes, StoreUrl("s3://no-such-bucket/x").is_dir):
        with pytest.raises(UsageError, match="s3://no-such-bucket: there is no such bucket"):
            ask()
    object_store._bucket.cache_clear()
    with monkeypatch.context() as patch:
        patch.delenv("AWS_ACCESS_KEY_ID")
        patch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nowhere")
        patch.setenv("AWS_CONFIG_FILE", "/nowhere")
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        with pytest.raises(UnreachableStoreError, match="no credentials found; set them in the environment"):
            root.is_dir()
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "obstore.store", None)
        with pytest.raises(MissingPackageError, match="pip install 'histograde.remote.'"):
            object_store._bucket("another")


def test_settings_are_found_in_the_files_of_aws(
    server: S3Server, root: StoreUrl, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("aws")
    (folder / "credentials").write_text("[pathology]\naws_access_key_id = key\naws_secret_access_key = secret\n")
    endpoint = server.environment["AWS_ENDPOINT_URL"]
    (folder / "config").write_text(f"[profile pathology]\nregion = eu-west-1\nendpoint_url = {endpoint}\n")
    (root / "x").write_bytes(b"1")
    object_store._bucket.cache_clear()
    with monkeypatch.context() as patch:
        for name in server.environment:
            patch.delenv(name)
        patch.setenv("AWS_PROFILE", "pathology")
        patch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(folder / "credentials"))
        patch.setenv("AWS_CONFIG_FILE", str(folder / "config"))
        assert (root / "x").read_bytes() == b"1"
    object_store._bucket.cache_clear()
