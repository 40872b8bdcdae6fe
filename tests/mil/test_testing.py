import numpy as np

from mil.testing import toy_bag, toy_card, write_store


def test_written_store_is_sound_and_holds_what_was_given(tmp_path):
    values = np.random.default_rng(0).normal(size=(30, 12)).astype(np.float16)
    store = write_store(tmp_path, "S", values, toy_card(), bad=(4,))
    assert store.verify() == []
    np.testing.assert_array_equal(store.features("made-up"), np.delete(values, 4, axis=0))
    assert [one.row for one in store.bad_tiles("made-up")] == [4]
    assert store.slide.slide_id == "S"


def test_toy_bag_carries_its_signal_in_a_tenth_of_its_tiles():
    plain, marked = toy_bag(50, seed=1), toy_bag(50, seed=1, signal=2.0)
    difference = marked.features - plain.features
    np.testing.assert_allclose(difference[:5, :3], 2, rtol=1e-5)
    assert not difference[5:].any()
