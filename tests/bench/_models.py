"""Models of any size without a training: their time does not depend on their weights, which are those of birth."""

import multiprocessing
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from streamer.config import load
from streamer.core.catchup import RING
from streamer.core.features import Features
from streamer.core.levels import Change, Levels
from streamer.core.market_features import NAMES, PEERS, MarketFeatures
from streamer.core.outcome import Swap
from streamer.model.artifact import Artifact
from streamer.model.forecaster import EXPERTS_KEY, PEERS_KEY, LstmForecaster, expert_layout
from streamer.model.manifest import Manifest, TrainingSpan
from streamer.model.spec import FitSpec, LayerSpec, NetworkSpec, Shape
from streamer.model.store import ModelStore
from streamer.service import wiring
from tests.support import CHECKOUT

STEP = 60_000
_SPAN = TrainingSpan(0, 0, 1)
_EXPERTS = 4


@dataclass(frozen=True, slots=True)
class Profile:
    """Network and fit of a configuration."""

    name: str
    network: NetworkSpec
    fit: FitSpec

    @classmethod
    def of(cls, name: str) -> "Profile":
        """`default` or `article`: what the files in config/ say."""
        file = None if name == "default" else CHECKOUT / "config" / f"{name}.yaml"
        settings = load(file, {}, {"kafka.bootstrap_servers": "127.0.0.1:9092"})  # none is asked for anything
        return cls(name, wiring.network_spec(settings), wiring.fit_spec(settings))

    def sized(self, units: int) -> "Profile":
        """The same with a layer of so many units."""
        fields = {name: getattr(self.network, name) for name in ("mode", "features", "embedding", "skip", "members")}
        return Profile(self.name, NetworkSpec(layers=(LayerSpec(units),), **fields), self.fit)

    def shape(self, symbols: int) -> Shape:
        """Of a step of the network."""
        names = NAMES if self.network.features == "market" else Features.NAMES
        return self.network.shape(symbols, symbols, len(names))


def symbols(count: int) -> tuple[str, ...]:
    """Names."""
    return tuple(f"S{number}" for number in range(count))


def exported(works: Sequence[tuple[Profile, int]]) -> list[bytes]:
    """The networks of profiles for so many symbols, born and exported in a process that has TensorFlow."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.starmap(_export, works)


def _export(profile: Profile, count: int) -> bytes:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    from streamer.model import network
    from streamer.model.export import export

    # A pooled network takes any number of rows: it need not be checked with thousands.
    shape = profile.shape(count if profile.network.mode == "joint" else 2)
    return export(profile.network, shape, network.get_weights(network.window_model(profile.network, shape)))


def artifact(profile: Profile, count: int, model: bytes, seed: int = 0) -> Artifact:
    """A model of so many symbols around an exported network, as a store holds it. seed: of its experts."""
    names, change = symbols(count), (Change.LOG_RETURN,) * count
    market = profile.network.features == "market"
    features = NAMES if market else Features.NAMES
    manifest = Manifest(names, names, change, STEP, features, profile.network, profile.fit, _SPAN, {}, {})
    weights: dict[str, np.ndarray] = {}
    if market:
        weights[PEERS_KEY] = (np.arange(count)[:, None] + np.arange(1, 1 + PEERS)) % count
    if profile.fit.combine:
        kind = MarketFeatures(Levels.starting(change), weights[PEERS_KEY].astype(np.intp))
        width = expert_layout(manifest, kind).width
        weights[EXPERTS_KEY] = np.random.default_rng(seed).normal(scale=1e-3, size=(count, _EXPERTS, width))
    state = LstmForecaster.untrained(manifest, model, weights).initial_state()
    return Artifact.build(manifest, model, weights, state)


def forecaster(profile: Profile, count: int, model: bytes) -> LstmForecaster:
    """The same, loaded."""
    return LstmForecaster.from_artifact(artifact(profile, count, model))


def store(folder: Path, models: Mapping[str, Artifact], first: int, ticks: int) -> str:
    """Put each stream's model and its swap into a store, for `--schedule`; returns its address.

    first: time of the first tick, ms. ticks: a minute apart, after so many of them it begins to serve.
    """
    kept = ModelStore(str(folder), 5)
    for stream, model in models.items():
        kept.save(stream, model)
        kept.record_swap(stream, asdict(Swap(model.id, first + (ticks - 1) * STEP, 0, RING, ticks)))
    return str(folder)
