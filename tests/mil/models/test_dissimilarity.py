from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist

from mil.bag import Bag, pack
from mil.losses.imbalance import CrossEntropy
from mil.losses.ordinal import Coral, Corn
from mil.models.dissimilarity import BagDissimilarity
from mil.network import Network, NetworkSpec
from mil.testing import check_model, toy_bag
from wsi.errors import UsageError

LOSSES = {"cross_entropy": CrossEntropy, "corn": Corn, "coral": Coral}


def cohort(count, classes=2, seed=0, signal=3.0):
    """Bags of 1 to 11 tiles, of which a tenth (one at least) shows the class, and their targets."""
    targets = np.arange(count) % classes
    bags = [
        toy_bag(1 + (7 * row) % 11, seed=100 * seed + row, signal=signal * target) for row, target in enumerate(targets)
    ]
    return bags, targets


def network_of(cohort_bags, targets, loss="cross_entropy", classes=2, **options):
    torch.manual_seed(0)
    network = Network(NetworkSpec("dissimilarity", loss, 12, classes, options)).eval()
    network.standardize(cohort_bags)
    network.prepare(cohort_bags, targets, LOSSES[loss](classes))
    return network


class Prepared(BagDissimilarity):
    """As it is after a look at six bags, for the contract, which builds its models itself."""

    def __init__(self, dim, n_outputs):
        super().__init__(dim, n_outputs, bags=5, tiles=4)
        bags, targets = cohort(6, n_outputs + 1, seed=9)
        batches = [pack([bag], targets[row : row + 1]) for row, bag in enumerate(bags)]
        with torch.no_grad():
            self.prepare(batches, Behind(CrossEntropy(n_outputs + 1)))


class Behind:
    """A loss behind its last layer."""

    def __init__(self, loss):
        self.loss, self.layer, self.marks = loss, loss.layer(), loss.marks

    def __call__(self, outputs, targets):
        return self.loss(self.layer(outputs), targets)


@pytest.mark.parametrize("n_outputs", [1, 3])
def test_keeps_the_contract_after_it_has_seen_bags(n_outputs):
    assert Prepared(12, n_outputs).coefficients.any()
    check_model(Prepared, n_outputs=n_outputs)


def test_distances_are_those_of_the_paper():
    """Against scipy's distances between tiles, bag by bag."""
    bags, targets = cohort(8)
    model = network_of(bags, targets).model
    new = [toy_bag(5, seed=77), toy_bag(1, seed=78)]
    z, _ = model._vectors(pack(new))
    kept = [rows[weights > 0].numpy() for rows, weights in zip(*model._used(), strict=True)]
    assert sorted(map(len, kept)) == sorted(map(len, bags))
    for row, bag in enumerate(new):
        x = np.clip(bag.features * model.spread.numpy(), -3, 3)
        away = [cdist(x, tiles).min(axis=1).mean() for tiles in kept]
        back = [cdist(tiles, x).min(axis=1).mean() for tiles in kept]
        np.testing.assert_allclose(z[row], away + back, rtol=1e-4)


def test_classes_that_one_tile_shows_are_told_apart_in_new_bags():
    bags, targets = cohort(60)
    network = network_of(bags, targets)
    new, truth = cohort(60, seed=1)
    found = network(pack(new)).logits.argmax(dim=1).numpy()
    assert (found == truth).mean() > 0.85
    rng = np.random.default_rng(0)
    chance = network_of(bags, rng.permutation(targets))
    assert chance.model.scale < network.model.scale, "labels without meaning give no sure answers"


@pytest.mark.parametrize("loss", ["cross_entropy", "corn", "coral"])
def test_grades_come_in_order(loss):
    bags, targets = cohort(60, classes=3)
    network = network_of(bags, targets, loss, 3)
    new, truth = cohort(60, classes=3, seed=1)
    logits = network(pack(new)).logits.detach().numpy()
    grades = LOSSES[loss](3).probabilities(logits) @ np.arange(3)
    means = [grades[truth == grade].mean() for grade in range(3)]
    assert means[0] + 0.2 < means[1] < means[2] - 0.2


def test_order_of_bags_and_tiles_does_not_matter_also_where_not_all_are_kept():
    bags, targets = cohort(20)
    rng = np.random.default_rng(0)
    order = rng.permutation(20)
    turned = [bags[row].take(rng.permutation(len(bags[row]))) for row in order]
    new = pack(cohort(6, seed=3)[0])
    one, other = (network_of(*given, bags=7, tiles=3) for given in ((bags, targets), (turned, targets[order])))
    torch.testing.assert_close(one.model.kept, other.model.kept, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(one(new).logits, other(new).logits, rtol=1e-3, atol=1e-3)
    assert int((one.model.weights[:, 0] > 0).sum()) == 7
    assert not torch.equal(one.model.kept, network_of(bags, targets, bags=7, tiles=3, seed=1).model.kept)


def test_long_bags_are_measured_block_by_block():
    """The mean over the bag is the mean over its parts, and the nearest of all is the nearest of the nearest."""
    bags, targets = cohort(8)
    model = network_of(bags, targets).model
    whole = toy_bag(1300, seed=5)
    parts = [whole.take(np.arange(start, min(start + 400, 1300))) for start in range(0, 1300, 400)]
    z, nearest = model._vectors(pack([whole]))
    z_parts, nearest_parts = model._vectors(pack(parts))
    lengths = torch.tensor([len(part) for part in parts]) / 1300
    torch.testing.assert_close(z[0, :8], lengths @ z_parts[:, :8], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(nearest[0], nearest_parts.amin(dim=0), rtol=1e-5, atol=1e-5)


def test_attention_is_where_distances_are_measured():
    """Kept: tiles at 0 and 10 of one bag, and at 0 of another. A tile at 1 is the nearest of two of three."""
    model = BagDissimilarity(1, 1, bags=2, tiles=2, clip=100.0)
    model.kept[:, :, 0] = torch.tensor([[0.0, 10.0], [0.0, 0.0]])
    model.weights.copy_(torch.tensor([[0.5, 0.5], [1.0, 0.0]]))
    bag = Bag("bag", np.array([[1.0], [8.0], [20.0], [1.0]], np.float32), np.zeros((4, 2), np.float32), np.arange(4))
    attention = model(pack([bag])).attention
    hits = np.array([1.5, 0.5, 0, 1.5]) / 3.5
    np.testing.assert_allclose(attention.detach(), (0.25 + hits) / 2, rtol=1e-6)


def test_a_class_without_slides_is_improbable_by_their_number():
    bags, targets = cohort(30)
    logits = network_of(bags, targets, classes=3)(pack(bags)).logits
    torch.testing.assert_close(logits[:, 2], torch.full((30,), float(np.log(0.5 / 30.5))))
    assert logits[:, 1].std() > 0.1


@pytest.mark.parametrize("bags", [[toy_bag(3)], [toy_bag(3), toy_bag(3)], [toy_bag(4, seed=row) for row in range(2)]])
def test_one_slide_or_the_same_slide_twice_gives_finite_answers(bags):
    targets = np.arange(len(bags)) % 2
    output = network_of(bags, targets)(pack([*bags, toy_bag(5, seed=9)]))
    assert torch.isfinite(output.logits).all()
    assert torch.isfinite(output.tile_logits).all()


def test_a_feature_that_never_changes_says_nothing_and_a_strange_one_not_too_much():
    bags, targets = cohort(12)
    still = [replace(bag, features=np.where(np.arange(12) == 4, 7, bag.features).astype(np.float32)) for bag in bags]
    network = network_of(still, targets)
    strange = still[0].features.copy()
    strange[:, 4] = 1e6
    one, other = still[0], replace(still[0], features=strange)
    torch.testing.assert_close(network(pack([one])).logits, network(pack([other])).logits)


def test_weights_of_one_cohort_load_into_a_network_for_another():
    bags, targets = cohort(9)
    network = network_of(bags, targets)
    twin = Network(NetworkSpec("dissimilarity", "cross_entropy", 12, 2)).eval()
    twin.load_state_dict(network.state_dict())
    assert torch.equal(twin(pack(bags)).logits, network(pack(bags)).logits)


@pytest.mark.parametrize("options", [{"bags": 0}, {"tiles": 0}, {"clip": 0.0}, {"clip": float("nan")}])
def test_options_that_cannot_be_are_refused(options):
    with pytest.raises(UsageError, match="expected 1 or more"):
        BagDissimilarity(12, 1, **options)
