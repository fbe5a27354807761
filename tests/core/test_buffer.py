"""The rolling buffer against a plain list."""

import math

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from streamer.core.buffer import TickBuffer
from tests.core.helpers import MODERATE

prices = st.floats(-10.0, 10.0) | st.just(math.nan)
Ticks = list[tuple[int, bool, list[float]]]


class BufferAgainstList(RuleBasedStateMachine):
    """Each rule does the same to the buffer and to a list of `(time, is_break, prices)`."""

    @initialize(capacity=st.sampled_from([1, 2, 3, 7, 300]), width=st.integers(0, 2))
    def begin(self, capacity: int, width: int) -> None:
        self.buffer, self.width, self.capacity = TickBuffer(capacity, width), width, capacity
        self.model: Ticks = []
        self.appended = 0
        self.handed_out: list[tuple[np.ndarray, bytes]] = []

    def row(self, data: st.DataObject) -> list[float]:
        return data.draw(st.lists(prices, min_size=self.width, max_size=self.width))

    @rule(
        data=st.data(),
        time=st.integers(0, 9),
        is_break=st.booleans(),
        repeat=st.sampled_from([1, 1, 2, 5, 200]),
    )
    def append(self, data: st.DataObject, time: int, is_break: bool, repeat: int) -> None:
        row = self.row(data)
        for i in range(repeat):
            self.buffer.append(time + i, is_break, np.array(row))
            self.model = [*self.model, (time + i, is_break, row)][-self.capacity :]
        self.appended += repeat

    @rule(more=st.integers(0, 2))
    def widen(self, more: int) -> None:
        self.width += more
        self.buffer = self.buffer.widened(self.width)
        self.model = [(time, is_break, row + [math.nan] * more) for time, is_break, row in self.model]

    @rule(data=st.data(), times=st.lists(st.integers(0, 9), max_size=9))
    def prepend(self, data: st.DataObject, times: list[int]) -> None:
        older: Ticks = [(time, data.draw(st.booleans()), self.row(data)) for time in times]
        self.buffer.prepend(
            np.array(times, np.int64),
            np.array([is_break for _, is_break, _ in older], np.bool_),
            np.array([row for _, _, row in older]).reshape(len(older), self.width),
        )
        self.model = [*older, *self.model][-self.capacity :] if older else self.model

    @rule()
    def hand_out(self) -> None:
        """A trainer may hold what it was given while the stream goes on."""
        self.handed_out.append((self.buffer.prices, self.buffer.prices.tobytes()))

    @invariant()
    def both_hold_the_same(self) -> None:
        buffer = self.buffer
        assert len(buffer) == len(self.model)
        assert buffer.appended == self.appended
        assert buffer.times.tolist() == [time for time, _, _ in self.model]
        assert buffer.breaks.tolist() == [is_break for _, is_break, _ in self.model]
        expected = np.array([row for _, _, row in self.model]).reshape(len(self.model), self.width)
        np.testing.assert_array_equal(buffer.prices, expected)
        for view in (buffer.times, buffer.breaks, buffer.prices):
            assert view.flags.c_contiguous

    @invariant()
    def each_tick_is_found(self) -> None:
        for index in {0, len(self.model) // 2, len(self.model) - 1} if self.model else ():
            time, is_break, row = self.buffer[index]
            assert (time, is_break) == self.model[index][:2]
            np.testing.assert_array_equal(row, self.model[index][2])
        for time in (0, 4, 9):
            indices = [i for i, (each, _, _) in enumerate(self.model) if each == time]
            assert self.buffer.index_after(time) == (indices[-1] + 1 if indices else None)

    @invariant()
    def views_handed_out_stay_as_they_were(self) -> None:
        for view, content in self.handed_out:
            assert view.tobytes() == content


BufferAgainstList.TestCase.settings = settings(MODERATE, max_examples=30, stateful_step_count=20)
TestBufferAgainstList = BufferAgainstList.TestCase


def filled(*ticks: tuple[int, bool, float]) -> TickBuffer:
    buffer = TickBuffer(10, 1)
    for time, is_break, price in ticks:
        buffer.append(time, is_break, np.array([price]))
    return buffer


def listed(buffer: TickBuffer, start: int = 0) -> list[tuple[int, bool, float | None]]:
    """Time, break and price (None where blank) of each row, in steps of 10."""
    return [
        (row.time, row.is_break, None if math.isnan(row.prices[0]) else float(row.prices[0]))
        for row in buffer.rows(10, start)
    ]


def test_rows_fill_missing_steps_with_blanks_but_not_a_break() -> None:
    buffer = filled((100, True, 1.0), (110, False, 2.0), (140, False, 3.0), (900, True, 4.0), (50, True, 5.0))

    assert listed(buffer) == [
        (100, True, 1.0),
        (110, False, 2.0),
        (120, False, None),
        (130, False, None),
        (140, False, 3.0),
        (900, True, 4.0),
        (50, True, 5.0),
    ]


def test_rows_from_a_later_start_fill_the_step_before_it_too() -> None:
    buffer = filled((100, True, 1.0), (120, False, 2.0), (140, False, 3.0))

    assert listed(buffer, 2) == [(130, False, None), (140, False, 3.0)]
    assert listed(buffer, 1) + listed(buffer, 3) == listed(buffer)[1:]


def test_the_first_row_held_has_nothing_before_it_to_fill() -> None:
    buffer = TickBuffer(2, 1)
    for time in (100, 130, 160):
        buffer.append(time, False, np.array([float(time)]))

    assert listed(buffer) == [
        (130, False, 130.0),
        (140, False, None),
        (150, False, None),
        (160, False, 160.0),
    ]


def test_a_buffer_that_holds_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="capacity"):
        TickBuffer(0, 1)


def test_memory_stays_below_one_and_a_half_times_what_is_held() -> None:
    buffer = TickBuffer(1_000, 1)
    for i in range(5_000):
        buffer.append(i, False, np.zeros(1))
        owner = buffer.prices.base
        assert isinstance(owner, np.ndarray)
        assert len(owner) <= 1_501
