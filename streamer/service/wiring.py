"""Settings as the parts of the daemon take them."""

import hashlib
import json

from streamer import calendars, decoding
from streamer.core.levels import Change
from streamer.core.settings import EngineSettings
from streamer.model.artifact import environment
from streamer.model.spec import FitSpec, GateSpec, LayerSpec, NetworkSpec
from streamer.model.store import ModelStore
from streamer.service.learners import Sharing
from streamer.service.partition import PartitionSettings
from streamer.settings import Settings

_SERVING = frozenset({"machine", "processor", "python", "numpy", "ai-edge-litert", "streamer"})
_SHAPING = {"feed", "input", "output", "interval", "streams", "limits"}


def engine_settings(settings: Settings) -> EngineSettings:
    """What shapes an engine."""
    feed, retrain = settings.feed, settings.retrain
    return EngineSettings(
        step=feed.step_ms,
        symbols=feed.symbols,
        targets=feed.targets,
        inputs=feed.inputs,
        change=Change(feed.default_change),
        change_of={symbol: Change(change) for symbol, change in feed.change_of.items()},
        window=feed.window,
        max_gap=feed.max_gap,
        max_stale=feed.max_stale,
        late_reset=feed.late_reset,
        max_ahead=feed.max_ahead_ms,
        max_symbols=settings.limits.symbols,
        scoring_window=settings.scoring.window,
        coverage=settings.interval.coverage,
        first=retrain.first,
        every=retrain.every,
        history=retrain.history,
        drift=retrain.drift,
        cooldown=retrain.cooldown,
        sessions=calendars.sessions(feed.calendar),
        assemble=settings.input.assemble,
        close=settings.input.close,
        close_after=settings.input.close_after_ms,
    )


def partition_settings(settings: Settings) -> PartitionSettings:
    """What the streams of all partitions share. ConfigError where a codec is unknown, or refuses its options."""
    kafka, limits = settings.kafka, settings.limits
    return PartitionSettings(
        engine=engine_settings(settings),
        limits=limits.for_decoding(),
        streams=limits.streams,
        key_bytes=limits.key_bytes,
        snapshot_every=settings.state.every,
        forecasts=kafka.topics.forecasts,
        dead_letters=kafka.topics.dead_letters,
        state=kafka.topics.state,
        owner=f"{kafka.group_id}/{kafka.topics.prices}",
        expire=_expire(settings),
        decoder=decoding.decoder(settings),
        codec=decoding.encoder(settings),
        made_by={"environment": serving_environment(), "settings": digests(settings)},
    )


def serving_environment() -> dict[str, str]:
    """Processor and package versions, as far as a forecast may depend on them in its last bits."""
    return {name: value for name, value in environment().items() if name in _SERVING}


def digests(settings: Settings) -> dict[str, str]:
    """A short hash of each section that forecasts depend on: whether two were made under the same."""
    sections = settings.model_dump(mode="json", include=_SHAPING)
    texts = {name: json.dumps(section, sort_keys=True).encode() for name, section in sections.items()}
    return {name: hashlib.sha256(text).hexdigest()[:12] for name, text in texts.items()}


def _expire(settings: Settings) -> int:
    """Ms without a tick after which a stream is dropped: of daily prices, 30 days are a gap to be stepped over."""
    expire, feed = settings.streams.expire_ms, settings.feed
    return max(expire, (feed.max_gap + 1) * feed.step_ms) if expire else 0


def input_span(settings: Settings) -> int:
    """Ms of event time that a full history reaches back."""
    return settings.feed.step_ms * settings.retrain.history


def sharing(settings: Settings) -> Sharing:
    """Which streams have one model, and what its training sees."""
    retrain = settings.retrain
    return Sharing(settings.models.sharing == "global", retrain.pool, retrain.history)


def known_after(settings: Settings) -> float:
    """Seconds from a tick's time to when it is known: a bar that is stamped at its open is news when it closes."""
    return settings.feed.step if settings.input.time == "open" else 0.0


def model_store(settings: Settings, url: str | None = None) -> ModelStore:
    """The model store that the settings name, or the one at `url`, under the same key."""
    models = settings.models
    return ModelStore(models.url if url is None else url, models.keep, models.signing_key)


def network_spec(settings: Settings) -> NetworkSpec:
    """The network to train."""
    layers = tuple(LayerSpec(layer.units, layer.dropout) for layer in settings.network.layers)
    network = settings.network
    return NetworkSpec(network.mode, layers, network.features, network.embedding, network.skip, network.members)


def fit_spec(settings: Settings) -> FitSpec:
    """Budget and schedule of a fit."""
    fit = settings.fit
    return FitSpec(
        steps=fit.steps,
        sequence=fit.sequence,
        lanes=fit.lanes,
        learning_rate=fit.learning_rate,
        beta_2=fit.beta_2,
        patience=fit.patience,
        seed=fit.seed,
        epochs=fit.epochs,
        refit=fit.refit,
        combine=fit.combine,
    )


def gate_spec(settings: Settings) -> GateSpec:
    """What a challenger must achieve."""
    return GateSpec(settings.gate.tolerance, settings.gate.fraction, settings.gate.stop_fraction)
