"""Models of several streams on one network: each has its own span and state, all else they have in common."""

from collections.abc import Hashable
from dataclasses import replace
from weakref import WeakValueDictionary

from streamer.model.artifact import MODEL, WEIGHTS, Artifact
from streamer.model.dataset import TrainingSet
from streamer.model.forecaster import LstmForecaster
from streamer.model.manifest import Manifest, TrainingSpan

_PRIMED = 1_000  # rows: as many as a trained model's state is computed from
_COMMON = ("symbols", "targets", "change", "step", "features", "network", "fit")


class Loader:
    """Makes forecasters of artifacts; those of one network run on one copy of it, as long as any of them is held."""

    def __init__(self) -> None:
        self._held: WeakValueDictionary[Hashable, LstmForecaster] = WeakValueDictionary()

    def __call__(self, artifact: Artifact) -> LstmForecaster:
        """As `LstmForecaster.from_artifact`."""
        key = _common(artifact.manifest)
        made = self._held[key] = LstmForecaster.from_artifact(artifact, self._held.get(key))
        return made


def adopted(artifact: Artifact, history: TrainingSet, donor: str) -> Artifact:
    """The model of the stream `donor` for another one, whose ticks these are: it is to replay the last of them.

    `_PRIMED` rows prime its features, state and mix from zero.
    """
    begin = int(history.times[max(0, len(history) - 1 - _PRIMED)])
    manifest = replace(
        artifact.manifest,
        span=TrainingSpan(begin, begin, 1),
        adjusted=history.adjusted,
        gate={"promoted": True, "reason": f"taken over from stream {donor!r}", "symbols": {}},
    )
    fresh = LstmForecaster.untrained(manifest, artifact.model, artifact.weights)
    return Artifact.build(manifest, artifact.model, artifact.weights, fresh.initial_state())


def _common(manifest: Manifest) -> Hashable:
    """What models have in common that differ in their span and state alone."""
    parts = [manifest.files[name].sha256 for name in (MODEL, WEIGHTS)]
    return (*parts, *(getattr(manifest, name) for name in _COMMON))
