"""The identity of a slide that is far away: a digest of samples, since all of its bytes would be a download."""

from hashlib import sha256

from wsi.byte_source import ByteRange, ByteSource

PREFIX = "sampled-1:"
"""Tells a digest of samples from one of all bytes. Another way to sample must have another number."""

WHOLE_BYTES = 8 << 20
"""Up to this size all bytes are hashed: that is not much more than the samples."""

EDGE_BYTES = 1 << 20
SAMPLES = 64
SAMPLE_BYTES = 64 << 10


def remote_hash(source: ByteSource) -> str:
    """SHA-256 of a small file, else `sampled-1:` and the SHA-256 of size and samples (FORMAT.md, "Identity").

    It depends on the file alone, not on the server.
    """
    if source.size <= WHOLE_BYTES:
        return sha256(source.read_many([(0, source.size)])[0]).hexdigest()
    digest = sha256(f"{source.size}\n".encode())
    for data in source.read_many(sample_places(source.size)):
        digest.update(data)
    return PREFIX + digest.hexdigest()


def sample_places(size: int) -> list[ByteRange]:
    """The first MiB, 64 blocks of 64 KiB at even distances, the last MiB, of a file of more than 2 MiB."""
    spaced = [(size - SAMPLE_BYTES) * number // (SAMPLES + 1) for number in range(1, SAMPLES + 1)]
    return [(0, EDGE_BYTES), *((start, SAMPLE_BYTES) for start in spaced), (size - EDGE_BYTES, EDGE_BYTES)]
