"""Symbols that come, go, are split or renamed, under a whole model with market features, members, experts and mix."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from streamer.core.adjustment import Adjustment
from streamer.core.forecaster import Forecaster
from streamer.core.grid import Floats
from streamer.core.levels import Change
from streamer.core.outcome import Forecast
from streamer.core.settings import EngineSettings
from streamer.core.tick import Tick
from streamer.model import artifact
from streamer.model.artifact import Artifact
from streamer.model.dataset import TrainingSet
from streamer.model.fit import FitResult, fit
from streamer.model.forecaster import LstmForecaster
from streamer.model.spec import FitSpec, GateSpec, LayerSpec, NetworkSpec
from tests.model.helpers import STEP
from tests.model.live import Live

NETWORK = NetworkSpec(layers=(LayerSpec(8),), features="market", embedding=4, skip=True, members=2)
FIT = FitSpec(steps=200, combine=True)
WITHIN = 100  # ticks, after which the error has to be what it was
TRAINED, CHANGED, ROWS = 800, 1_400, 2_800


def moving(seed: int = 1) -> Floats:
    """Prices of A to D, `(ROWS, 4)`, that move together, under noise of which most is soon taken back."""
    rng = np.random.default_rng(seed)
    common, own = rng.normal(scale=5e-4, size=(ROWS, 1)), rng.normal(scale=3e-4, size=(ROWS, 4))
    noise = rng.normal(scale=5e-4, size=(ROWS, 4))
    prices: Floats = np.array([100.0, 50.0, 200.0, 80.0]) * np.exp(np.cumsum(common + own, axis=0) + noise)
    return prices


PRICES = moving()


def ticks(prices: Floats, first: int = 0, names: str = "ABCD") -> list[Tick]:
    """One tick per row, `first` being the place of the first; what is NaN is not in it."""
    return [
        Tick(STEP * (first + n), {s: price for s, price in zip(names, row, strict=True) if np.isfinite(price)})
        for n, row in enumerate(prices.tolist())
    ]


@dataclass(frozen=True)
class Undisturbed:
    """A stream on which nothing happens, and the model that serves it from `TRAINED` on."""

    settings: EngineSettings
    live: Live
    model: Forecaster
    stored: Artifact

    def disturbed(self, prices: Floats, names: str = "ABCD") -> Live:
        """Another one on other prices, under the same model."""
        other = Live(self.settings).feed(ticks(prices[:TRAINED], names=names)).serve(self.model)
        return other.feed(ticks(prices[TRAINED:], TRAINED, names))


def train(live: Live, folder: Path, incumbent: Artifact | None = None) -> FitResult:
    return fit(TrainingSet.of(live.engine), NETWORK, FIT, GateSpec(), incumbent, folder)


@pytest.fixture(scope="module", params=[Change.AUTO, Change.DIFFERENCE])
def undisturbed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    settings = EngineSettings(every=0, change=request.param)
    live, folder = Live(settings).feed(ticks(PRICES[:TRAINED])), tmp_path_factory.mktemp("models") / "model"
    train(live, folder)
    stored = artifact.read(folder)
    model = LstmForecaster.from_artifact(stored)
    live.serve(model).feed(ticks(PRICES[TRAINED:], TRAINED))
    assert (ratio(live, TRAINED + WITHIN, ROWS) < 0.97).all(), "or it would be persistence that is shown"
    return Undisturbed(settings, live, model, stored)


def ratio(live: Live, first: int, last: int) -> Floats:
    """RMSE over persistence's per symbol, for targets from the row `first` to before `last`."""
    return live.ratio(first * STEP, last * STEP)


def forecasts(live: Live, first: int) -> Floats:
    """What was published from the row `first` on."""
    return np.array([step.outcome.yhat for step in live.steps[first:] if isinstance(step.outcome, Forecast)])


def test_a_split_that_is_announced_is_not_felt(undisturbed: Undisturbed) -> None:
    """Three for one, and another name besides."""
    split = PRICES[CHANGED:] * [1 / 3, 1, 1, 1]
    told = Live(undisturbed.settings).feed(ticks(PRICES[:TRAINED])).serve(undisturbed.model)
    told.feed(ticks(PRICES[TRAINED:CHANGED], TRAINED))
    told.engine.adjust(Adjustment(1, "A", 1 / 3, "E"))
    told.oracle.known[0] = "E"
    told.oracle.age["E"] = told.oracle.age.pop("A")
    for kept in (told.oracle.last, told.oracle.promised):
        kept["E"] = kept.pop("A")
    told.feed(ticks(split, CHANGED, "EBCD"))
    np.testing.assert_allclose(forecasts(told, CHANGED) * [3, 1, 1, 1], forecasts(undisturbed.live, CHANGED), rtol=1e-9)


def test_a_split_that_is_not_announced_shakes_one_symbol_for_a_while(undisturbed: Undisturbed) -> None:
    split = PRICES.copy()
    split[CHANGED:, 0] /= 4
    hit, clean = undisturbed.disturbed(split), undisturbed.live
    others = slice(1, None)
    np.testing.assert_allclose(
        ratio(hit, CHANGED, CHANGED + WITHIN)[others], ratio(clean, CHANGED, CHANGED + WITHIN)[others], rtol=0.03
    )
    # A quarter of the price moves by a quarter of the differences, which the scale has to learn: it knows 200 prints.
    near = 0.05 if undisturbed.settings.change is Change.DIFFERENCE else 0.02
    np.testing.assert_allclose(ratio(hit, CHANGED + WITHIN, ROWS), ratio(clean, CHANGED + WITHIN, ROWS), rtol=near)
    sizes = np.array([1 / 4, 1, 1, 1])
    last = widths(hit, ROWS - 1) / sizes
    np.testing.assert_allclose(last, widths(clean, ROWS - 1), rtol=0.1)


def test_a_symbol_that_is_gone_for_a_day_is_soon_as_good_as_before(undisturbed: Undisturbed) -> None:
    gone, back = PRICES.copy(), CHANGED + 900
    gone[back - 1_440 : back, 1] = np.nan
    hit, clean, others = undisturbed.disturbed(gone), undisturbed.live, [0, 2, 3]
    first = back - 1_440 + WITHIN
    np.testing.assert_allclose(_ratio_of(hit, first, back, others), _ratio_of(clean, first, back, others), rtol=0.02)
    np.testing.assert_allclose(ratio(hit, back + WITHIN, ROWS), ratio(clean, back + WITHIN, ROWS), rtol=0.02)


def _ratio_of(live: Live, first: int, last: int, columns: list[int]) -> Floats:
    """As `ratio` has it, of those symbols alone: of the others there may be none."""
    scored = [errors[:, columns] for target, errors in live.errors.items() if first * STEP <= target < last * STEP]
    served, persistence = np.sqrt(np.mean(np.array(scored), axis=0))
    found: Floats = served / persistence
    return found


def test_a_symbol_that_joins_is_forecast_at_once_and_the_others_as_before(undisturbed: Undisturbed) -> None:
    """The model does not know it: until the next one it is as its last price."""
    more = np.column_stack([PRICES, np.full(ROWS, np.nan)])
    more[CHANGED:, 4] = moving(seed=7)[CHANGED:, 0]
    joined = undisturbed.disturbed(more, "ABCDE")
    found, before = forecasts(joined, CHANGED), forecasts(undisturbed.live, CHANGED)
    assert found[:, :4].tolist() == before.tolist()
    assert found[:, 4].tolist() == more[CHANGED:, 4].tolist()


def test_the_gate_judges_a_champion_of_before_a_split_as_if_there_had_been_none(
    undisturbed: Undisturbed, tmp_path: Path
) -> None:
    settings = replace(undisturbed.settings, history=1_200)
    scores = []
    for ratio_of_a, name in ((1.0, "A"), (1 / 3, "E")):
        live = Live(settings).feed(ticks(PRICES[:1_600]))
        if name != "A":
            live.engine.adjust(Adjustment(5, "A", ratio_of_a, name))
        result = train(live, tmp_path / name, undisturbed.stored)
        scores.append(result.report.symbols)
        trained = LstmForecaster.from_artifact(artifact.read(tmp_path / name))
        assert (trained.adjusted, trained.symbols[0]) == (-1 if name == "A" else 5, name)
        assert live.serve(trained).engine.model_id == trained.id
    same, split = scores
    assert same["A"].incumbent is not None
    assert split["E"].incumbent is not None
    np.testing.assert_allclose(split["E"].incumbent * 3, same["A"].incumbent, rtol=1e-6)
    for symbol in "BCD":
        assert split[symbol].incumbent == pytest.approx(same[symbol].incumbent, rel=1e-6)


def widths(live: Live, index: int) -> Floats:
    """Of the intervals published with the tick at `index`, in prices."""
    outcome = live.steps[index].outcome
    assert isinstance(outcome, Forecast)
    return outcome.upper - outcome.lower
