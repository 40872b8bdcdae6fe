"""Slides in an S3 bucket, of moto's server on loopback, found as a user would set it up: by the environment."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import fsspec.config
import numpy as np
import pytest

from wsi import remote_bytes
from wsi.errors import UnreachableSlideError, UnreadableSlideError
from wsi.slide import hash_slide, open_slide
from wsi.slide_url import SlideUrl

pytest.importorskip("s3fs")
moto_server = pytest.importorskip("moto.server")

pytestmark = pytest.mark.services


@pytest.fixture
def bucket(small_svs: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """`s3://slides`, with `case 1/small.svs` in it."""
    import boto3
    from s3fs import S3FileSystem

    for name, value in {"ACCESS_KEY_ID": "key", "SECRET_ACCESS_KEY": "secret", "DEFAULT_REGION": "us-east-1"}.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    monkeypatch.setattr(remote_bytes, "BACKOFF_S", (0.01,))
    server = moto_server.ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    conf: dict = {}
    fsspec.config.set_conf_env(conf, {"FSSPEC_S3_ENDPOINT_URL": f"http://{host}:{port}"})
    monkeypatch.setitem(fsspec.config.conf, "s3", conf["s3"])
    client = boto3.client("s3", endpoint_url=conf["s3"]["endpoint_url"])
    try:
        client.create_bucket(Bucket="slides")
        client.put_object(Bucket="slides", Key="case 1/small.svs", Body=small_svs.read_bytes())
        yield "s3://slides"
    finally:
        client.close()
        S3FileSystem.clear_instance_cache()
        server.stop()


def test_a_slide_in_a_bucket_is_read_like_a_local_one(bucket: str, small_svs: Path) -> None:
    with closing(open_slide(f"{bucket}/case 1/small.svs")) as far, closing(open_slide(small_svs)) as near:
        assert far.info == near.info
        for level in range(2):
            size = near.info.level_sizes_px[level]
            np.testing.assert_array_equal(far.read_region((0, 0), level, size), near.read_region((0, 0), level, size))
    with closing(remote_bytes.RemoteBytes(SlideUrl(f"{bucket}/case 1/small.svs"))) as source:
        assert source.version
    assert hash_slide(SlideUrl(f"{bucket}/case 1/small.svs")) == hash_slide(small_svs)


def test_what_is_not_there_or_not_allowed_is_one_line(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UnreadableSlideError, match="^absent.svs: no such file on the server; check the URL$"):
        open_slide(f"{bucket}/absent.svs")
    endpoint = {**fsspec.config.conf["s3"], "endpoint_url": "http://127.0.0.1:9"}
    monkeypatch.setitem(fsspec.config.conf, "s3", endpoint)
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with pytest.raises(UnreachableSlideError, match="^small.svs: no sound answer from the server in 2 tries"):
        open_slide(f"{bucket}/case 1/small.svs")
