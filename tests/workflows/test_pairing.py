import pytest

from tests.workflows.prediction_files import out_of_fold
from workflows.pairing import in_common, paired
from workflows.prediction_table import read_predictions
from wsi.errors import UsageError


def test_slides_in_common_stay_beside_each_other(tmp_path):
    out_of_fold(tmp_path / "a")
    out_of_fold(tmp_path / "b", seed=1)
    lines = (tmp_path / "b" / "out_of_fold.csv").read_text().splitlines(keepends=True)
    (tmp_path / "b" / "out_of_fold.csv").write_text(lines[0] + "".join(reversed(lines[3:])))
    whole, part = (read_predictions(tmp_path / name) for name in "ab")
    first, second, notes = in_common(whole, part)
    assert first.slide_id == second.slide_id == tuple(sorted(part.slide_id))
    assert notes == (f"compared on 58 slides; only in {whole.path}: 2 (s000, s001)",)
    a, b, said = paired(first, second, None)
    assert a.targets.tolist() == b.targets.tolist()
    assert a.slide_id[0] == "s002"
    assert said == ()
    place = part.slide_id.index("s017")
    assert b.probabilities[b.slide_id.index("s017")].tolist() == part.probabilities[place].tolist()


def test_without_a_slide_in_common_there_is_nothing_to_compare(tmp_path):
    out_of_fold(tmp_path / "a")
    out_of_fold(tmp_path / "b")
    path = tmp_path / "b" / "out_of_fold.csv"
    path.write_text(path.read_text().replace("\ns", "\nt"))
    with pytest.raises(UsageError, match="have no slide in common"):
        in_common(read_predictions(tmp_path / "a"), read_predictions(tmp_path / "b"))
