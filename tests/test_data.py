"""`streamer data`, and the article's triangles that it writes."""

from pathlib import Path

import pytest

from streamer import cli
from streamer.frames import milliseconds, read_prices
from streamer.sawtooth import DROPPED, PERIOD, SYMBOLS, price_step, sawtooth
from tests.test_commands import called


def test_the_sawtooth_is_the_articles() -> None:
    """A triangle of period 18 in ten levels, b nine rows after a, all times one factor in (0, 1)."""
    rows = sawtooth(40, step=60_000)
    factor = rows[0].prices["a"]
    assert 0 < factor < 1
    assert factor == price_step()
    a = [round(row.prices["a"] / factor, 9) for row in rows]
    b = [round(row.prices["b"] / factor, 9) for row in rows]
    assert a[:19] == [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1]
    assert b[9:] == a[:-9]
    assert [row.time for row in rows[:3]] == [0, 60_000, 120_000]
    assert sawtooth(40, step=60_000) == rows


def test_another_seed_changes_the_factor_and_nothing_else() -> None:
    one, other = ([row.prices["a"] / price_step(seed) for row in sawtooth(30, 1000, seed=seed)] for seed in (0, 1))
    assert price_step(0) != price_step(1)
    assert one == pytest.approx(other)


def test_no_two_columns_are_in_phase() -> None:
    rows = sawtooth(PERIOD, 1000, columns=5)
    assert tuple(rows[0].prices) == SYMBOLS
    assert len({tuple(row.prices[symbol] for row in rows) for symbol in SYMBOLS}) == len(SYMBOLS)


@pytest.mark.parametrize("name", ["prices.csv", "prices.parquet"])
def test_the_file_is_the_articles_and_reads_back_to_the_same_bits(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / name
    code, out, err = called(capsys, "data", "sawtooth", "-o", str(file))
    assert (code, out) == (0, "")
    assert err == f"streamer: 17990 rows of a, b in {file}; one price step is {price_step():g}\n"
    prices = read_prices(file)
    expected = sawtooth(18_000, 60_000)[DROPPED:]
    assert prices.to_dict("records") == [row.prices for row in expected]
    assert milliseconds(prices.index).tolist() == [row.time for row in expected]


def test_rows_columns_step_and_seed_are_as_asked_for(tmp_path: Path) -> None:
    file = tmp_path / "stack.csv"
    asked = ["--rows", "20", "--columns", "5", "--step", "1.5s", "--seed", "3"]
    assert cli.main(["data", "sawtooth", "-o", str(file), *asked]) == 0
    prices = read_prices(file)
    expected = sawtooth(20, 1500, columns=5, seed=3, first=DROPPED)
    assert prices.to_dict("records") == [row.prices for row in expected]
    assert milliseconds(prices.index).tolist() == [row.time for row in expected]


def test_periods_are_of_18_rows_less_the_ten_dropped(tmp_path: Path) -> None:
    file = tmp_path / "short.csv"
    assert cli.main(["data", "sawtooth", "-o", str(file), "--periods", "3"]) == 0
    assert len(read_prices(file)) == 44


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("sawtooth",),
        ("sawtooth", "-o", "prices.txt"),
        ("sawtooth", "-o", "x.csv", "--step", "0.5ms"),
        ("sawtooth", "-o", "x.csv", "--step", "1001h"),
        ("sawtooth", "-o", "x.csv", "--columns", "6"),
        ("sawtooth", "-o", "x.csv", "--rows", "9", "--periods", "2"),
    ],
)
def test_wrong_usage_is_exit_code_2(arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = called(capsys, "data", *arguments)
    assert (code, out) == (2, "")
    assert err.startswith("usage: streamer data")


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "none" / "prices.csv"
    code, _, err = called(capsys, "data", "sawtooth", "-o", str(file), "--rows", "5")
    assert code == 2
    assert err.startswith(f"streamer: {file} cannot be written: ")
    assert len(err.splitlines()) == 1


def test_the_kinds_help_shows_how_it_is_called(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = called(capsys, "data", "sawtooth", "--help")
    assert code == 0
    assert "\n  streamer data sawtooth -o" in out
