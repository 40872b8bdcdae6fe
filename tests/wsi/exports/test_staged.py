"""A file is whole or not there."""

from pathlib import Path

import pytest

from wsi.exports import staged


def test_a_failure_leaves_the_older_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "out.bin"
    path.write_bytes(b"older")
    with pytest.raises(ZeroDivisionError), staged(path) as temporary:
        temporary.write_bytes(bytes(temporary.write_bytes(b"half") // 0))
    assert [(one.name, one.read_bytes()) for one in tmp_path.iterdir()] == [("out.bin", b"older")]
    with staged(path) as temporary:
        temporary.write_bytes(b"newer")
        assert path.read_bytes() == b"older"
    assert path.read_bytes() == b"newer"
