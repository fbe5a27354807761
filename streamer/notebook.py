"""The engine for notebooks: settings by name and frames in, forecasts as a frame out, models trained or fetched."""

import warnings
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import pandas as pd

from streamer.config import load
from streamer.core import engine as core
from streamer.core.outcome import Dropped, Forecast, Rejected, Swap
from streamer.errors import UsageError
from streamer.frames import price_table, ticks
from streamer.model import artifact as artifacts
from streamer.model.artifact import Artifact
from streamer.model.dataset import TrainingSet
from streamer.model.forecaster import LstmForecaster
from streamer.service import fitting, wiring
from streamer.settings import Settings

NO_BROKER = {"kafka.bootstrap_servers": "127.0.0.1:9092"}
"""An override for where no broker is used: it has no default."""

_COLUMNS = ["target", "symbol", "as_of", "last", "yhat", "lower", "upper", "model"]


class ForecastEngine(core.ForecastEngine):
    """The daemon's engine of one stream, with ways in and out for notebooks. It reaches no broker.

    known: all its settings. counts: what became of the rows that `feed` was given: "forecast", "late", "no_price", ...
    champion: the model in service as data, which `model.store.ModelStore.save` takes; None before the first.
    """

    def __init__(self, settings: Settings) -> None:
        """Begin a stream; see `from_settings`."""
        super().__init__(wiring.engine_settings(settings))
        self.counts: Counter[str] = Counter()
        self.known = settings
        self.champion: Artifact | None = None

    @classmethod
    def from_settings(cls, settings: Settings | Mapping[str, Any] | None = None) -> Self:
        """A new stream. settings: as of `streamer run`, or by dotted key, `{"feed.step": "1d"}`. ConfigError."""
        known = settings if isinstance(settings, Settings) else load(None, {}, {**NO_BROKER, **(settings or {})})
        return cls(known)

    def feed(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Take the rows in, one tick each, and return the forecast that was made after each.

        frame: indexed by time (UTC without a zone), or with the time in its first column; a column of prices per
        symbol, NaN where blank. A row per forecast and symbol, indexed by `target` time and `symbol`, with as_of, last,
        yhat, lower, upper (prices) and model; `["yhat"].unstack()` has a column per symbol. A row that is no tick to a
        stream (late, twice, without a price) has none: see `counts`. UsageError for a frame that cannot be used.
        """
        prices = price_table(frame, self.settings.symbols, "the frame")
        found = []
        for tick in ticks(prices):
            step = self.process(tick)
            outcome = step.outcome
            self.counts[outcome.reason if isinstance(outcome, Dropped | Rejected) else "forecast"] += 1
            if step.spacing is not None:
                warnings.warn(_spacing(step.spacing, self.settings.step), stacklevel=2)
            if isinstance(outcome, Forecast):
                found += _rows(outcome)
        table = pd.DataFrame(found, columns=_COLUMNS)
        times = {name: pd.to_datetime(table[name], unit="ms", utc=True) for name in ("target", "as_of")}
        return table.assign(**times).set_index(["target", "symbol"])

    def train(self) -> dict[str, Any]:
        """Train on what was fed, as the daemon would, in a process of its own; a promoted model serves from now on.

        Returns what the gate found: `promoted`, `reason`, and the errors by symbol. Raises TrainingError, with too few
        rows among others, and ArtifactError.
        """
        if self.position.last is None:
            raise UsageError("nothing to train on: feed it a history first")
        config, limit = fitting.configuration(self.known), self.known.retrain.time_limit
        found, artifact = fitting.train(config, limit, TrainingSet.of(self), self.champion)
        if found["promoted"]:
            self._serve(artifact)
        return found

    def load_model(self, model_id: str | None = None, *, url: str | None = None, stream: str | None = None) -> Swap:
        """Let a model of a store serve from now on, once it has caught up with what was fed. Returns the swap.

        model_id: None for the newest that was promoted. url: of the store, None for `models.url`. stream: whose model;
        None for the daemon's first partition. UsageError where there is none, or nothing was fed; ArtifactError.
        """
        store = wiring.model_store(self.known, url)
        name = stream or f"{self.known.kafka.topics.prices}-0"
        promoted = [each.id for each in store.list(name) if each.gate.get("promoted")]
        if model_id is None and not promoted:
            streams = ", ".join(store.streams()) or "none"
            raise UsageError(f"no promoted model of stream {name!r} in {store.url}; its streams: {streams}")
        return self._serve(store.load(name, model_id or promoted[0]))

    def load_folder(self, folder: Path | str) -> Swap:
        """Let the model in `folder`, as `streamer train -o` writes it, serve from now on. UsageError, ArtifactError."""
        return self._serve(artifacts.read(Path(folder), self.known.models.signing_key))

    def _serve(self, artifact: Artifact) -> Swap:
        if self.position.last is None:
            raise UsageError("a model has to catch up with a history: feed it one first")
        ready = self.catch_up(LstmForecaster.from_artifact(artifact))
        ready.advance(len(self.history))
        self.champion = artifact
        return self.swap(ready)


def _rows(forecast: Forecast) -> list[tuple[Any, ...]]:
    columns = (forecast.last, forecast.yhat, forecast.lower, forecast.upper)
    values = zip(forecast.symbols, *(column.tolist() for column in columns), strict=True)
    return [(forecast.target, symbol, forecast.as_of, *prices, forecast.model) for symbol, *prices in values]


def _spacing(found: int, step: int) -> str:
    seconds = f"{found / 1000:g}s"
    return f'the rows keep a step of {seconds}, feed.step is {step / 1000:g}s: set {{"feed.step": "{seconds}"}}'
