import numpy as np
import pytest

from mil.cohort import Cohort, label_classes, read_labels
from wsi.errors import UsageError


def made_up(slides: int = 90, patients: int = 40, seed: int = 0, sites: int = 3) -> Cohort:
    rng = np.random.default_rng(seed)
    patient = [f"p{number % patients:02d}" for number in range(slides)]
    return Cohort(
        slide_id=tuple(f"s{number:03d}" for number in range(slides)),
        patient_id=tuple(patient),
        site=tuple(f"site-{int(name[1:]) % sites}" for name in patient),
        label=tuple(str(label) for label in rng.integers(0, 3, slides)),
    )


def write(path, text):
    path.write_text(text)
    return path


def test_reads_all_columns(tmp_path):
    table = "slide_id,label,patient_id,site,fold,age\nb,1,P,x,0,50\na,0,Q,y,1,60\n"
    cohort = read_labels(write(tmp_path / "l.csv", table))
    assert cohort.slide_id == ("a", "b")
    assert cohort.patient_id == ("Q", "P")
    assert cohort.site == ("y", "x")
    assert cohort.label == ("0", "1")
    assert cohort.fold.tolist() == [1, 0]
    assert cohort.covariates == {"age": ("60", "50")}
    assert cohort.notes == ()


def test_slide_without_patient_is_its_own_and_this_is_said(tmp_path):
    cohort = read_labels(write(tmp_path / "l.csv", "slide_id,label,patient_id\na,0,P\nb,1,\n"))
    assert cohort.patient_id == ("P", "b")
    assert "1 of 2 slides" in cohort.notes[0]
    alone = read_labels(write(tmp_path / "l.csv", "slide_id,label\na,0\nb,1\n"))
    assert "no slide has a patient_id" in alone.notes[0]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("slide,label\na,0\n", "no column 'slide_id'"),
        ("slide_id,grade\na,0\n", "no column 'label'"),
        ("slide_id,label\n", "no slides"),
        ("", "no column 'slide_id'; it has: none"),
        ("slide_id,label\na,0\na,1\n", "line 3: slide a occurs twice"),
        ("slide_id,label\na,\n", "line 2: label is empty"),
        ("slide_id,label\n,1\n", "line 2: slide_id is empty"),
        ("slide_id,label,fold\na,1,0\nb,1,x\n", "slide b has fold 'x'"),
        ("slide_id,label,fold\na,1,0\nb,1,\n", "slide b has fold ''"),
    ],
)
def test_refuses_in_one_line(tmp_path, text, said):
    with pytest.raises(UsageError, match=said) as caught:
        read_labels(write(tmp_path / "l.csv", text))
    assert "\n" not in str(caught.value)


def test_missing_and_binary_file(tmp_path):
    with pytest.raises(UsageError, match="cannot be read"):
        read_labels(tmp_path / "none.csv")
    (tmp_path / "b.csv").write_bytes(b"slide_id,label\n\xff\xfe,1\n")
    with pytest.raises(UsageError, match="not a CSV in UTF-8"):
        read_labels(tmp_path / "b.csv")


def test_classes_in_order():
    assert label_classes(["10", "9", "11"], "grade") == ("9", "10", "11")
    assert label_classes(["b", "a", "b"], "class") == ("a", "b")
    assert label_classes(["aca", "scc", "Normal", "benign_x"], "class") == ("Normal", "benign_x", "aca", "scc")
    assert label_classes(["low", "high"], "grade", ["low", "mid", "high"]) == ("low", "mid", "high")


@pytest.mark.parametrize(
    ("labels", "task", "order", "said"),
    [
        (["0", "2"], "grade", None, "no slide has grade 1"),
        (["0", "x"], "grade", None, "'x' is not a grade"),
        (["a", "a"], "class", None, "at least two"),
        (["a", "b"], "class", ["a", "c"], "'b' is not among the classes given"),
        (["a", "b"], "class", ["a", "a"], "at least two different"),
    ],
)
def test_classes_refused(labels, task, order, said):
    with pytest.raises(UsageError, match=said):
        label_classes(labels, task, order)


def test_targets_select_and_digest():
    cohort = made_up(6, 6)
    assert cohort.targets(("2", "1", "0")).tolist() == [2 - int(label) for label in cohort.label]
    with pytest.raises(UsageError, match="is not one of"):
        cohort.targets(("0",))
    part = cohort.select([4, 1])
    assert part.slide_id == ("s001", "s004")
    assert part.digest() != cohort.digest()
    assert cohort.digest() == made_up(6, 6).digest()


def test_columns_by_name(tmp_path):
    cohort = read_labels(write(tmp_path / "l.csv", "slide_id,label,patient_id,site,stain\nb,1,P,x,HE\na,0,Q,y,IHC\n"))
    assert cohort.column("patient") == ("Q", "P")
    assert cohort.column("site") == ("y", "x")
    assert cohort.column("stain") == ("IHC", "HE")
    with pytest.raises(UsageError, match="no column 'batch'; they have: patient, site, stain"):
        cohort.column("batch")


def test_cohort_checks_itself():
    with pytest.raises(UsageError, match="sorted"):
        Cohort(("b", "a"), ("P", "Q"), ("", ""), ("0", "1"))
    with pytest.raises(UsageError, match="one length"):
        Cohort(("a", "b"), ("P",), ("", ""), ("0", "1"))
