import numpy as np
import pytest
import torch

from mil.bag import Bag, pack
from mil.network import Network, NetworkSpec, predict
from mil.testing import toy_bag
from wsi.errors import UsageError


def test_options_are_written_out_and_unknown_ones_refused():
    spec = NetworkSpec("abmil", "cross_entropy", 12, 3, {"hidden": 16}).complete()
    assert spec.model_options["hidden"] == 16
    assert {"attention_dim", "dropout"} <= set(spec.model_options)
    assert spec.loss_options == {"class_counts": None, "label_smoothing": 0.0}
    with pytest.raises(UsageError, match="abmil has no option 'wings'; it has: hidden"):
        NetworkSpec("abmil", "corn", 12, 3, {"wings": 2}).complete()
    with pytest.raises(UsageError, match="corn has no option 'x'; it has: none"):
        NetworkSpec("abmil", "corn", 12, 3, {}, {"x": 2}).complete()
    with pytest.raises(UsageError, match="no model is called 'abmill'"):
        NetworkSpec("abmill", "corn", 12, 3).complete()


def test_losses_of_classes_and_of_values_are_told_apart():
    spec = NetworkSpec("abmil", "discrete_time", 12, 0, {}, {"cuts": [1.0, 2.0]}).complete()
    assert spec.loss_options == {"cuts": [1.0, 2.0], "censored": "middle", "alpha": 0.0}
    assert Network(spec)(pack([toy_bag(6), toy_bag(3)])).logits.shape == (2, 2)
    with pytest.raises(UsageError, match="no loss is called 'discrete_time'; there are: cross_entropy"):
        spec.build_class_loss()
    with pytest.raises(UsageError, match="no value_loss is called 'corn'; there are: cox"):
        NetworkSpec("abmil", "corn", 12, 3).build_value_loss()
    with pytest.raises(UsageError, match="discrete_time needs the option 'cuts'"):
        NetworkSpec("abmil", "discrete_time", 12, 0).complete()


def test_standardize_counts_every_slide_alike():
    bags = [toy_bag(10, seed=0), toy_bag(1000, seed=1)]
    network = Network(NetworkSpec("mean", "corn", 12, 2))
    network.standardize(bags)
    mean = np.mean([bag.features.mean(axis=0, dtype=np.float64) for bag in bags], axis=0)
    square = np.mean([(bag.features.astype(np.float64) ** 2).mean(axis=0) for bag in bags], axis=0)
    np.testing.assert_allclose(network.mean, mean, rtol=1e-5, atol=1e-6)
    variance = square - mean**2
    np.testing.assert_allclose(network.scale, 1 / np.sqrt(variance + 4 * np.median(variance)), rtol=1e-5)


def test_shift_and_scale_of_features_do_not_matter():
    """What standardising is for: the network of shifted and scaled features is the same function."""
    bags = [toy_bag(20, seed=seed) for seed in range(4)]
    moved = [Bag(bag.slide_id, bag.features * 50 + 1000, bag.coords_um, bag.rows) for bag in bags]
    outputs = []
    for some in (bags, moved):
        torch.manual_seed(0)
        network = Network(NetworkSpec("abmil", "corn", 12, 4)).eval()
        network.standardize(some)
        outputs.append(network(pack(some)).logits)
    torch.testing.assert_close(*outputs, rtol=1e-3, atol=1e-4)


def test_constant_feature_is_ignored():
    bag = toy_bag(20)
    bag.features[:, 3] = 7.25
    network = Network(NetworkSpec("abmil", "corn", 12, 4)).eval()
    network.standardize([bag])
    assert torch.isfinite(network.scale).all()
    assert torch.isfinite(network(pack([bag])).logits).all()
    bag.features[:] = 7.25
    network.standardize([bag])
    assert not network.scale.any()


@pytest.mark.parametrize(("loss", "columns"), [("corn", 3), ("coral", 3), ("cross_entropy", 4)])
def test_logits_are_those_of_the_loss(loss, columns):
    output = Network(NetworkSpec("topk", loss, 12, 4)).eval()(pack([toy_bag(6), toy_bag(3)]))
    assert output.logits.shape == (2, columns)
    assert output.tile_logits.shape == (9, columns)


@pytest.mark.parametrize("tiles", [1, 7, 50])
def test_predictions_are_the_same_bits_on_any_number_of_cores(tiles):
    """Without the guard, bags of seven tiles differ in the last bit between one and two threads."""
    torch.manual_seed(0)
    network = Network(NetworkSpec("abmil", "corn", 1280, 6)).eval()
    before = torch.get_num_threads()
    found = []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            found.append(np.concatenate([part.ravel() for part in predict(network, toy_bag(tiles, 1280))]))
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[0], found[2])
