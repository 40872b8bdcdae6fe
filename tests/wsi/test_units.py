"""Pixel sizes: read, believed or refused."""

import pytest

from wsi.errors import ImplausibleMppError, MissingMppError, UsageError
from wsi.units import check_mpp, parse_mpp


def test_one_number_is_both_axes():
    assert parse_mpp("0.25") == (0.25, 0.25)
    assert parse_mpp("0.25,0.252") == (0.25, 0.252)


@pytest.mark.parametrize("text", ["", "x", "0.25,", "1,2,3", "0,25", "nan", "500", "-0.25", "0.25,0.5"])
def test_what_is_no_pixel_size_is_refused_by_name(text):
    with pytest.raises(UsageError, match="0.25"):
        parse_mpp(text)


@pytest.mark.parametrize("value", [0.0, -0.25, 0.00499, 25.0, 250.0, float("nan"), float("inf")])
def test_implausible_sizes_are_refused_with_the_value_its_source_and_the_cure(value):
    with pytest.raises(ImplausibleMppError, match=r"by aperio.MPP.*--slide-mpp") as caught:
        check_mpp((value, value), "aperio.MPP")
    assert f"{value:g}" in str(caught.value)


def test_the_limits_themselves_are_plausible():
    assert check_mpp((0.05, 0.05), "x") == (0.05, 0.05)
    assert check_mpp((20.0, 20.0), "x") == (20.0, 20.0)


def test_missing_is_not_implausible_but_both_are_a_value_error():
    with pytest.raises(MissingMppError, match="--slide-mpp") as caught:
        check_mpp(None, "none")
    assert not isinstance(caught.value, ImplausibleMppError)
    assert isinstance(caught.value, ValueError)


def test_pixels_two_per_cent_off_square_pass_and_more_do_not():
    assert check_mpp((0.25, 0.2549), "x") == (0.25, 0.2549)
    with pytest.raises(ImplausibleMppError, match="not square"):
        check_mpp((0.25, 0.2551), "x")
