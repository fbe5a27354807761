from dataclasses import replace

import numpy as np
import pytest

from streamer.core import experts
from streamer.core.experts import Layout
from streamer.core.features import Features
from streamer.core.grid import Row
from streamer.core.levels import Change, Levels
from streamer.core.market_features import NAMES, REGRESSORS
from streamer.errors import ArtifactError
from streamer.model.artifact import Artifact
from streamer.model.export import export
from streamer.model.forecaster import EXPERTS_KEY, PEERS_KEY, LstmForecaster
from streamer.model.runtime import StepRuntime
from streamer.model.spec import FitSpec, LayerSpec, Mode, NetworkSpec
from tests.core.conformance import check_forecaster
from tests.model.helpers import bits, manifest, random_weights, rows, walk

SYMBOLS = ("A", "B", "C")
TARGETS = ("C", "A")
NAN = float("nan")


def built(mode: Mode, targets: tuple[str, ...] = TARGETS) -> Artifact:
    """A model with random weights, and its state after thirty rows."""
    spec = NetworkSpec(mode, (LayerSpec(5), LayerSpec(3)))
    named = manifest(SYMBOLS, targets, spec)
    shape = spec.shape(len(SYMBOLS), len(targets), len(Features.NAMES))
    weights = random_weights(spec, shape)
    model = export(spec, shape, weights)
    forecaster = LstmForecaster.untrained(named, model, {})
    state = forecaster.initial_state()
    for row in rows(walk(30, symbols=3)):
        state, _ = forecaster.step(state, row)
    return Artifact.build(named, model, weights, state)


@pytest.fixture(scope="module")
def pooled() -> Artifact:
    return built("pooled")


@pytest.fixture(scope="module")
def joint() -> Artifact:
    return built("joint")


@pytest.fixture(params=["pooled", "joint"])
def model(request: pytest.FixtureRequest) -> LstmForecaster:
    return LstmForecaster.from_artifact(request.getfixturevalue(request.param))


def test_it_conforms(model: LstmForecaster) -> None:
    check_forecaster(model)


@pytest.mark.parametrize("mode", ["pooled", "joint"])
@pytest.mark.parametrize("symbols", [("A",), SYMBOLS])
def test_with_members_market_features_experts_and_mix_it_conforms(mode: Mode, symbols: tuple[str, ...]) -> None:
    """Random ones, of one symbol without a peer too; a joint network's hidden layer is every target's."""
    n, targets, random = len(symbols), tuple(reversed(symbols)), np.random.default_rng(0)
    spec = NetworkSpec(mode, (LayerSpec(5), LayerSpec(3)), "market", embedding=4, skip=True, members=2)
    shape = spec.shape(n, n, len(NAMES))
    network = random_weights(spec, shape)
    named = replace(manifest(symbols, targets, spec), features=NAMES, fit=FitSpec(combine=True))
    width = Layout.of(REGRESSORS, hidden=6, n_symbols=n).width
    weights = {
        **network,
        PEERS_KEY: np.tile(np.arange(n)[:, None], (1, 3)) if n == 1 else np.array([[1, 2, 0], [0, 2, 1], [1, 0, 2]]),
        EXPERTS_KEY: 0.1 * random.normal(size=(n, len(experts.NAMES), width)),
    }
    model = export(spec, shape, network)
    untrained = LstmForecaster.untrained(named, model, weights)
    state, served = untrained.initial_state(), []
    for row in rows(walk(60, symbols=n)):
        state, changes = untrained.step(state, row)
        served.append(changes)
    found = LstmForecaster.from_artifact(Artifact.build(named, model, weights, state))
    check_forecaster(found)
    assert np.array(served)[5:, 1:].all(), "network and linear expert say something of each target"
    assert (np.array(served)[:, 0] != np.array(served)[:, 1]).any(), "and it is not the bare network that is served"


def test_it_says_what_the_manifest_says(model: LstmForecaster) -> None:
    assert (model.id, model.symbols, model.targets) == (model.manifest.id, SYMBOLS, TARGETS)
    assert model.as_of == model.manifest.span.last


def test_it_goes_on_from_the_trained_state_as_if_it_had_never_stopped(model: LstmForecaster) -> None:
    history = rows(walk(40, symbols=3))
    carried, resumed = model.initial_state(), model.trained_state()
    for row in history[:30]:
        carried, _ = model.step(carried, row)
    for row in history[30:]:
        carried, one = model.step(carried, row)
        resumed, other = model.step(resumed, row)
        assert one.tobytes() == other.tobytes()
    assert bits(carried) == bits(resumed)


def test_as_served_is_the_bare_network(model: LstmForecaster) -> None:
    _, changes = model.step(model.trained_state(), rows(walk(2, symbols=3))[1])
    np.testing.assert_array_equal(changes[0], changes[1])
    assert changes.any()
    assert not changes[2].any(), "without experts the linear one is persistence"


def test_changes_are_outputs_times_the_scale_of_their_target(joint: Artifact) -> None:
    model = LstmForecaster.from_artifact(joint)
    row = rows(walk(2, symbols=3))[1]
    state = model.trained_state()
    features = Features(Levels.starting([Change.LOG_RETURN] * 3))
    seen, x = features.step(state, row)
    y, _ = StepRuntime(joint.model, rows=1).step(x.reshape(1, -1).astype(np.float32), state)
    _, changes = model.step(state, row)
    np.testing.assert_array_equal(changes[0], y[0].astype(np.float64) * features.scale(seen)[[2, 0]])


def test_a_pooled_forecast_depends_on_its_own_symbol_alone(pooled: Artifact) -> None:
    model = LstmForecaster.from_artifact(pooled)
    prices = walk(1, symbols=3)[0]
    other = prices * np.array([1.1, 1.2, 1.0])
    _, changes = model.step(model.trained_state(), Row(0, prices))
    _, changed = model.step(model.trained_state(), Row(0, other))
    assert changes[0, 0] == changed[0, 0], "C"
    assert changes[0, 1] != changed[0, 1], "A"


def test_an_output_that_is_no_number_is_persistence(pooled: Artifact) -> None:
    """A network that went wrong must not silence the stream."""
    model = LstmForecaster.from_artifact(pooled)
    state = dict(model.trained_state())
    state["h1"] = np.array([[np.nan] * 3, [0.1] * 3], np.float32)
    _, changes = model.step(state, rows(walk(2, symbols=3))[1])
    assert not changes[:, 0].any()
    assert changes[:2, 1].all()


def test_other_features_are_refused(pooled: Artifact) -> None:
    foreign = replace(pooled.manifest, features=("change", "moon"))
    with pytest.raises(ArtifactError, match="names the features change, moon"):
        LstmForecaster.untrained(foreign, pooled.model, pooled.weights)


def test_a_network_that_does_not_fit_the_manifest_is_refused(joint: Artifact) -> None:
    foreign = replace(joint.manifest, symbols=("A", "C"))
    with pytest.raises(ArtifactError, match="does not fit its manifest"):
        LstmForecaster.untrained(foreign, joint.model, joint.weights)


def test_targets_that_are_no_symbols_are_refused(pooled: Artifact) -> None:
    with pytest.raises(ArtifactError, match="targets that are no symbols"):
        LstmForecaster.untrained(replace(pooled.manifest, targets=("A", "Z")), pooled.model, pooled.weights)


@pytest.mark.parametrize("wrong", [{"h0": np.zeros((2, 4), np.float32)}, {"h0": np.zeros((2, 5))}, {}])
def test_a_state_that_does_not_fit_the_network_is_refused(pooled: Artifact, wrong: dict[str, np.ndarray]) -> None:
    state = {name: array for name, array in pooled.state.items() if name != "h0"} | wrong
    with pytest.raises(ArtifactError, match=r"state\.npz .* does not fit its network"):
        LstmForecaster.from_artifact(replace(pooled, state=state))
