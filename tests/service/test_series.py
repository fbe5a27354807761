"""What a chart is drawn from."""

import numpy as np

from streamer.service.series import Series


def row(*values: float) -> list[np.ndarray]:
    """Two parts, the second a tenth of the first."""
    return [np.array(values), np.array(values) / 10]


def held(series: Series, symbol: str) -> list[tuple[float, ...]]:
    times, values = series.of(symbol)
    return [(int(time), *(round(float(each), 3) for each in pair)) for time, pair in zip(times, values, strict=True)]


def test_the_last_rows_are_kept_oldest_first() -> None:
    series = Series(3, 2)
    for time in range(5):
        series.add(time, ("A",), row(time))
    assert [time for time, *_ in held(series, "A")] == [2, 3, 4]


def test_a_symbol_that_joins_has_no_rows_of_before_and_one_that_pauses_none_of_meanwhile() -> None:
    series = Series(5, 2)
    series.add(1, ("A",), row(1))
    series.add(2, ("B", "A"), row(20, 2))
    series.add(3, ("B",), row(30))
    series.add(4, (), row())
    assert [time for time, *_ in held(series, "A")] == [1, 2]
    assert [price for _, price, _ in held(series, "B")] == [20, 30]
    assert held(series, "C") == []


def test_a_symbol_that_pauses_keeps_nothing_of_the_row_that_was_there_before() -> None:
    series = Series(2, 2)
    for time in (1, 2):
        series.add(time, ("A", "B"), row(time, 10 * time))
    series.add(3, ("A",), row(3))
    assert [time for time, *_ in held(series, "B")] == [2]


def test_symbols_that_have_gone_do_not_take_room_for_ever() -> None:
    series = Series(4, 2)
    for time in range(500):
        series.add(time, (f"S{time}", "A"), row(time, time))
    assert series._values.shape[2] < 100
    assert [time for time, *_ in held(series, "A")] == [496, 497, 498, 499]


def test_of_a_full_ring_every_other_row_stays_the_newest_among_them() -> None:
    series = Series(4, 2)
    for time in range(4):
        series.add(time, ("A",), row(time))
    series.thin()
    series.add(4, ("A",), row(4))
    assert [time for time, *_ in held(series, "A")] == [1, 3, 4]


def test_a_split_changes_what_is_held_and_a_rename_its_name() -> None:
    series = Series(4, 2)
    series.add(1, ("A", "B"), row(8, 5))
    series.adjust("A", 0.25, "A2")
    series.adjust("nobody", 2.0, "C")
    assert held(series, "A2") == [(1, 2.0, 0.2)]
    assert held(series, "A") == []
    assert held(series, "B") == [(1, 5.0, 0.5)]


def test_a_new_name_that_a_symbol_of_the_past_had_is_that_of_the_present_one() -> None:
    series = Series(4, 2)
    series.add(1, ("A", "B"), row(8, 5))
    series.add(2, ("B",), row(6))
    series.adjust("B", 1.0, "A")
    assert [price for _, price, _ in held(series, "A")] == [5.0, 6.0]
