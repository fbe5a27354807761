"""States side by side and apart again."""

import numpy as np

from streamer.core.features import State
from streamer.model.stacked import Layout, Packed
from tests.model.helpers import bits


def state(seed: int) -> State:
    """Arrays of several kinds; small numbers stand before large ones."""
    random = np.random.default_rng(seed)
    return {
        "h0": random.normal(size=(3, 5)).astype(np.float32),
        "rows": random.normal(size=1),
        "regret": random.normal(size=(7, 3)),
        "c0": random.normal(size=(3, 1)).astype(np.float32),
    }


def test_side_by_side_each_array_has_one_more_axis_of_the_streams() -> None:
    states = [state(seed) for seed in range(4)]
    stacked = Layout.of(states[0]).stacked(states)
    assert list(stacked) == list(states[0])
    for name, array in stacked.items():
        np.testing.assert_array_equal(array, np.stack([each[name] for each in states]))


def test_apart_each_is_what_it_was() -> None:
    states, layout = [state(seed) for seed in range(4)], Layout.of(state(0))
    apart = layout.apart(layout.stacked(states), 4)
    again = layout.apart(layout.stacked([apart[2], states[1]]), 2)  # of both kinds
    assert [bits(each) for each in apart] == [bits(each) for each in states]
    assert [bits(each) for each in again] == [bits(states[2]), bits(states[1])]


def test_a_packed_state_has_the_names_shapes_and_kinds_of_numbers_of_the_other() -> None:
    layout = Layout.of(state(0))
    (packed,) = layout.apart(layout.stacked([state(3)]), 1)
    assert list(packed) == list(state(3))
    assert len(packed) == 4
    assert {name: (a.shape, a.dtype) for name, a in packed.items()} == {
        name: (a.shape, a.dtype) for name, a in state(3).items()
    }
    assert all(array.flags.aligned and array.flags.c_contiguous for array in packed.values())


def test_one_state_does_not_hold_the_memory_of_all() -> None:
    layout = Layout.of(state(0))
    first, *_ = layout.apart(layout.stacked([state(seed) for seed in range(100)]), 100)
    assert isinstance(first, Packed)
    assert first.row.base is None
    assert first.row.nbytes == layout.size == 4 * 15 + 8 + 8 * 21 + 4 * 3


def test_states_that_are_packed_in_another_order_are_not_mixed_up() -> None:
    layout, other = Layout.of(state(0)), Layout.of(dict(reversed(list(state(0).items()))))
    (packed,) = other.apart(other.stacked([state(3)]), 1)
    assert bits(layout.apart(layout.stacked([packed]), 1)[0]) == bits(state(3))


def test_states_of_one_kind_have_one_layout() -> None:
    """A thousand streams have no layout each."""
    assert Layout.of(state(0)) is Layout.of(state(1))
