"""Expected colours are those of the published maps; positions follow from the definition of each scale."""

import numpy as np
import pytest

from wsi.errors import UsageError
from wsi.scales import FAINTEST, STRONGEST, Scale, attention_scale, colour_table, evidence_scale, round_length_um


def test_the_mean_tile_is_in_the_middle_of_attention() -> None:
    values = np.array([0.01, 0.1, 1.0, 10.0, 500.0, np.nan])
    np.testing.assert_allclose(attention_scale().position(values), [0, 0, 0.5, 1, 1, np.nan], atol=1e-12)


def test_probability_is_linear() -> None:
    np.testing.assert_allclose(evidence_scale("x", "probability").position(np.array([0, 0.25, 1])), [0, 0.25, 1])


def test_signed_evidence_is_symmetric_and_clear_at_zero() -> None:
    scale = evidence_scale("x", "signed", 4.0)
    np.testing.assert_allclose(scale.position(np.array([-4, 0, 2, 9])), [0, 0.5, 0.75, 1])
    assert scale.table[:, 3].argmin() in (127, 128)
    assert [text for _, text in scale.ticks] == ["-4", "-2", "0", "+2", "+4"]


def test_viridis_has_its_published_ends() -> None:
    table = colour_table("viridis")
    assert table[0].tolist() == [68, 1, 84]
    assert table[255].tolist() == [253, 231, 37]


@pytest.mark.parametrize("name", ["viridis", "blue-orange"])
def test_lightness_orders_the_colours(name: str) -> None:
    """What a reader without colour vision sees rises, or rises to the middle and falls, without a turn between."""
    lightness = colour_table(name) @ np.array([0.2126, 0.7152, 0.0722])  # type: ignore[arg-type]
    rising = lightness if name == "viridis" else lightness[:120]
    falling = np.array([1.0, 0.0]) if name == "viridis" else lightness[136:]
    assert (np.diff(rising) > -1.5).all()
    assert (np.diff(falling) < 1.5).all()


def test_opacity_goes_from_faint_to_strong() -> None:
    opacity = attention_scale().table[:, 3]
    assert opacity[0] == round(255 * FAINTEST)
    assert opacity[255] == round(255 * STRONGEST)
    assert (np.diff(opacity.astype(int)) >= 0).all()


def test_over_mixes_and_leaves_alone_what_has_no_value() -> None:
    scale = evidence_scale("x", "probability")
    mixed = scale.over(np.array([[1.0, np.nan]]), np.full((1, 2, 3), 100, np.uint8))
    share = round(255 * STRONGEST) / 255
    assert mixed[0, 0].tolist() == [round(100 * (1 - share) + c * share) for c in (253, 231, 37)]
    assert mixed[0, 1].tolist() == [100, 100, 100]


def test_a_scale_must_rise() -> None:
    with pytest.raises(UsageError, match="rises"):
        Scale("t", "u", 1.0, 1.0, (), "viridis")
    with pytest.raises(UsageError, match="rises"):
        Scale("t", "u", 0.0, 1.0, (), "viridis", log=True)


@pytest.mark.parametrize(("most", "length"), [(0.3, 1), (1, 1), (19.9, 10), (20, 20), (999, 500), (6_000_000, 500_000)])
def test_round_length(most: float, length: int) -> None:
    assert round_length_um(most) == length
