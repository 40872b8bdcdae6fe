import pytest

from mil.fit_config import FitConfig
from wsi.errors import UsageError


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"epochs": 0}, "epochs is 0"),
        ({"lr": 0.0}, "lr is 0.0; it can be above 0"),
        ({"weight_decay": -1.0}, "weight-decay is -1.0"),
        ({"ema": 1.0}, "ema is 1.0"),
        ({"patience": -1}, "patience is -1"),
        ({"watched": 0.9}, "watched is 0.9"),
    ],
)
def test_numbers_that_cannot_be_meant_are_refused(change, said):
    with pytest.raises(UsageError, match=said):
        FitConfig(**change)
