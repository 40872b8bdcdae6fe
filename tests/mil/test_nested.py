import numpy as np
import pytest
import torch

from mil.checkpoints import FitFolder
from mil.cross_validation import cross_validate
from mil.lit import FitConfig
from mil.nested import Grid, Side, choose, configured
from mil.network import NetworkSpec
from mil.testing import toy_bag
from wsi.errors import UsageError

SPEC = NetworkSpec("mean", "corn", 12, 2).complete()
BAGS = [toy_bag(12, seed=number, signal=6.0 * (number % 2), name=f"s{number:02d}") for number in range(24)]
TARGETS = np.arange(24) % 2
PATIENTS = tuple(f"p{number // 4 * 2 + number % 2}" for number in range(24))
SIDE = Side(BAGS, TARGETS, PATIENTS)
FIT = FitConfig(epochs=6, lr=1e-2, device="cpu")


def test_candidates_are_all_combinations_in_order():
    grid = Grid({"lr": (1e-3, 1e-2), "model.hidden": (16, 32)})
    assert grid.candidates() == [
        {"lr": 1e-3, "model.hidden": 16},
        {"lr": 1e-3, "model.hidden": 32},
        {"lr": 1e-2, "model.hidden": 16},
        {"lr": 1e-2, "model.hidden": 32},
    ]
    assert Grid().candidates() == [{}]


def test_settings_go_where_they_belong():
    spec, fit = configured(
        NetworkSpec("abmil", "corn", 12, 2), FIT, {"lr": 0.5, "bag_tiles": 7, "model.hidden": 9, "ema": 0.5}
    )
    assert (fit.lr, fit.ema, fit.packing.bag_tiles, fit.epochs) == (0.5, 0.5, 7, 6)
    assert spec.model_options["hidden"] == 9
    assert spec.model_options["attention_dim"] == 64


@pytest.mark.parametrize(
    ("values", "folds", "said"),
    [
        ({"speed": (1,)}, 3, "'speed' cannot be tuned; there are: epochs, lr"),
        ({"loss.gamma": (1,)}, 3, "'loss.gamma' cannot be tuned"),
        ({"lr": ()}, 3, "no value is given for 'lr'"),
        ({}, 1, "1 inner folds"),
    ],
)
def test_grids_that_cannot_be_meant_are_refused(values, folds, said):
    with pytest.raises(UsageError, match=said):
        Grid(values, folds)


def test_the_rate_that_learns_is_chosen_and_all_are_recorded():
    """A rate of 1e-9 learns nothing: its log loss stays at that of a coin, whatever its metric."""
    choice = choose(Grid({"lr": (1e-9, 3e-2)}), SPEC, SIDE, FIT, (0, 0), "grade")
    assert choice.settings == {"lr": 3e-2}
    losses = [one["log_loss"] for one in choice.tried]
    assert losses[0] > 0.6 > losses[1]
    assert [one["settings"] for one in choice.tried] == [{"lr": 1e-9}, {"lr": 3e-2}]


def test_of_equals_the_first_is_chosen():
    """The mean of a bag of 12 tiles is the same whether 100 or 200 of them may be drawn."""
    choice = choose(Grid({"bag_tiles": (200, 100)}), SPEC, SIDE, FIT, (0, 0), "grade")
    assert choice.settings == {"bag_tiles": 200}
    assert choice.tried[0]["log_loss"] == choice.tried[1]["log_loss"]


def test_nothing_to_choose_trains_nothing():
    choice = choose(Grid({"lr": (0.1,)}), SPEC, Side([None] * 4, TARGETS[:4], PATIENTS[:4]), FIT, (0, 0), "grade")
    assert (choice.settings, choice.tried) == ({"lr": 0.1}, ())


def test_too_few_patients():
    with pytest.raises(UsageError, match="5 inner folds cannot be made of 2 patients"):
        choose(Grid({"lr": (1e-3, 1e-2)}, 5), SPEC, Side(BAGS[:2], TARGETS[:2], ("a", "b")), FIT, (0, 0), "grade")


class Noted:
    """Bags that note who was looked at."""

    def __init__(self, bags):
        self.bags, self.seen = bags, set()

    def __len__(self):
        return len(self.bags)

    def __getitem__(self, number):
        self.seen.add(number)
        return self.bags[number]


def test_what_a_fold_chooses_does_not_depend_on_the_slides_it_holds_out():
    """Labels of fold 0 turned round, its features replaced: its choice, its scores and its network stay."""
    fold = np.array([int(name[1:]) % 3 for name in PATIENTS])
    grid = Grid({"lr": (1e-9, 3e-2), "model.hidden": (8, 16)}, 2)
    spec = NetworkSpec("abmil", "corn", 12, 2).complete()
    turned = np.where(fold == 0, 1 - TARGETS, TARGETS)
    others = [toy_bag(9, seed=99 + n) if fold[n] == 0 else bag for n, bag in enumerate(BAGS)]
    done = [
        cross_validate(spec, bags, targets, fold, FIT, task="grade", patients=PATIENTS, grid=grid)
        for bags, targets in ((BAGS, TARGETS), (others, turned))
    ]
    first, second = (one.folds[0] for one in done)
    assert first.choice == second.choice
    assert len(first.choice.tried) == 4
    assert first.choice.settings["lr"] == 3e-2
    assert first.spec.model_options["hidden"] == first.choice.settings["model.hidden"]
    networks = [one.networks[0].state_dict() for one in done]
    assert all(torch.equal(value, networks[1][name]) for name, value in networks[0].items())
    assert done[0].folds[1].choice.tried != done[1].folds[1].choice.tried


def test_inner_folds_part_no_patient_and_are_not_trained_again(tmp_path):
    noted = Noted(BAGS)
    place = FitFolder(tmp_path / "fold-0", every_s=0)
    grid = Grid({"lr": (1e-3, 3e-2)}, 3)
    first = choose(grid, SPEC, Side(noted, TARGETS, PATIENTS), FIT, (0, 0), "grade", place)
    assert noted.seen == set(range(24))
    stamps = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("fit.json")}
    assert len(stamps) == 6
    again = choose(grid, SPEC, SIDE, FIT, (0, 0), "grade", place)
    assert again == first
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("fit.json")} == stamps
