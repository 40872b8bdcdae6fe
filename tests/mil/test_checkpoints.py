import torch

from mil.checkpoints import FitFolder
from mil.network import Network, NetworkSpec

SPEC = NetworkSpec("mean", "corn", 12, 2)
STATE = {"weights": {"a": torch.arange(5.0)}, "log": [{"loss": 0.1, "metric": None}], "seconds": 2.5}


def test_state_comes_back_bit_for_bit(tmp_path):
    folder = FitFolder(tmp_path / "fold-0", every_s=0)
    assert folder.load() is None
    folder.save(lambda: STATE)
    found = folder.load()
    assert torch.equal(found["weights"]["a"], STATE["weights"]["a"])
    assert found["log"] == STATE["log"]


def test_not_at_every_epoch(tmp_path):
    folder = FitFolder(tmp_path, every_s=3600)
    folder.save(lambda: STATE)
    assert folder.load() is None


def test_damage_counts_as_not_there(tmp_path):
    folder = FitFolder(tmp_path, every_s=0)
    folder.save(lambda: STATE)
    path = tmp_path / "checkpoint"
    data = bytearray(path.read_bytes())
    data[-20] ^= 1
    path.write_bytes(bytes(data))
    assert folder.load() is None
    path.write_bytes(b"")
    assert folder.load() is None


def test_a_finished_fit_is_kept_with_its_record(tmp_path):
    torch.manual_seed(0)
    network, other = Network(SPEC), Network(SPEC)
    folder = FitFolder(tmp_path, every_s=0)
    folder.save(lambda: STATE)
    assert folder.finished(other) is None
    folder.finish(network, {"lr": 0.001})
    assert not (tmp_path / "checkpoint").exists()
    assert folder.finished(other) == {"lr": 0.001}
    for name, value in network.state_dict().items():
        assert torch.equal(value, other.state_dict()[name])
    weights = tmp_path / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    assert folder.finished(other) is None
