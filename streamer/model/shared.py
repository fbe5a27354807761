"""Models of several streams on one network: each has its own span and state, all else they have in common."""

import threading
from collections.abc import Hashable
from dataclasses import replace
from weakref import WeakSet

from streamer.core.forecaster import Forecaster
from streamer.model.artifact import MODEL, WEIGHTS, Artifact
from streamer.model.dataset import TrainingSet
from streamer.model.forecaster import LstmForecaster
from streamer.model.manifest import Manifest, TrainingSpan

_COMMON = ("symbols", "targets", "change", "step", "features", "network", "fit")


class Loader:
    """Makes forecasters of artifacts; those of one network run on one copy of it, as long as any of them is held."""

    def __init__(self) -> None:
        self._held: dict[Hashable, WeakSet[LstmForecaster]] = {}
        self._turn = threading.Lock()

    def __call__(self, artifact: Artifact) -> LstmForecaster:
        """As `LstmForecaster.from_artifact`; threads take turns, or each would make a copy."""
        key = _common(artifact.manifest)
        with self._turn:
            held = self._held.get(key, WeakSet())
            made = LstmForecaster.from_artifact(artifact, next(iter(held), None))
            held.add(made)
            self._held = {other: models for other, models in self._held.items() if models} | {key: held}
        return made


PRIMED = 1_000
"""Rows that prime an adopted model: as many as a trained model's state is computed from."""


def adopted(artifact: Artifact, served: Forecaster, history: TrainingSet, donor: str) -> Artifact:
    """The model of the stream `donor` for another one, whose ticks these are: it is to replay the last of them.

    served: the model as it serves the donor, in names that symbols may have got since it was trained. PRIMED rows prime
    its features, state and mix from zero.
    """
    begin = int(history.times[max(0, len(history) - 1 - PRIMED)])
    manifest = replace(
        artifact.manifest,
        symbols=served.symbols,
        targets=served.targets,
        span=TrainingSpan(begin, begin, 1),
        learned=artifact.manifest.trained,
        adjusted=history.adjusted,
        gate={"promoted": True, "reason": f"taken over from stream {donor!r}", "symbols": {}},
    )
    fresh = LstmForecaster.untrained(manifest, artifact.model, artifact.weights)
    return Artifact.build(manifest, artifact.model, artifact.weights, fresh.initial_state())


def _common(manifest: Manifest) -> Hashable:
    """What models have in common that differ in their span and state alone."""
    parts = [manifest.files[name].sha256 for name in (MODEL, WEIGHTS)]
    return (*parts, *(getattr(manifest, name) for name in _COMMON))
