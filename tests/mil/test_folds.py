from itertools import product

import numpy as np
import pytest

from mil.cohort import Cohort, read_labels
from mil.folds import assign_folds, check_no_leak, spread
from wsi.errors import PatientLeakError, UsageError


def made_up(slides: int = 90, patients: int = 40, seed: int = 0, sites: int = 3) -> Cohort:
    rng = np.random.default_rng(seed)
    patient = [f"p{number % patients:02d}" for number in range(slides)]
    return Cohort(
        slide_id=tuple(f"s{number:03d}" for number in range(slides)),
        patient_id=tuple(patient),
        site=tuple(f"site-{int(name[1:]) % sites}" for name in patient),
        label=tuple(str(label) for label in rng.integers(0, 3, slides)),
    )


def table(folder, text):
    (folder / "l.csv").write_text(text)
    return folder / "l.csv"


def test_folds_do_not_depend_on_the_order_of_rows(tmp_path):
    cohort = made_up()
    rows = [",".join(row) for row in zip(cohort.slide_id, cohort.label, cohort.patient_id, cohort.site, strict=True)]
    shuffled = np.random.default_rng(1).permutation(rows).tolist()
    head = "slide_id,label,patient_id,site\n"
    folds = [
        assign_folds(read_labels(table(tmp_path, head + "\n".join(lines) + "\n")), 5, seed=3).fold.tolist()
        for lines in (rows, shuffled)
    ]
    assert folds[0] == folds[1]


@pytest.mark.parametrize("seed", range(5))
def test_folds_keep_patients_together_and_labels_even(seed):
    cohort = assign_folds(made_up(seed=seed), 5, seed)
    check_no_leak(cohort)
    for patient in set(cohort.patient_id):
        assert len({f for f, p in zip(cohort.fold, cohort.patient_id, strict=True) if p == patient}) == 1
    for label in "012":
        counts = np.bincount(cohort.fold[np.array(cohort.label) == label], minlength=5)
        assert counts.max() - counts.min() <= 3
    sizes = np.bincount(cohort.fold, minlength=5)
    assert sizes.max() - sizes.min() <= 4


def test_one_slide_per_patient_gives_exact_strata():
    label = tuple("0" if number < 30 else "1" for number in range(50))
    names = tuple(f"s{number:02d}" for number in range(50))
    cohort = assign_folds(Cohort(names, names, ("",) * 50, label), 5, 0)
    for name, expected in (("0", 6), ("1", 4)):
        assert np.bincount(cohort.fold[np.array(label) == name]).tolist() == [expected] * 5


def test_seed_changes_folds_and_repeats_them():
    first, again, other = (assign_folds(made_up(), 5, seed).fold.tolist() for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_folds_by_site_split_no_site():
    cohort = assign_folds(made_up(), 3, by="site")
    for site in set(cohort.site):
        assert len({f for f, s in zip(cohort.fold, cohort.site, strict=True) if s == site}) == 1


def test_patient_at_two_sites_joins_them():
    cohort = Cohort(("a", "b", "c", "d"), ("P", "P", "Q", "R"), ("x", "y", "y", "z"), ("0", "1", "0", "1"))
    folds = assign_folds(cohort, 2, by="site").fold
    assert folds[0] == folds[1] == folds[2] != folds[3]
    with pytest.raises(UsageError, match="3 folds cannot be made of 2 sites"):
        assign_folds(cohort, 3, by="site")


def test_site_folds_need_sites():
    with pytest.raises(UsageError, match="slide b has no site"):
        assign_folds(Cohort(("a", "b"), ("P", "Q"), ("x", ""), ("0", "1")), 2, by="site")


def test_rare_label_is_said():
    cohort = Cohort(tuple("abcdef"), tuple("abcdef"), ("",) * 6, ("0", "0", "0", "0", "0", "9"))
    assert "label 9 has 1 patients" in assign_folds(cohort, 3).notes[0]


def test_planted_leak_is_refused_by_name():
    cohort = Cohort(("a", "b", "c"), ("P7", "P8", "P7"), ("",) * 3, ("0", "1", "0"), np.array([0, 1, 1]))
    with pytest.raises(PatientLeakError, match="patient P7 is in fold 0 and in fold 1"):
        check_no_leak(cohort)


def unevenness(labels, fold, folds):
    """Howard's sum over folds and labels of the squared share of a label that a fold has."""
    labels = np.array(labels)
    return sum(np.mean(fold[labels == label] == k) ** 2 for label in set(labels) for k in range(folds))


@pytest.mark.parametrize("seed", range(4))
def test_whole_sites_are_as_even_as_the_best_of_all_assignments(seed):
    """Against every way to lay seven sites of unlike sizes and labels into three folds."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(3, 30, 7)
    site = [f"site-{number}" for number, size in enumerate(sizes) for _ in range(size)]
    label = [str(int(rng.random() < rng.uniform(0.1, 0.9))) for _ in site]
    names = tuple(f"s{number:03d}" for number in range(len(site)))
    cohort = assign_folds(Cohort(names, names, tuple(site), tuple(label)), 3, seed, by="site")
    number = np.array([int(name[5:]) for name in site])
    best = min(
        unevenness(label, np.array(placed)[number], 3)
        for placed in product(range(3), repeat=7)
        if len(set(placed)) == 3
    )
    assert unevenness(label, cohort.fold, 3) == pytest.approx(best, rel=0.01)
    assert len({(s, f) for s, f in zip(site, cohort.fold, strict=True)}) == 7


def test_folds_by_any_column_keep_its_groups_and_patients_together():
    cohort = made_up(sites=1)
    scanner = tuple(f"scanner-{int(name[1:]) % 6}" for name in cohort.patient_id)
    cohort = Cohort(cohort.slide_id, cohort.patient_id, cohort.site, cohort.label, covariates={"scanner": scanner})
    fold = assign_folds(cohort, 3, by="scanner").fold
    assert len(set(zip(scanner, fold, strict=True))) == 6
    check_no_leak(assign_folds(cohort, 3, by="scanner"))
    with pytest.raises(UsageError, match="no column 'moon'"):
        assign_folds(cohort, 3, by="moon")


def test_each_site_is_spread_evenly_over_the_folds_where_that_is_asked_for():
    """Sites of very unlike size, and labels that hang on the site: by patient alone a site may miss a fold."""
    rng = np.random.default_rng(5)
    site = tuple("abc"[number] for number in rng.choice(3, 120, p=[0.75, 0.17, 0.08]))
    label = tuple(str(int(rng.random() < {"a": 0.5, "b": 0.2, "c": 0.8}[name])) for name in site)
    names = tuple(f"s{number:03d}" for number in range(120))
    cohort = Cohort(names, names, site, label)
    fold = assign_folds(cohort, 4, seed=1, even="site").fold
    for where, what in set(zip(site, label, strict=True)):
        rows = (np.array(site) == where) & (np.array(label) == what)
        counts = np.bincount(fold[rows], minlength=4)
        assert counts.max() - counts.min() <= 2, (where, what, counts)
    for what in "01":
        counts = np.bincount(fold[np.array(label) == what], minlength=4)
        assert counts.max() - counts.min() <= 3
    with pytest.raises(UsageError, match="no column 'moon'"):
        assign_folds(cohort, 4, even="moon")


def test_many_groups_are_spread_without_exchange():
    names = [f"g{number:04d}" for number in range(1200)]
    fold = spread(names, [["0", "1"] * 600], 5, 0, exchange=True)
    assert np.bincount(fold).tolist() == [240] * 5
