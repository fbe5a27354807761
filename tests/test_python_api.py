"""From Python: the engine for notebooks, plots, and `streamer.testing`. The examples of their docstrings run here."""

import asyncio
import doctest
import importlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import streamer
from streamer import testing
from streamer.backtesting import Result, figures
from streamer.core.engine import ForecastEngine as CoreEngine
from streamer.errors import ArtifactError, ConfigError, StreamerError, UsageError
from streamer.frames import ticks
from streamer.model import artifact as artifacts
from streamer.model.store import ModelStore
from tests.backtesting.helpers import run, walk
from tests.support import CHECKOUT

SMALL = {
    "feed.change": "difference",
    "network.features": "changes",
    "network.mode": "joint",
    "network.layers": [{"units": 8}],
    "network.members": 1,
    "fit.steps": 60,
    "fit.refit": False,
}
"""A network that learns a sawtooth in a second."""


@pytest.mark.slow
@pytest.mark.parametrize("module", ["streamer", "streamer.testing"])
def test_the_examples_of_the_docstrings_are_true(module: str) -> None:
    found = doctest.testmod(importlib.import_module(module), optionflags=doctest.NORMALIZE_WHITESPACE)
    assert found.attempted >= 5
    assert found.failed == 0


def test_the_package_loads_nothing_that_is_not_asked_for() -> None:
    program = "import sys, streamer\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], cwd=CHECKOUT, capture_output=True, text=True, check=True)
    assert {"numpy", "pandas", "pydantic", "tensorflow", "plotly"} & set(done.stdout.split()) == set()


def test_neither_engine_nor_fakes_load_tensorflow() -> None:
    program = "import sys, streamer, streamer.testing\nstreamer.ForecastEngine, streamer.backtest\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], cwd=CHECKOUT, capture_output=True, text=True, check=True)
    assert "tensorflow" not in done.stdout.split()


class TestEngine:
    def test_a_frame_gives_the_forecasts_of_the_daemons_engine(self) -> None:
        frame = testing.random_walk(30)
        engine = streamer.ForecastEngine.from_settings({"feed.window": 5})
        table = engine.feed(frame)
        core = CoreEngine(engine.settings)
        for tick in ticks(frame):
            core.process(tick)
        assert core.pending is not None
        newest = table.loc[pd.Timestamp(core.pending.target, unit="ms", tz="UTC")]
        np.testing.assert_array_equal(newest["upper"], core.pending.upper)
        np.testing.assert_array_equal(table["last"].unstack()["A"], frame["A"])
        assert (table.reset_index()["target"] - table.reset_index()["as_of"]).unique() == [pd.Timedelta("1min")]
        assert set(table["model"]) == {"persistence"}

    def test_in_parts_it_is_the_same_as_at_once(self) -> None:
        frame = testing.random_walk(30)
        whole = streamer.ForecastEngine.from_settings().feed(frame)
        engine = streamer.ForecastEngine.from_settings()
        pd.testing.assert_frame_equal(pd.concat([engine.feed(frame[:11]), engine.feed(frame[11:])]), whole)

    def test_rows_without_a_forecast_are_counted(self) -> None:
        frame = testing.random_walk(4)
        frame.iloc[2] = np.nan
        engine = streamer.ForecastEngine.from_settings()
        engine.feed(frame)
        assert engine.feed(frame[:1]).empty
        assert engine.counts == {"forecast": 3, "no_price": 1, "late": 1}

    def test_another_step_than_that_of_the_settings_is_said_with_the_remedy(self) -> None:
        engine = streamer.ForecastEngine.from_settings()
        with pytest.warns(UserWarning, match=r'set \{"feed.step": "3600s"\}'):
            engine.feed(testing.random_walk(300, step="1h"))

    def test_a_wrong_key_is_an_error_that_names_it(self) -> None:
        with pytest.raises(ConfigError, match=r"feed\.stpe"):
            streamer.ForecastEngine.from_settings({"feed.stpe": "1s"})

    def test_where_there_is_no_model_it_says_what_there_is(self, tmp_path: Path) -> None:
        engine = streamer.ForecastEngine.from_settings({"models.url": str(tmp_path)})
        with pytest.raises(UsageError, match=r"no promoted model of stream 'prices-0'.*its streams: none"):
            engine.load_model()
        with pytest.raises(ArtifactError):
            engine.load_folder(tmp_path)

    def test_without_a_history_there_is_nothing_to_train_on(self) -> None:
        with pytest.raises(UsageError, match="feed it a history first"):
            streamer.ForecastEngine.from_settings().train()

    @pytest.mark.slow
    def test_a_model_serves_once_trained_and_in_another_engine_once_loaded(self, tmp_path: Path) -> None:
        """Trained in a process of its own; loaded from a store, and from a folder as `streamer train` writes it."""
        frame = testing.sawtooth(440)
        engine = streamer.ForecastEngine.from_settings(SMALL)
        engine.feed(frame[:420])
        found = engine.train()
        assert found["promoted"], found["reason"]
        assert found["symbols"].keys() == {"a", "b"}
        served = engine.feed(frame[420:])
        assert set(served["model"]) == {found["model"]}

        artifact = engine.champion
        assert artifact is not None
        ModelStore(str(tmp_path / "store"), 5).save("eu", artifact)
        artifacts.write(artifact, tmp_path / "model")
        for way in ("newest", "by id", "folder"):
            other = streamer.ForecastEngine.from_settings(SMALL)
            other.feed(frame[:430])
            if way == "folder":
                swap = other.load_folder(tmp_path / "model")
            else:
                named = None if way == "newest" else found["model"]
                swap = other.load_model(named, url=str(tmp_path / "store"), stream="eu")
            assert (swap.model, swap.start, swap.ticks) == (found["model"], "trained", 10)
            pd.testing.assert_series_equal(other.feed(frame[430:])["yhat"], served["yhat"][20:])


@pytest.fixture(scope="module")
def result() -> Result:
    return Result(run(walk(60)))


class TestPlots:
    @pytest.mark.parametrize(
        ("plot", "figure"), [("plot", "prices"), ("plot_error", "error"), ("plot_coverage", "coverage")]
    )
    def test_they_are_those_of_the_report(self, plot: str, figure: str, result: Result) -> None:
        expected = getattr(figures, figure)(result, result.columns[1])
        assert getattr(result, plot)("B").to_json() == expected.to_json()
        assert getattr(result, plot)().to_json() != expected.to_json()

    def test_the_experts_are_pictured_too(self, result: Result) -> None:
        figure = result.plot_experts("A")
        assert figure is not None
        assert {trace.name for trace in figure.data} == {"network", "persistence"}

    def test_an_unknown_symbol_is_an_error_that_names_those_there_are(self, result: Result) -> None:
        with pytest.raises(UsageError, match=r"'C' was not forecast: name one of A, B"):
            result.plot("C")


class TestTesting:
    async def test_what_a_daemon_publishes_is_what_the_fakes_say(self, tmp_path: Path) -> None:
        """Blanks, a gap and a stream of its own included."""
        frame = testing.random_walk(40).drop(index=testing.random_walk(40).index[10:13])
        frame.iloc[20, 1] = np.nan
        with testing.broker() as address:
            settings = testing.daemon_settings(address, tmp_path)
            async with testing.run_daemon(settings):
                assert await testing.publish(settings, frame) == 37
                found = await testing.published(settings, 37)
        assert found == list(testing.forecasts(frame, settings))

    async def test_a_daemon_that_cannot_start_says_why(self, tmp_path: Path) -> None:
        with testing.broker("prices") as address:
            settings = testing.daemon_settings(address, tmp_path, {"input.codec": "avro"})
            with pytest.raises(StreamerError):
                async with testing.run_daemon(settings):
                    pass

    async def test_it_ends_with_its_block(self, tmp_path: Path) -> None:
        before = asyncio.all_tasks()
        with testing.broker() as address:
            async with testing.run_daemon(testing.daemon_settings(address, tmp_path)) as daemon:
                assert daemon.health.readiness().ok
        assert asyncio.all_tasks() == before

    def test_a_forecast_has_the_fields_of_a_real_one(self) -> None:
        made = testing.forecast({"A": 1.0, "B": 2.0}, {"A": 1.5, "B": 2.5}, half_width=0.5, step=1.0, model="m1")
        real = next(testing.forecasts(testing.random_walk(1)))
        assert made.keys() == real.keys()
        assert made["yhat_lower"] == {"A": 1.0, "B": 2.0}
        assert (made["as_of"], made["target"]) == ("2026-01-05T00:00:00Z", "2026-01-05T00:00:01Z")
