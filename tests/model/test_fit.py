"""The whole job, on prices that can be learned and on some that cannot."""

from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from streamer.errors import TrainingError
from streamer.model import artifact
from streamer.model.artifact import Artifact
from streamer.model.dataset import TrainingSet
from streamer.model.fit import FitResult, fit
from streamer.model.forecaster import LstmForecaster
from streamer.model.gate import replay
from streamer.model.spec import FitSpec, GateSpec, LayerSpec, NetworkSpec
from tests.model.helpers import bits, sawtooth, training_set, walk

NETWORK = NetworkSpec(layers=(LayerSpec(32),))
DEFAULT = FitSpec()
SMALL = NetworkSpec("joint", (LayerSpec(4),))
BRIEF = FitSpec(steps=4, sequence=12)


@dataclass(frozen=True)
class Fitted:
    history: TrainingSet
    result: FitResult
    model: Artifact


def run(
    history: TrainingSet, out: Path, *, network: NetworkSpec, spec: FitSpec, incumbent: Artifact | None = None
) -> Fitted:
    result = fit(history, network, spec, GateSpec(), incumbent, out)
    return Fitted(history, result, artifact.read(out))


@pytest.fixture(scope="module")
def learned(tmp_path_factory: pytest.TempPathFactory) -> Fitted:
    """Five hundred rows of the article's columns."""
    out = tmp_path_factory.mktemp("learned") / "model"
    return run(training_set(sawtooth(500)), out, network=NETWORK, spec=DEFAULT)


@pytest.fixture(scope="module")
def joint(tmp_path_factory: pytest.TempPathFactory) -> Fitted:
    """Three symbols of which one never had a price, two targets, hardly trained."""
    prices = walk(120, symbols=3)
    prices[:, 1] = np.nan
    out = tmp_path_factory.mktemp("joint") / "model"
    return run(training_set(prices, targets=("C", "B")), out, network=SMALL, spec=BRIEF)


def test_the_sawtooth_is_learned_and_promoted(learned: Fitted) -> None:
    assert learned.result.promoted
    assert learned.result.report.ratio < 0.1


def test_the_rows_that_follow_the_history_are_forecast_as_well(learned: Fitted) -> None:
    """From the trained state on, as serving goes on."""
    model = LstmForecaster.from_artifact(learned.model)
    prices = sawtooth(800)
    state, errors, moves = model.trained_state(), [], []
    later = list(training_set(prices).rows())[500:]
    for row, after in pairwise(later):
        state, changes = model.step(state, row)
        errors.append(row.prices * np.exp(changes[0]) - after.prices)
        moves.append(row.prices - after.prices)
    assert np.square(errors).mean() < 0.1**2 * np.square(moves).mean()


def test_the_manifest_tells_what_was_done(learned: Fitted) -> None:
    told = learned.model.manifest
    assert learned.result.model_id == told.id
    assert (told.symbols, told.targets) == (("A", "B"), ("A", "B"))
    assert (told.network, told.fit) == (NETWORK, DEFAULT)
    assert (told.span.first, told.span.last, told.span.rows) == (60_000, 500 * 60_000, 500)
    assert told.gate["promoted"] is True
    assert told.gate["symbols"]["A"]["rmse"] == learned.result.report.symbols["A"].challenger


def test_the_stored_state_is_that_of_serving_the_whole_history(learned: Fitted) -> None:
    model = LstmForecaster.from_artifact(learned.model)
    state = model.initial_state()
    for row in learned.history.rows():
        state, _ = model.step(state, row)
    assert bits(state) == bits(model.trained_state())


def test_the_same_data_and_seed_give_the_same_model(joint: Fitted, tmp_path: Path) -> None:
    again = run(joint.history, tmp_path / "again", network=SMALL, spec=BRIEF)
    assert again.model.id == joint.model.id
    assert bits(again.model.weights) == bits(joint.model.weights)
    other = run(joint.history, tmp_path / "other", network=SMALL, spec=replace(BRIEF, seed=1))
    assert other.model.id != joint.model.id


def test_a_symbol_without_a_price_is_left_out_of_the_model(joint: Fitted) -> None:
    told = joint.model.manifest
    assert (told.symbols, told.targets) == (("A", "C"), ("C",))
    assert replay(LstmForecaster.from_artifact(joint.model), joint.history, ("C",))[0].shape == (120, 1)


def test_a_forecast_before_the_future_changes_is_the_same_after(learned: Fitted) -> None:
    """No look-ahead in what is judged: later prices change no earlier forecast."""
    prices = learned.history.prices.copy()
    prices[450:] *= 2.0
    model = LstmForecaster.from_artifact(learned.model)
    before, after = (
        replay(model, given, ("A", "B"))[0] for given in (learned.history, replace(learned.history, prices=prices))
    )
    assert before[:450].tobytes() == after[:450].tobytes()
    assert before[450:].tobytes() != after[450:].tobytes()


def test_a_warm_start_goes_on_from_the_champion(learned: Fitted, tmp_path: Path) -> None:
    spec = replace(DEFAULT, steps=2, learning_rate=1e-5)
    cold = run(learned.history, tmp_path / "cold", network=NETWORK, spec=spec)
    assert not cold.result.promoted or cold.result.report.ratio > 0.9
    warm = run(learned.history, tmp_path / "warm", network=NETWORK, spec=spec, incumbent=learned.model)
    assert warm.result.report.ratio == pytest.approx(1.0, abs=0.05)


def test_a_champion_of_another_network_or_of_other_symbols_is_no_start(
    learned: Fitted, joint: Fitted, tmp_path: Path
) -> None:
    """It is judged against all the same."""
    prices = walk(120, symbols=3)[:, ::2]
    history = training_set(prices, symbols=("C", "A"))
    alone = run(history, tmp_path / "alone", network=SMALL, spec=BRIEF)
    for incumbent in (learned.model, joint.model):
        beside = run(history, tmp_path / incumbent.id, network=SMALL, spec=BRIEF, incumbent=incumbent)
        assert bits(beside.model.weights) == bits(alone.model.weights)
        assert beside.result.report.symbols["C"].incumbent is not None


def test_prices_that_are_not_positive_are_learned_as_differences(learned: Fitted, tmp_path: Path) -> None:
    """And the champion of log returns, to which they are blank, is judged by those that it can read."""
    history = training_set(sawtooth(500) - [0.0, 4.0])
    shifted = run(history, tmp_path / "shifted", network=NETWORK, spec=DEFAULT, incumbent=learned.model)

    assert learned.model.manifest.change == ("log_return", "log_return")
    assert shifted.model.manifest.change == ("log_return", "difference")
    assert shifted.result.promoted
    score = shifted.result.report.symbols["B"]
    assert score.challenger < 0.1 * score.persistence
    assert score.incumbent is not None
    assert score.challenger < 0.2 * score.incumbent


def test_a_rejected_challenger_is_written_with_its_figures(learned: Fitted, tmp_path: Path) -> None:
    """Whoever asked decides what to store."""
    worse = run(
        learned.history,
        tmp_path / "model",
        network=NetworkSpec(layers=(LayerSpec(2),)),
        spec=BRIEF,
        incumbent=learned.model,
    )
    assert not worse.result.promoted
    assert worse.model.manifest.gate["promoted"] is False
    assert "of the incumbent's" in worse.model.manifest.gate["reason"]


def test_too_short_a_history_gives_no_model(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="99 rows"):
        run(training_set(walk(99)), tmp_path / "model", network=SMALL, spec=BRIEF)
    assert not (tmp_path / "model").exists()
