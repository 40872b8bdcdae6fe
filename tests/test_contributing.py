"""The model that CONTRIBUTING shows is what it says: its code keeps the contract, and its test passes."""

import re
import sys
import types
from pathlib import Path

import pytest

from mil.testing import check_model

TEXT = (Path(__file__).parents[1] / "CONTRIBUTING.md").read_text(encoding="utf-8")


@pytest.fixture
def noisy_or(monkeypatch):
    code, test = re.findall(r"^```python\n(.*?)^```$", TEXT, flags=re.DOTALL | re.MULTILINE)
    module = types.ModuleType("mil.models.noisy_or")
    exec(compile(code, "CONTRIBUTING.md", "exec"), module.__dict__)
    monkeypatch.setitem(sys.modules, "mil.models.noisy_or", module)
    checks = {}
    exec(compile(test, "CONTRIBUTING.md", "exec"), checks)
    return module.NoisyOr, [check for name, check in checks.items() if name.startswith("test_")]


def test_the_model_keeps_the_contract_and_passes_its_test(noisy_or):
    model, checks = noisy_or
    check_model(model)
    assert len(checks) == 1
    checks[0]()
