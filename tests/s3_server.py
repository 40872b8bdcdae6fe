"""An S3 server on loopback with one bucket, found as a user would set it up: by the environment."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

BUCKET = "stores"


class S3Server:
    """moto's server. It may go away and come back, with all that it held, on the same port."""

    def __init__(self) -> None:
        self.port = 0
        self.start()

    def start(self) -> None:
        from moto.server import ThreadedMotoServer

        self._server = ThreadedMotoServer("127.0.0.1", self.port, verbose=False)
        self._server.start()
        self.port = self._server.get_host_and_port()[1]

    def stop(self) -> None:
        self._server.stop()

    @property
    def environment(self) -> dict[str, str]:
        return {
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self.port}",
        }


@contextmanager
def s3_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Server]:
    """A running server with the bucket `stores`, which this process finds by its environment; short pauses."""
    import boto3

    from wsi import lease, object_store

    server = S3Server()
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(object_store, "FIRST_PAUSE_S", 0.01)
    monkeypatch.setattr(object_store, "LONGEST_PAUSE_S", 0.05)
    object_store._bucket.cache_clear()
    lease._young.clear()
    lease._checked_buckets.clear()
    client = boto3.client("s3")
    try:
        client.create_bucket(Bucket=BUCKET)
        yield server
    finally:
        for page in client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET):
            for one in page.get("Contents", ()):
                client.delete_object(Bucket=BUCKET, Key=one["Key"])
        client.delete_bucket(Bucket=BUCKET)
        client.close()
        server.stop()
        object_store._bucket.cache_clear()
