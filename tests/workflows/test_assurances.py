from workflows.assurances import calibration_text, outliers_text, sets_text

BEFORE = {
    "method": "temperature", "temperature": 1.234, "n_slides": 60, "nll_before": 0.5, "nll_after": 0.4,
    "ece_before": 0.2, "ece_after": 0.1, "at_bound": False,
}  # fmt: skip
SETS = {"coverage": 0.9, "within": "all", "n_slides": 60, "n_patients": 40, "promised": 0.636, "notes": []}


def test_calibration_says_how_on_what_and_how_it_was_judged() -> None:
    assert calibration_text(BEFORE) == (
        "Probabilities are calibrated by temperature scaling (T = 1.23) on 60 held-out slides: expected calibration "
        "error 0.200 before, 0.100 after, log loss 0.500 before, 0.400 after, on the same slides."
    )
    now = {name: value for name, value in BEFORE.items() if name != "temperature"}
    said = calibration_text(now | {"method": "ordinal", "n_patients": 40, "note": "why"})
    assert "by ordinal scaling on 60 held-out slides of 40 patients:" in said
    assert said.endswith("judged by slides that it was not fitted on.")


def test_what_is_missing_is_said() -> None:
    assert calibration_text(None).startswith("Probabilities are not calibrated")
    assert sets_text(None, "grade").startswith("The model has no sets")
    assert outliers_text(None).startswith("The model does not know slides unlike its training slides")


def test_outliers_say_the_rate_and_what_is_compared() -> None:
    known = {"false_alarms": 0.05, "likely_at_most": 0.102, "n_patients": 60, "statistics": ["tiles", "stain"]}
    assert outliers_text(known | {"notes": []}) == (
        "Slides unlike the training slides are flagged, with the reason. Of slides like them at most 5 % are flagged, "
        "on average over training sets; of those of one training set likely no more than 10 %. Compared with 60 "
        "training patients are tiles, stain."
    )
    few = outliers_text(known | {"likely_at_most": 0.0, "notes": ["3 training patients are too few"]})
    assert few == "Compared with 60 training patients are tiles, stain. 3 training patients are too few."


def test_sets_say_on_what_and_what_is_certain() -> None:
    assert sets_text(SETS, "grade") == (
        "Sets are made to hold the true grade of 90 % of slides like those of the training sites; calibrated on "
        "60 held-out slides of 40 patients; from so many theory promises no more than 64 %."
    )
    few = SETS | {"within": "class", "notes": ["class 4: 5 calibration patients"]}
    assert "training sites, of each class alike; calibrated" in sets_text(few, "class")
    assert sets_text(few, "class").endswith("no more than 64 %. Class 4: 5 calibration patients.")
