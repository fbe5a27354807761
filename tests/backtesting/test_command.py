"""`streamer backtest` and `streamer.backtest`, with real trainings where they matter."""

import argparse
import contextlib
import io
import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from aiokafka import ConsumerRecord

import streamer
from streamer import backtesting, cli
from streamer.backtesting.run import Learning
from streamer.commands import backtest as command
from streamer.config import load
from streamer.core.outcome import Swap
from streamer.errors import TrainingError, UsageError
from streamer.feeding import encode_tick
from streamer.model.forecaster import LstmForecaster
from streamer.model.store import ModelStore
from streamer.service import fitting, wiring
from streamer.service.partition import Batch, Partition
from streamer.settings import Settings
from tests.backtesting.helpers import Learner, checked, settings, walk
from tests.model import helpers
from tests.support import CHECKOUT

ROWS = 900
OPTIONS = ("--train-fraction", "0.6", "--retrain-every", "120")
CONFIG = """
kafka: {bootstrap_servers: "127.0.0.1:9092"}
network: {layers: [{units: 4}]}
fit: {steps: 30, sequence: 24, lanes: 4}
gate: {tolerance: 1.0}
"""


def reverting(rows: int) -> pd.DataFrame:
    """Prices that bounce, so that a short training finds something."""
    rng = np.random.default_rng(0)
    level = 100.0 + np.cumsum(rng.normal(scale=0.02, size=(rows, 3)), axis=0)
    index = pd.date_range("2026-01-05", periods=rows, freq="1min", tz="UTC", name="timestamp")
    return pd.DataFrame(np.round(level + rng.normal(scale=0.1, size=level.shape), 4), index, ["A", "B", "C"])


def called(*arguments: str) -> tuple[int, str, str]:
    """Exit code, standard output and standard error."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = cli.main(["backtest", *arguments])
    return code, out.getvalue(), err.getvalue()


@dataclass(frozen=True)
class Done:
    folder: Path
    data: Path
    config: Path
    summary: dict[str, Any]
    said: str

    @property
    def settings(self) -> Settings:
        return load(self.config, {})

    def predicted(self, name: str = "out") -> pd.DataFrame:
        return pd.read_csv(self.folder / name / "predicted.csv", index_col="timestamp")


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Done:
    """A backtest with three real trainings."""
    folder = tmp_path_factory.mktemp("backtest")
    data, config = folder / "prices.csv", folder / "streamer.yaml"
    reverting(ROWS).to_csv(data)
    config.write_text(CONFIG)
    code, out, err = called(str(data), "-o", str(folder / "out"), "-c", str(config), *OPTIONS, "--json")
    assert code == 0, err
    return Done(folder, data, config, json.loads(out), err)


@pytest.mark.slow
@pytest.mark.timeout(300)  # trainings, on a machine that may be busy
class TestWithTrainings:
    def test_it_leaves_its_files_and_says_the_figures(self, done: Done) -> None:
        out = done.folder / "out"
        assert {path.name for path in out.iterdir()} == {
            "predicted.csv",
            "test_data.csv",
            "report.html",
            "summary.json",
            "models",
        }
        assert json.loads((out / "summary.json").read_text()) == done.summary
        assert done.summary["forecast_rows"] == ROWS - 540
        assert done.summary["history_rows"] == 540
        assert (done.summary["first"], done.summary["step_seconds"]) == ("2026-01-05T09:00:00Z", 60.0)
        assert done.summary["symbols"]["A"]["n"] == ROWS - 540
        assert done.summary["skill"] > 0.02, "the bounce can be learned"
        assert sum(done.summary["trainings"].values()) == 3
        assert "training 1 on 538 ticks" in done.said

    def test_the_figures_are_those_of_the_files(self, done: Done) -> None:
        predicted, actual = done.predicted(), reverting(ROWS)
        for symbol, figures in done.summary["symbols"].items():
            last = actual[symbol].shift(1).to_numpy()[540:]
            truth = actual[symbol].to_numpy()[540:]
            assert figures["rmse"] == pytest.approx(np.sqrt(np.mean((predicted[symbol].to_numpy() - truth) ** 2)))
            assert figures["persistence_rmse"] == pytest.approx(np.sqrt(np.mean((last - truth) ** 2)))

    def test_a_schedule_repeats_it_bit_for_bit_without_training(self, done: Done) -> None:
        models = done.folder / "out" / "models"
        again = done.folder / "again"
        code, out, err = called(
            str(done.data), "-o", str(again), "-c", str(done.config), *OPTIONS, "--schedule", str(models), "--json"
        )
        assert code == 0, err
        assert "training" not in err
        assert (again / "predicted.csv").read_bytes() == (done.folder / "out" / "predicted.csv").read_bytes()
        assert not (again / "models").exists()
        summary = json.loads(out)
        assert summary["swaps"] == done.summary["swaps"]
        assert summary["symbols"] == done.summary["symbols"]

    def test_a_schedule_of_another_stream_names_those_that_are_recorded(
        self, done: Done, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("STREAMER_KAFKA__TOPICS__PRICES", "others")
        models = done.folder / "out" / "models"
        code, _, err = called(
            str(done.data), "-o", str(done.folder / "no"), "-c", str(done.config), *OPTIONS, "--schedule", str(models)
        )
        assert code == 2
        assert err.splitlines()[-1] == (
            f"streamer: no swap of stream 'others-0' is recorded in {models}: name another ('prices-0') with --stream"
        )

    def test_a_schedule_of_unsigned_models_is_refused_where_there_is_a_key(
        self, done: Done, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("STREAMER_MODELS__HMAC_KEY", "k" * 32)
        models = done.folder / "out" / "models"
        code, out, err = called(
            str(done.data), "-o", str(done.folder / "no"), "-c", str(done.config), *OPTIONS, "--schedule", str(models)
        )
        assert (code, out) == (1, "")
        assert "manifest.sig is missing, and models.hmac_key is set" in err.splitlines()[-1]

    def test_the_daemon_publishes_the_same_on_that_schedule_bit_for_bit(self, done: Done) -> None:
        store = ModelStore(str(done.folder / "out" / "models"), 5)
        schedule = [Swap(**swap) for swap in store.swaps("prices-0")]
        partition = Partition(
            "prices",
            0,
            wiring.partition_settings(done.settings),
            lambda stream, model: LstmForecaster.from_artifact(store.load(stream, model)),
            {"prices-0": schedule},
        )
        batch = Batch(0)
        for offset, tick in enumerate(checked(reverting(ROWS)).ticks()):
            value = encode_tick(tick)
            partition.process(
                ConsumerRecord("prices", 0, offset, tick.time, 0, None, value, None, 0, len(value), ()), batch
            )
        published = [json.loads(record.value or b"") for record in batch.records if record.topic == "forecasts"]
        yhat = {forecast["target"]: forecast["yhat"] for forecast in published}
        predicted = done.predicted()
        assert [yhat[str(time)] for time in predicted.index] == predicted.to_dict(orient="records")

    def test_what_comes_later_changes_no_forecast_nor_training_before(self, done: Done) -> None:
        """The same from Python. The second training ends before the future differs, the third after."""
        table = reverting(ROWS)
        differs = 540 + 130
        table.iloc[differs:] = table.iloc[differs:].to_numpy() * 3.0 + 5.0
        table.iloc[differs + 3] = np.nan
        result = streamer.backtest(table, done.settings, train_fraction=0.6, retrain_every=120)
        before = differs - 540 + 1  # the forecast of the first row that differs is made before it
        assert result.predicted.to_numpy()[:before].tobytes() == done.predicted().to_numpy()[:before].tobytes()
        assert not np.array_equal(result.predicted.to_numpy()[before:], done.predicted().to_numpy()[before:])
        models = [each["model"] for each in done.summary["models"]]
        assert result.trainings["model"].tolist()[:2] == models[:2]
        assert result.trainings["model"].tolist()[2] != models[2]


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A folder with prices, and a learner without TensorFlow in place of trainings."""
    learner = Learner()
    monkeypatch.setattr(backtesting, "_learning", lambda settings: Learning(learner.train, learner.load))
    walk(1200).rename_axis("timestamp").to_csv(tmp_path / "prices.csv")
    for name in os.environ:
        if name.startswith("STREAMER_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


class Interrupts:
    """A reporter that sends a signal to this process once so many rows are done."""

    def __init__(self, number: signal.Signals, rows: int) -> None:
        self._number = number
        self._rows = rows

    def stage(self, text: str) -> None:
        pass

    def note(self, text: str) -> None:
        pass

    def rows(self, done: int, total: int, seconds_left: float | None) -> None:
        if done >= self._rows:
            os.kill(os.getpid(), self._number)


def interrupt(monkeypatch: pytest.MonkeyPatch, number: signal.Signals, rows: int) -> None:
    monkeypatch.setattr(command, "_reporter", lambda: contextlib.nullcontext(Interrupts(number, rows)))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_writes_what_is_done(quick: Path, number: signal.Signals, monkeypatch: pytest.MonkeyPatch) -> None:
    before = signal.getsignal(signal.SIGTERM)
    assert called("prices.csv", "-o", "whole", "--train-fraction", "0.5")[0] == 0
    interrupt(monkeypatch, number, 900)
    code, out, err = called("prices.csv", "-o", "part", "--train-fraction", "0.5", "--json")
    assert code == 0
    assert "streamer: interrupted: writing what is done" in err
    assert json.loads(out)["interrupted"] is True
    part = (quick / "part" / "predicted.csv").read_text()
    assert len(part.splitlines()) == 1 + 1001 - 600
    assert (quick / "whole" / "predicted.csv").read_text().startswith(part)
    assert "Interrupted: the rows after that are missing" in (quick / "part" / "report.html").read_text()
    assert signal.getsignal(signal.SIGTERM) is before


def test_an_interrupt_before_the_first_forecast_leaves_nothing_to_write(
    quick: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupt(monkeypatch, signal.SIGINT, 100)
    assert called("prices.csv", "-o", "out")[0] == 130
    assert not (quick / "out" / "predicted.csv").exists()


def test_it_shows_a_table_and_where_the_report_is(quick: Path) -> None:
    code, out, err = called("prices.csv", "-o", "out", "--targets", "B")
    assert code == 0
    assert "report: out/report.html" in out
    assert "1 promoted" in out
    assert list(pd.read_csv(quick / "out" / "predicted.csv").columns) == ["timestamp", "B"]
    assert "streamer: history: 1080 rows" in err


def test_the_seed_and_targets_reach_the_training(quick: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Settings] = []
    learner = Learner()

    def learning(given: Settings) -> Learning:
        seen.append(given)
        return learner.learning

    monkeypatch.setattr(backtesting, "_learning", learning)
    assert called("prices.csv", "--seed", "7", "--targets", "B,A")[0] == 0
    assert seen[0].fit.seed == 7
    assert seen[0].feed.targets == ("B", "A")
    assert learner.histories[0].targets == ("A", "B")
    assert (quick / "backtest" / "predicted.csv").exists(), "the default folder"


def test_what_an_earlier_backtest_recorded_is_not_mixed_in(quick: Path) -> None:
    called("prices.csv", "-o", "out", "--train-fraction", "0.5", "--retrain-every", "100")
    called("prices.csv", "-o", "out")
    store = ModelStore(str(quick / "out" / "models"), 5)
    assert len(store.swaps("prices-0")) == len(store.list("prices-0")) == 1


def test_models_of_others_are_left_alone(quick: Path) -> None:
    (quick / "models" / "prices-0").mkdir(parents=True)
    code, _, err = called("prices.csv", "-o", ".")
    assert code == 2
    assert err.splitlines()[-1] == "streamer: models is there already and is no backtest's: choose another FOLDER"
    assert (quick / "models" / "prices-0").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("none.csv",), "streamer: none.csv cannot be read: "),
        (("prices.csv", "--targets", "A,X"), "streamer: prices.csv has no column 'X', which is to be forecast"),
        (("prices.csv", "--train-fraction", "0.1"), "streamer: prices.csv: too few rows: 120 of 1200 "),
        (("prices.csv", "--schedule", "none"), "streamer: no swap is recorded in none: a schedule is "),
    ],
)
def test_what_cannot_be_done_is_one_line_and_wrong_usage(quick: Path, arguments: tuple[str, ...], said: str) -> None:
    code, out, err = called(*arguments)
    assert (code, out) == (2, "")
    assert len(err.splitlines()) == 1
    assert err.startswith(said)
    assert not (quick / "backtest").exists(), "nothing is left of what was refused"


@pytest.mark.parametrize("fraction", ["0", "1", "2", "x"])
def test_a_fraction_out_of_range_is_wrong_usage(fraction: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as raised:
        cli.main(["backtest", "prices.csv", "--train-fraction", fraction])
    assert raised.value.code == 2
    assert "expected a number between 0 and 1" in capsys.readouterr().err


def test_on_a_terminal_the_time_left_counts_down(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("streamer.commands.backtest.time.monotonic", lambda: now[0])
    countdown = command._Countdown(75.0)
    assert str(countdown) == "1:15 left"
    now[0] += 70.0
    assert str(countdown) == "0:05 left"
    now[0] += 70.0
    assert str(countdown) == "0:00 left"
    assert str(command._Countdown(None)) == "time left not known yet"


class TestFromPython:
    def test_importing_streamer_loads_nothing_heavy(self) -> None:
        program = "import sys\nimport streamer\nprint(*sys.modules)\nassert callable(streamer.backtest)"
        done = subprocess.run([sys.executable, "-c", program], cwd=CHECKOUT, capture_output=True, text=True, check=True)
        assert {"numpy", "pandas", "plotly", "pydantic", "aiokafka"} & set(done.stdout.split()) == set()

    def test_what_streamer_does_not_have_is_an_attribute_error(self) -> None:
        with pytest.raises(AttributeError, match="has no attribute 'backtes'"):
            _ = streamer.backtes

    def test_it_takes_values_by_dotted_key(self, quick: Path) -> None:
        result = streamer.backtest(walk(400), {"feed.targets": ["B"], "interval.coverage": 0.8})
        assert result.coverage == 0.8
        assert list(result.predicted.columns) == ["B"]
        assert list(result.scores.index) == ["B"]
        for frame in (result.predicted, result.actual, result.lower, result.upper):
            assert frame.index.equals(result.times)
        assert len(result.swaps) == 1

    def test_a_column_of_times_does_as_well_as_an_index(self, quick: Path) -> None:
        table = walk(400)
        indexed = streamer.backtest(table)
        column = streamer.backtest(table.rename_axis("when").reset_index())
        pd.testing.assert_frame_equal(indexed.predicted, column.predicted)
        assert list(table.columns) == ["A", "B"], "the frame is left alone"

    def test_models_are_recorded_where_it_is_told(self, quick: Path) -> None:
        streamer.backtest(walk(400), models="store", stream="mine")
        assert len(ModelStore("store", 5).swaps("mine")) == 1

    def test_a_frame_that_cannot_be_used_is_an_error_that_says_so(self) -> None:
        with pytest.raises(UsageError, match=r"^the frame: no column of prices"):
            streamer.backtest(walk(400).astype(str))


class TestTheTrainingProcess:
    def test_one_that_takes_too_long_is_ended(self) -> None:
        with (
            Path(os.devnull).open("wb") as null,
            pytest.raises(TrainingError, match=r"longer than retrain\.time_limit, 0\.2 s$"),
        ):
            fitting._wait([sys.executable, "-c", "import time; time.sleep(600)"], null.fileno(), null.fileno(), 0.2)

    def test_one_that_fails_says_why(self) -> None:
        with pytest.raises(TrainingError, match="too few, at least 100 are needed"):
            fitting.train(fitting.configuration(settings()), 60.0, helpers.training_set(helpers.walk(50)), None)


def test_a_folder_of_models_without_content_is_used(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    arguments = argparse.Namespace(output=tmp_path, stream=None)
    assert command._record(arguments, settings()).stream == "prices-0"
