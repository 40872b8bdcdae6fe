import pytest

from workflows.unfinished import unfinished
from wsi.errors import StoreBusyError


def cut_off(tmp_path, key):
    """A training that ends after its first fold."""
    with unfinished(tmp_path / "model", key, [].append) as folder:
        place = folder.below("fold-0").path
        place.mkdir(exist_ok=True)
        (place / "fit.json").write_text("{}")
        raise RuntimeError


def leave(tmp_path, key):
    with pytest.raises(RuntimeError):
        cut_off(tmp_path, key)


def test_what_was_left_is_found_again_and_removed_at_the_end(tmp_path):
    leave(tmp_path, "one")
    said = []
    with unfinished(tmp_path / "model", "one", said.append) as folder:
        assert (folder.path / "fold-0" / "fit.json").exists()
    assert said == ["goes on with a training that was cut off; done: fold-0"]
    assert list(tmp_path.iterdir()) == []


def test_another_training_begins_anew(tmp_path):
    leave(tmp_path, "one")
    said = []
    with unfinished(tmp_path / "model", "two", said.append) as folder:
        assert not (folder.path / "fold-0").exists()
    assert said == []


def test_what_failed_before_any_fit_leaves_nothing(tmp_path):
    with pytest.raises(RuntimeError), unfinished(tmp_path / "model", "one", [].append):
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_one_at_a_time(tmp_path):
    with (
        unfinished(tmp_path / "model", "one", [].append),
        pytest.raises(StoreBusyError, match="another process is training this model"),
        unfinished(tmp_path / "model", "one", [].append),
    ):
        pass
    assert list(tmp_path.iterdir()) == []
