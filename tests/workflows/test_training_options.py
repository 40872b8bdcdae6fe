import pytest

from mil.losses import LOSSES
from mil.models import MODELS
from workflows.training_options import check_types, fit_settings, grid_values, names_of, part_options
from wsi.errors import UsageError


def test_values_have_the_types_of_the_defaults():
    found = part_options(["hidden=256", "dropout=0"], MODELS, "abmil", 2, "--option")
    assert found == {"hidden": 256, "dropout": 0.0}
    assert isinstance(found["dropout"], float)
    assert part_options(["wings=2.5"], MODELS, "abmil", 2, "--option") == {"wings": 2.5}, "refused by name later"
    assert part_options(None, MODELS, "no such model", 2, "--option") == {}


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("hidden", "--option hidden: expected NAME=VALUE"),
        ("=3", "expected NAME=VALUE"),
        ("hidden=wide", "--option hidden is 'wide'; expected a whole number"),
        ("hidden=1.5", "expected a whole number"),
        ("hidden=true", "expected a whole number"),
        ("dropout=much", "expected a number"),
    ],
)
def test_words_that_cannot_be_meant(word, said):
    with pytest.raises(UsageError, match=said):
        part_options([word], MODELS, "abmil", 2, "--option")


def test_option_of_a_loss():
    assert part_options(["class_counts=none"], LOSSES, "cross_entropy", 1, "--loss-option") == {"class_counts": None}


def test_grid_of_words():
    assert grid_values(["lr=1e-3,3e-4", "weight-decay=0,0.1", "model.hidden=64, 128", "batch-slides=4"]) == {
        "lr": (1e-3, 3e-4),
        "slides": (4,),
        "weight_decay": (0, 0.1),
        "model.hidden": (64, 128),
    }
    assert grid_values(None) == {}
    with pytest.raises(UsageError, match="--tune lr: expected NAME=VALUE"):
        grid_values(["lr"])


def test_what_was_left_out_is_left_out():
    assert fit_settings(None, ema=None, patience=3) == {"patience": 3}
    assert fit_settings("3e-4", ema=0.5) == {"ema": 0.5, "lr": 3e-4}
    assert fit_settings("auto") == {"find_lr": True}
    with pytest.raises(UsageError, match="--lr is 'quick'; expected a number"):
        fit_settings("quick")


def test_types_of_settings():
    check_types({"epochs": 3, "lr": 1, "unknown": "x"}, {"epochs": 40, "lr": 1e-3})
    with pytest.raises(UsageError, match="epochs is '2.5'; expected a whole number"):
        check_types({"epochs": 2.5}, {"epochs": 40})


def test_names():
    assert names_of("a, b,") == ("a", "b")
    assert names_of(None) is names_of(" , ") is None
