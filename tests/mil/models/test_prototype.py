import math

import numpy as np
import pytest
import torch
from sklearn.neighbors import NearestCentroid

from mil.bag import Bag, pack
from mil.lit import FitConfig, fit_fold
from mil.losses.imbalance import CrossEntropy
from mil.losses.ordinal import Coral, Corn
from mil.models.prototype import SCALES, NearestPrototype, sides
from mil.network import Network, NetworkSpec, predict
from mil.testing import toy_bag


def classes_of_bags(per_class=4, classes=3, seed=0):
    """Bags whose classes lie on a line in feature space, and their targets."""
    bags, targets = [], []
    for number in range(per_class * classes):
        bag = toy_bag(5 + number, seed=seed + number)
        target = number % classes
        features = bag.features + np.float32(0.6) * target * (np.arange(12) % 3 == 0)
        bags.append(Bag(bag.slide_id, features.astype(np.float32), bag.coords_um, bag.rows))
        targets.append(target)
    return bags, np.array(targets)


def prepared(bags, targets, loss="cross_entropy", classes=3, **options):
    network = Network(NetworkSpec("prototype", loss, 12, classes, options)).eval()
    network.standardize(bags)
    network.prepare(bags, targets, network_loss(loss, classes))
    return network


def network_loss(loss, classes):
    return {"cross_entropy": CrossEntropy, "corn": Corn, "coral": Coral}[loss](classes)


def pooled(network, bags):
    scaled = [(bag.features - network.mean.numpy()) * network.scale.numpy() for bag in bags]
    return np.stack([one.mean(axis=0) for one in scaled])


def test_the_highest_class_is_that_of_the_nearest_centroid_and_logits_are_distances():
    bags, targets = classes_of_bags()
    new, _ = classes_of_bags(seed=100)
    network = prepared(bags, targets)
    logits = network(pack(new)).logits.detach().numpy()
    x, known = pooled(network, new), pooled(network, bags)
    centroid = NearestCentroid().fit(known, targets)
    np.testing.assert_array_equal(logits.argmax(axis=1), centroid.predict(x))
    apart = ((x[:, None] - centroid.centroids_[None]) ** 2).sum(axis=2)
    scale = float(network.model.scale)
    np.testing.assert_allclose(logits, scale * (apart[:, :1] - apart), rtol=1e-3, atol=1e-5)


def test_evidence_of_tiles_averages_to_the_logits():
    bags, targets = classes_of_bags()
    output = prepared(bags, targets)(pack(bags[:1]))
    torch.testing.assert_close(output.tile_logits.mean(dim=0), output.logits[0], rtol=1e-4, atol=1e-5)


def test_on_the_unit_sphere_length_does_not_matter():
    model = NearestPrototype(12, 2, unit=True)
    bag = toy_bag(6)
    longer = Bag("longer", 3 * bag.features, bag.coords_um, bag.rows)
    output = model(pack([bag, longer]))
    torch.testing.assert_close(output.logits[0], output.logits[1])
    torch.testing.assert_close(output.tile_logits[:6], output.tile_logits[6:])


@pytest.mark.parametrize("unit", [False, True])
@pytest.mark.parametrize("loss", ["cross_entropy", "corn"])
def test_scale_has_the_least_loss_when_each_slide_is_left_out(loss, unit):
    bags, targets = classes_of_bags(per_class=5)
    network = prepared(bags, targets, loss, unit=unit)
    x = torch.from_numpy(pooled(network, bags))
    x = x / x.norm(dim=1, keepdim=True) if unit else x
    criterion = network_loss(loss, 3)
    t = torch.from_numpy(targets)
    margins = torch.zeros(len(bags), 2)
    for row in range(len(bags)):
        rest = torch.arange(len(bags)) != row
        for output in range(2):
            positive = t == output + 1 if loss == "cross_entropy" else t > output
            negative = t == (0 if loss == "cross_entropy" else output)
            high, low = x[rest & positive].mean(dim=0), x[rest & negative].mean(dim=0)
            margins[row, output] = (x[row] - low).square().sum() - (x[row] - high).square().sum()
    whole = (network.model.high - network.model.low).square().sum(dim=1).mean()
    layer = criterion.layer()
    losses = [float(criterion(layer(s / whole * margins), t)) for s in SCALES]
    assert float(network.model.scale * whole) == pytest.approx(float(SCALES[np.argmin(losses)]), rel=1e-4)


def test_each_loss_has_its_own_sides():
    targets = torch.tensor([0, 1, 2, 3, 0, 2])

    def named(loss):
        high, low = sides(loss(4).marks(targets))
        return [
            (sorted(set(targets[high[:, output]].tolist())), sorted(set(targets[low[:, output]].tolist())))
            for output in range(high.shape[1])
        ]

    assert named(CrossEntropy) == [([1], [0]), ([2], [0]), ([3], [0])]
    assert named(Corn) == [([1, 2, 3], [0]), ([2, 3], [1]), ([3], [2])]
    assert named(Coral) == [([2, 3], [0, 1])]


def test_a_grade_that_is_missing_leaves_the_next_lower_one_to_compare_with():
    high, low = sides(Corn(4).marks(torch.tensor([0, 0, 1, 3])))
    assert high.T.tolist() == [[False, False, True, True], [False, False, False, True], [False, False, False, True]]
    assert low.T.tolist() == [[True, True, False, False], [False, False, True, False], [False, False, True, False]]


def test_a_class_without_slides_is_improbable_by_their_number():
    bags, targets = classes_of_bags(classes=2)
    network = prepared(bags, targets, classes=3)
    logits = network(pack(bags)).logits
    torch.testing.assert_close(logits[:, 2], torch.full((8,), math.log(0.5 / 8.5)))
    assert logits[:, 1].std() > 0.1


def test_one_slide_a_class_is_enough():
    bags, targets = classes_of_bags(per_class=1)
    network = prepared(bags, targets)
    logits = network(pack(bags)).logits
    assert logits.argmax(dim=1).tolist() == [0, 1, 2]
    assert torch.isfinite(logits).all()
    assert logits[1, 1] < 4


@pytest.mark.parametrize("loss", ["cross_entropy", "corn", "coral"])
def test_a_handful_of_slides_is_learnt(loss):
    bags, targets = classes_of_bags(per_class=3)
    new, truth = classes_of_bags(per_class=8, seed=50)
    network = fit_fold(NetworkSpec("prototype", loss, 12, 3), bags, targets, FitConfig(epochs=10, device="cpu"), seed=0)
    chance = network_loss(loss, 3).probabilities
    grades = np.stack([chance(predict(network, bag)[0]) for bag in new]) @ np.arange(3)
    by_class = [grades[truth == one].mean() for one in range(3)]
    assert by_class[0] + 0.3 < by_class[1] < by_class[2] - 0.3


def test_preparing_asks_no_other_model_to_read():
    class Untouched:
        def __len__(self):
            return 3

        def __getitem__(self, number):
            raise AssertionError("a bag was read")

    network = Network(NetworkSpec("mean", "corn", 12, 3))
    before = {name: value.clone() for name, value in network.state_dict().items()}
    network.prepare(Untouched(), np.zeros(3, np.int64), Corn(3))
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
