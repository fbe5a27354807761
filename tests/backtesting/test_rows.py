"""Tables that are odd or unusable: each said in one line that names the file, the column, and what to do."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from streamer.backtesting import Options, Result
from streamer.core.levels import Change
from streamer.errors import UsageError
from streamer.frames import price_table, read_prices
from tests.backtesting.helpers import SMALL, Learner, checked, run, walk

ONCE = Options(train_fraction=0.5, retrain_every=0)


def csv(folder: Path, text: str) -> Path:
    path = folder / "prices.csv"
    path.write_text(text)
    return path


class TestReading:
    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("", "cannot be read: No columns"),
            ("timestamp,A\n", "has no rows"),
            ("timestamp\n2026-01-05T00:00Z\n", "expected a time column and at least one column of prices"),
            ("timestamp,A,B\n2026-01-05T00:00Z,x,y\n", "no column of prices: none but the first is numeric"),
            ("timestamp,A,B\n2026-01-05T00:00Z,1,y\n", "column 'B' is not numeric: take it out"),
            ("timestamp,A\nyesterday,1\n", "column 'timestamp' holds no ISO-8601 times"),
            ("timestamp,A\n2026-01-05T00:00Z,1\n,2\n", "row 2 has no time: take it out"),
        ],
    )
    def test_what_is_no_table_of_prices_is_refused(self, text: str, said: str, tmp_path: Path) -> None:
        path = csv(tmp_path, text)
        with pytest.raises(UsageError, match=rf"^{path}:? ?{said}") as raised:
            read_prices(path)
        assert "\n" not in str(raised.value).strip()

    def test_a_missing_file_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match=r"none\.csv cannot be read"):
            read_prices(tmp_path / "none.csv")

    def test_listed_symbols_are_taken_in_their_order_and_the_rest_may_be_anything(self, tmp_path: Path) -> None:
        path = csv(tmp_path, "timestamp,A,venue,B\n2026-01-05T00:00Z,1,x,2\n")
        assert list(read_prices(path, ("B", "A")).columns) == ["B", "A"]
        with pytest.raises(UsageError, match=r"has no column 'C', which feed\.symbols names$"):
            read_prices(path, ("A", "C"))

    @pytest.mark.parametrize("as_index", [True, False])
    def test_parquet_gives_what_csv_gives(self, as_index: bool, tmp_path: Path) -> None:
        table = walk(20).rename_axis("timestamp")
        table.iloc[3, 1] = np.nan
        (table if as_index else table.reset_index()).to_parquet(tmp_path / "prices.parquet")
        table.to_csv(tmp_path / "prices.csv")
        pd.testing.assert_frame_equal(
            read_prices(tmp_path / "prices.parquet"), read_prices(tmp_path / "prices.csv"), check_index_type=False
        )

    def test_whole_numbers_are_milliseconds(self) -> None:
        table = pd.DataFrame({"t": [1_767_571_200_000, 1_767_571_260_000], "A": [1.0, 2.0]})
        assert price_table(table, (), "x").index[1] == pd.Timestamp("2026-01-05T00:01Z")

    def test_a_time_without_a_zone_is_in_utc(self) -> None:
        table = pd.DataFrame({"A": [1.0]}, pd.DatetimeIndex(["2026-01-05"]))
        assert price_table(table, (), "x").index[0] == pd.Timestamp("2026-01-05T00:00Z")


class TestTimes:
    def test_another_step_than_the_configured_is_found_said_and_used(self) -> None:
        table = walk(100)
        table.index = pd.date_range("2026-01-05", periods=100, freq="5min", tz="UTC")
        backtest = run(table, options=ONCE)
        assert backtest.notices == ("prices.csv: the rows keep a step of 300 s, which is used",)
        assert backtest.engine.settings.step == 300_000
        assert Result(backtest).predicted.notna().all(axis=None)

    def test_rows_out_of_order_are_sorted_and_that_is_said(self) -> None:
        table = walk(100)
        mixed = checked(table.iloc[::-1])
        assert mixed.notices == ("prices.csv: the rows are not in order of time: sorted",)
        np.testing.assert_array_equal(mixed.times, checked(table).times)
        np.testing.assert_array_equal(mixed.prices, checked(table).prices)

    def test_of_rows_on_one_step_the_first_counts_and_the_rest_is_said(self) -> None:
        table = walk(50)
        twice = pd.concat([table.iloc[:20], 2 * table.iloc[19:20], table.iloc[20:]])
        rows = checked(twice)
        assert rows.notices == (
            "prices.csv: 1 rows fall on the step of the row before them, the first at 2026-01-05T00:19:00Z: "
            "left out, as the daemon does",
        )
        np.testing.assert_array_equal(rows.prices, checked(table).prices)

    def test_sorting_keeps_rows_of_one_time_in_their_order(self) -> None:
        table = walk(200)
        mixed = pd.concat([table.iloc[::-1], 2 * table])
        np.testing.assert_array_equal(checked(mixed).prices, checked(table).prices)

    @pytest.mark.parametrize("rows", [1, 3])
    def test_without_rising_times_there_is_no_step(self, rows: int) -> None:
        table = walk(rows).set_axis(pd.DatetimeIndex(["2026-01-05T00:00Z"] * rows))
        with pytest.raises(UsageError, match=r"^prices\.csv: the rows have no step"):
            checked(table)


class TestColumns:
    def test_an_empty_column_is_said_and_the_others_are_forecast(self) -> None:
        table = walk(100, 3)
        table["B"] = np.nan
        backtest = run(table, options=ONCE)
        assert backtest.notices == ("prices.csv: 'B': no price at all: it is carried along and not forecast",)
        result = Result(backtest)
        assert result.predicted["B"].isna().all()
        assert result.predicted[["A", "C"]].notna().all(axis=None)
        assert result.scores.loc["B", "n"] == 0
        assert result.summary["symbols"]["B"]["rmse"] is None
        assert result.summary["ratio"] is not None

    def test_a_constant_column_has_no_skill_to_show(self) -> None:
        table = walk(100)
        table["B"] = 5.0
        backtest = run(table, options=ONCE)
        assert backtest.notices == ("prices.csv: 'B': one and the same price throughout: it has no skill to show",)
        figures = Result(backtest).summary["symbols"]["B"]
        assert figures["n"] == 50
        assert figures["persistence_rmse"] == 0.0
        assert figures["skill"] is None

    def test_prices_of_zero_or_below_are_blank_for_log_returns_and_fine_for_differences(self) -> None:
        table = walk(100)
        table["B"] -= 100.0
        table.iloc[70:75, 1] = [-1.0, 0.0, 1.0, -2.0, 0.0]
        logs = run(table, options=ONCE, engine=replace(SMALL, change=Change.LOG_RETURN))
        assert len(logs.notices) == 1
        assert "'B': prices that log returns cannot take" in logs.notices[0]
        assert "feed.change: auto" in logs.notices[0]
        differences = run(table, options=ONCE, engine=replace(SMALL, change=Change.DIFFERENCE))
        assert differences.notices == ()
        assert Result(differences).scores["n"].tolist() == [50, 50]
        assert Result(logs).summary["symbols"]["B"]["n"] < 50

    def test_auto_takes_prices_of_zero_or_below_and_says_so(self) -> None:
        table = walk(100)
        table.iloc[70:75, 1] = [-1.0, 0.0, 1.0, -2.0, 0.0]
        backtest = run(table, options=ONCE)
        assert backtest.notices == (
            "prices.csv: 'B': prices of zero or below: its changes are differences from the first of them on",
        )
        assert Result(backtest).scores["n"].tolist() == [50, 50]
        assert backtest.engine.switched == ("B",)

    def test_no_usable_price_at_all_is_refused(self) -> None:
        with pytest.raises(UsageError, match=r"^prices.csv: no price in 'A', 'B' that can be used"):
            checked(-walk(50), replace(SMALL, change=Change.LOG_RETURN))
        only_a = replace(SMALL, targets=("A",))
        with pytest.raises(UsageError, match=r"no price in 'A' that"):
            checked(walk(50).assign(A=np.nan), only_a)

    def test_targets_are_columns(self) -> None:
        result = Result(run(walk(100, 3), options=ONCE, engine=replace(SMALL, targets=("C", "A"))))
        assert list(result.predicted.columns) == ["A", "C"]
        assert list(result.actual.columns) == ["A", "C"]
        with pytest.raises(UsageError, match=r"^prices.csv has no column 'X', which is to be forecast$"):
            checked(walk(50), replace(SMALL, targets=("X",)))

    def test_more_columns_than_the_limit_are_refused_with_the_key(self) -> None:
        with pytest.raises(UsageError, match=r"prices.csv has 5 columns, limits.symbols allows 4: raise it, or list"):
            checked(walk(50, 5), replace(SMALL, max_symbols=4))

    def test_five_hundred_columns_are_forecast(self, tmp_path: Path) -> None:
        rng = np.random.default_rng(0)
        prices = 100.0 + np.cumsum(rng.normal(size=(60, 500)) * 0.1, axis=0)
        index = pd.date_range("2026-01-05", periods=60, freq="1min", tz="UTC")
        table = pd.DataFrame(prices, index, [f"S{column}" for column in range(500)])
        result = Result(run(table, Learner(), options=ONCE))
        assert result.predicted.shape == (30, 500)
        assert result.predicted.notna().all(axis=None)
        result.write(tmp_path)
        report = (tmp_path / "report.html").read_text()
        assert "Pictures of the first 20 of 500 targets follow" in report
        assert "<h2>S19</h2>" in report
        assert "<h2>S20</h2>" not in report

    def test_many_odd_columns_are_not_all_named(self) -> None:
        table = walk(50, 8)
        table.iloc[:, 1:] = np.nan
        assert checked(table).notices[0].startswith("prices.csv: 'B', 'C', 'D' and 4 more: no price at all")
