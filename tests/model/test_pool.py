"""Several streams that learn together: one network and one set of experts, one verdict, each stream's own state."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from streamer.core.adjustment import Adjustment, adjusted
from streamer.core.engine import ForecastEngine
from streamer.core.settings import EngineSettings
from streamer.core.tick import Tick
from streamer.errors import TrainingError
from streamer.model import artifact as artifacts
from streamer.model.artifact import Artifact
from streamer.model.dataset import TrainingSet
from streamer.model.fit import PoolResult, fit, fit_pool
from streamer.model.forecaster import EXPERTS_KEY, LstmForecaster
from streamer.model.pool import Pool, rows_each
from streamer.model.shared import Loader, adopted
from streamer.model.spec import FitSpec, GateSpec, LayerSpec, NetworkSpec
from streamer.model.training import Slices
from tests.model.helpers import STEP, bits, training_set, walk

NETWORK = NetworkSpec(layers=(LayerSpec(4),), features="market", embedding=3, skip=True, members=2)
FIT = FitSpec(steps=12, sequence=12, lanes=4, combine=True)
ROWS = {"a": 400, "b": 300, "c": 400}
GATE = {"a": 345, "b": 245, "c": 345}
"""Where the gate slice of each begins: at one time in all, though `b` is younger than the others."""


def bouncing(seed: int, rows: int) -> TrainingSet:
    """Walks under ten times as much noise: most of each move is taken back, which is soon learned."""
    noise = np.random.default_rng(seed).normal(size=(rows, 2))
    made = training_set(walk(rows, seed=seed) + noise)
    return replace(made, times=made.times + STEP * (max(ROWS.values()) - rows))


SETS = {name: bouncing(seed, rows) for seed, (name, rows) in enumerate(ROWS.items())}


@dataclass(frozen=True)
class Learned:
    pool: Pool
    result: PoolResult

    def weights(self) -> dict[str, bytes]:
        return bits(next(iter(self.result.artifacts.values())).weights)


def learn(
    spec: FitSpec = FIT, incumbents: dict[str, Artifact] | None = None, changed: dict[str, TrainingSet] | None = None
) -> Learned:
    pool = Pool.of(SETS | (changed or {}))
    return Learned(pool, fit_pool(pool, NETWORK, spec, GateSpec(), incumbents or {}))


@pytest.fixture(scope="module")
def judged() -> Learned:
    return learn()


@pytest.fixture(scope="module")
def refitted() -> Learned:
    return learn(replace(FIT, refit=True))


def perturbed(name: str, rows: slice) -> TrainingSet:
    prices = SETS[name].prices.copy()
    prices[rows] *= 1.0 + 0.01 * np.cos(np.arange(len(prices[rows])))[:, None]
    return replace(SETS[name], prices=prices)


def test_a_pool_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    pool = Pool({"": SETS["a"], "ä/..": replace(SETS["b"], adjustments=(Adjustment(7, "A", 0.5, "X"),))})
    pool.save(tmp_path / "history.npz")

    back = Pool.load(tmp_path / "history.npz")

    assert list(back.sets) == list(pool.sets)
    for found, given in zip(back.sets.values(), pool.sets.values(), strict=True):
        assert found.pack() == given.pack()


def test_a_single_history_is_a_pool_of_one(tmp_path: Path) -> None:
    SETS["a"].save(tmp_path / "history.npz")
    ((name, found),) = Pool.load(tmp_path / "history.npz").sets.items()
    assert (name, found.pack()) == ("", SETS["a"].pack())


@pytest.mark.parametrize("data", [b"", b"no archive", Pool(SETS).pack()[:-200]])
def test_what_is_no_pool_is_named(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "broken.npz").write_bytes(data)
    with pytest.raises(TrainingError, match=r"broken\.npz"):
        Pool.load(tmp_path / "broken.npz")


def test_streams_of_other_symbols_changes_or_steps_learn_by_themselves() -> None:
    a = SETS["a"]
    others = {
        "symbols": replace(a, symbols=("A", "Z"), targets=("A", "Z")),
        "targets": replace(a, targets=("A",)),
        "changes": training_set(a.prices - 500.0),
        "step": replace(a, step=2 * STEP),
        "short": training_set(walk(99)),
        "blank": training_set(np.full((200, 2), np.nan)),
    }
    assert list(Pool.of({"a": a, **others, "b": SETS["b"]}).sets) == ["a", "b"]


def test_symbols_stand_in_one_order_whatever_that_of_each_stream() -> None:
    turned = replace(training_set(SETS["b"].prices[:, ::-1], symbols=("B", "A")), times=SETS["b"].times)
    pool = Pool.of({"a": SETS["a"], "b": turned})
    assert [each.symbols for each in pool.sets.values()] == [("A", "B")] * 2
    assert pool.sets["b"].pack() == SETS["b"].pack()


def test_the_first_stream_has_to_be_usable() -> None:
    with pytest.raises(TrainingError, match="99 rows of history are too few"):
        Pool.of({"short": training_set(walk(99)), "a": SETS["a"]})


@pytest.mark.parametrize(("streams", "rows"), [(1, 20_000), (10, 20_000), (20, 10_000), (1_000, 200), (5_000, 100)])
def test_streams_share_the_rows_that_a_training_may_see(streams: int, rows: int) -> None:
    assert rows_each(streams, 200_000, 20_000) == rows


def test_a_pool_of_one_learns_what_the_stream_learns_by_itself(tmp_path: Path) -> None:
    fit(SETS["a"], NETWORK, FIT, GateSpec(), None, tmp_path / "model")
    alone = artifacts.read(tmp_path / "model")
    together = fit_pool(Pool.of({"a": SETS["a"]}), NETWORK, FIT, GateSpec(), {}).artifacts["a"]
    assert together.id == alone.id
    assert together.manifest.to_bytes() == alone.manifest.to_bytes()


def test_all_streams_have_one_network_and_one_set_of_experts(refitted: Learned) -> None:
    models = refitted.result.artifacts
    assert {each.model for each in models.values()} == {models["a"].model}
    assert all(bits(each.weights) == refitted.weights() for each in models.values())
    assert EXPERTS_KEY in models["a"].weights
    assert {each.manifest.pool for each in models.values()} == {3}
    assert len({each.id for each in models.values()}) == 3


def test_each_stream_has_the_span_and_the_state_of_its_own_history(judged: Learned) -> None:
    """The state is that of serving the last thousand rows, which are all there are."""
    for name, built in judged.result.artifacts.items():
        history = judged.pool.sets[name]
        assert (built.manifest.span.rows, built.manifest.as_of) == (ROWS[name], int(history.times[-1]))
        forecaster = LstmForecaster.from_artifact(built)
        state = forecaster.initial_state()
        for row in history.rows():
            state, _ = forecaster.step(state, row)
        stepped = {array: value for array, value in state.items() if not array.startswith("mix.")}
        assert bits(stepped) == bits({array: built.state[array] for array in stepped})


def test_one_verdict_stands_for_all_streams(judged: Learned) -> None:
    report, models = judged.result.report, judged.result.artifacts
    assert len(report.symbols) == 2 * len(SETS)
    assert report.promoted
    assert report.reason.endswith("over 3 streams")
    ratios = [each.manifest.gate["ratio"] for each in models.values()]
    assert report.ratio == pytest.approx(np.exp(np.mean(np.log(ratios))))
    assert {each.manifest.gate["reason"] for each in models.values()} == {report.reason}
    assert all(set(each.manifest.gate["symbols"]) == {"A", "B"} for each in models.values())


def test_each_stream_judges_against_its_own_champion(judged: Learned, refitted: Learned) -> None:
    """A stream without one has persistence for its rival."""
    champions = {name: judged.result.artifacts[name] for name in ("a", "b")}
    found = learn(incumbents=champions).result
    rivals = {name: each.manifest.gate["symbols"]["A"]["incumbent_rmse"] for name, each in found.artifacts.items()}
    assert rivals["c"] is None
    for name in champions:
        assert rivals[name] == champions[name].manifest.gate["symbols"]["A"]["rmse"]


@pytest.mark.parametrize("name", ["a", "b"])
def test_every_stream_teaches_and_the_gate_slice_of_none_does(judged: Learned, name: str) -> None:
    assert learn(changed={name: perturbed(name, slice(GATE[name], None))}).weights() == judged.weights()
    assert learn(changed={name: perturbed(name, slice(50, 60))}).weights() != judged.weights()


def test_what_a_stream_is_priced_at_does_not_matter(judged: Learned) -> None:
    """Each stream's changes are in units of its own scale."""
    dear = learn(changed={"b": replace(SETS["b"], prices=1024.0 * SETS["b"].prices)}).result.artifacts["a"].weights
    for name, weights in judged.result.artifacts["a"].weights.items():
        np.testing.assert_allclose(dear[name], weights, rtol=2e-3, atol=2e-5)


def test_models_of_one_network_run_on_one_copy_of_it(judged: Learned) -> None:
    models, load = judged.result.artifacts, Loader()
    first, second = load(models["a"]), load(models["b"])
    assert first.runtime is second.runtime
    assert first.experts is second.experts
    assert second.as_of == models["b"].manifest.as_of
    assert bits(second.trained_state()) == bits(models["b"].state)
    other = load(replace_seed(models["a"]))
    assert other.runtime is not first.runtime
    del second
    assert load(models["c"]).runtime is first.runtime
    del first
    assert load(models["c"]).runtime is not other.runtime


def replace_seed(model: Artifact) -> Artifact:
    """The same model, of another fit."""
    return Artifact.build(replace(model.manifest, fit=replace(FIT, seed=1)), model.model, model.weights, model.state)


def test_a_stream_that_takes_a_model_over_serves_as_one_that_replayed_its_rows(judged: Learned) -> None:
    donor = judged.result.artifacts["a"]
    engine = ForecastEngine(EngineSettings(step=STEP, history=2_000))
    prices = bouncing(9, 1_300).prices
    for index, row in enumerate(prices):
        engine.process(Tick(STEP * (index + 1), dict(zip("AB", row.tolist(), strict=True))))

    model = LstmForecaster.from_artifact(
        adopted(donor, LstmForecaster.from_artifact(donor), TrainingSet.of(engine), "a")
    )
    ready = engine.catch_up(model)
    assert ready.advance(2_000)

    assert ready.ticks == 1_000
    assert model.manifest.gate["reason"] == "taken over from stream 'a'"
    assert (model.as_of, model.trained_to) == (STEP * 300, donor.manifest.as_of)
    assert model.manifest.trained == donor.manifest.span
    state = model.initial_state()
    for row in list(TrainingSet.of(engine).rows())[-1_000:]:
        state, _ = model.step(state, row)
    assert bits(ready.serving.state) == bits(state)


def test_a_model_is_taken_over_with_the_names_that_symbols_have_by_now(judged: Learned) -> None:
    """The donor's A is X since it was trained; who joined later has never heard of A."""
    donor = judged.result.artifacts["a"]
    served = adjusted(LstmForecaster.from_artifact(donor), (Adjustment(7, "A", renamed="X"),))
    joined = training_set(bouncing(9, 200).prices, symbols=("X", "B"))

    own = adopted(donor, served, joined, "a")

    assert (own.manifest.symbols, own.manifest.targets) == (("X", "B"), ("X", "B"))
    assert LstmForecaster.from_artifact(own).targets == ("X", "B")


def test_slices_end_at_one_time_in_all_streams() -> None:
    """One that ended before has no rows to be judged by, one that began after has none to teach."""
    times = STEP * np.arange(1, 1_001)
    whole = Slices.of(1_000, GateSpec())
    assert whole.at_times(times, times) == whole
    assert whole.at_times(times, times[600:]) == Slices(100, 250)
    assert whole.at_times(times, times[:500]) == Slices(500, 500)
    assert whole.at_times(times, times[:800]) == Slices(700, 800)
    assert whole.at_times(times, times[900:]) == Slices(0, 0)
    again = np.concatenate([times[650:750], times[:400]])
    assert whole.at_times(times, again) == Slices(50, 500), "time restarted: nothing after the bound teaches"


def test_a_stream_without_rows_on_one_side_of_the_fit_is_served_too() -> None:
    """It starts with a mix that has seen nothing, or with one that has learned from all its rows."""
    before = replace(SETS["c"], times=SETS["c"].times - 500 * STEP)
    after = replace(bouncing(7, 100), times=SETS["a"].times[-100:] + 100 * STEP)
    found = learn(changed={"c": before, "d": after}).result
    gates = {name: built.manifest.gate for name, built in found.artifacts.items()}
    assert gates["c"]["ratio"] is None
    assert gates["d"]["ratio"] is not None
    assert gates["d"]["symbols"]["A"]["n"] == 99
    fresh = LstmForecaster.from_artifact(found.artifacts["c"]).initial_state()
    mixed = {name for name in fresh if name.startswith("mix.")}
    assert bits({name: found.artifacts["c"].state[name] for name in mixed}) == bits({n: fresh[n] for n in mixed})
    assert bits({name: found.artifacts["d"].state[name] for name in mixed}) != bits({n: fresh[n] for n in mixed})
