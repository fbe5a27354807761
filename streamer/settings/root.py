"""The sections of the settings, and `Settings`, which holds them all."""

from decimal import Decimal
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, PrivateAttr, model_validator

from streamer.codec import DecodeLimits
from streamer.settings import yaml_text
from streamer.settings.calendar import Calendar
from streamer.settings.input import Input, Output, Registry
from streamer.settings.kafka import Kafka
from streamer.settings.origins import Origins
from streamer.settings.types import (
    DAY,
    DEFAULT,
    DURATION,
    Bytes,
    Changes,
    File,
    Reload,
    Seconds,
    Section,
    SigningKey,
    Switch,
    Symbols,
    Text,
    Token,
    conflict,
    expected,
)

_MAX_LAYERS = 8


class Feed(Section):
    """The market feed: its grid of times, its symbols, and how unruly it may be."""

    step: Annotated[Seconds, Reload.ANEW] = Field(
        default=60.0, ge=0.001, le=DAY, description="Time from tick to tick; a whole number of milliseconds."
    )
    symbols: Annotated[Symbols, Reload.ANEW] = Field(
        default=(), description="Symbols to read; empty: taken from the first ticks."
    )
    targets: Annotated[Symbols, Reload.ANEW] = Field(default=(), description="Symbols to forecast; empty: all.")
    inputs: Annotated[Symbols, Reload.ANEW] = Field(
        default=(), description="Symbols to read and not to forecast: volumes, spreads, rates."
    )
    change: Annotated[Changes, Reload.ANEW] = Field(
        default="auto",
        description="What is forecast: log returns (of prices above zero), plain differences, or what fits the symbol;"
        " or a map of symbols to one of these, default: for all others.",
    )
    calendar: Calendar = Field(
        default_factory=Calendar,
        description="When the market is open: the name of a calendar, or weekly hours; without, it never closes.",
    )
    window: Annotated[int, Reload.ANEW] = Field(
        default=100, ge=2, le=10_000, description="Ticks in the ring, and before a model's first forecast."
    )
    max_gap: int = Field(
        default=60,
        ge=0,
        le=100_000,
        description="Missing steps that are stepped over; more are a session break.",
    )
    max_stale: int = Field(
        default=1500,
        ge=1,
        le=1_000_000,
        description="Steps without a price after which a symbol leaves the forecast.",
    )
    late_reset: int = Field(
        default=10,
        ge=2,
        le=10_000,
        description="Late ticks in a row, rising, after which time has restarted.",
    )
    max_ahead: Seconds = Field(
        default=3600.0,
        le=365 * DAY,
        description="How far a tick may lie ahead of its Kafka record's timestamp.",
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if Decimal(repr(self.step)) * 1000 % 1:
            conflict("step", DURATION.render(self.step), "a whole number of milliseconds")
        foreign = [target for target in self.targets if self.symbols and target not in self.symbols]
        if foreign:
            conflict("targets", repr(foreign[0]), "only symbols that feed.symbols lists")
        self._check_inputs()
        unread = [symbol for symbol in self.change_of if self.symbols and symbol not in self.symbols]
        if unread:
            conflict("change", repr(unread[0]), "only symbols that feed.symbols lists, and default")
        return self

    def _check_inputs(self) -> None:
        foreign = [symbol for symbol in self.inputs if self.symbols and symbol not in self.symbols]
        if foreign:
            conflict("inputs", repr(foreign[0]), "only symbols that feed.symbols lists")
        both = [symbol for symbol in self.inputs if symbol in self.targets]
        if both:
            conflict("inputs", repr(both[0]), "no symbol that feed.targets lists")
        if self.symbols and set(self.symbols) == set(self.inputs):
            conflict("inputs", "all of feed.symbols", "that one is left to forecast")

    @property
    def default_change(self) -> str:
        """`change` of the symbols that it does not name."""
        return self.change if isinstance(self.change, str) else self.change.get(DEFAULT, "auto")

    @property
    def change_of(self) -> dict[str, str]:
        """`change` of the symbols that it names."""
        named = {} if isinstance(self.change, str) else self.change
        return {symbol: change for symbol, change in named.items() if symbol != DEFAULT}

    @property
    def step_ms(self) -> int:
        """`step` in milliseconds."""
        return round(self.step * 1000)

    @property
    def max_ahead_ms(self) -> int:
        """`max_ahead` in milliseconds."""
        return round(self.max_ahead * 1000)


class Layer(Section):
    """One LSTM layer."""

    units: int = Field(default=32, ge=1, le=4096, description="LSTM units.")
    dropout: float = Field(default=0.0, ge=0, lt=1, description="Share of its outputs dropped in training.")


def _stack(layers: tuple[Layer, ...]) -> tuple[Layer, ...]:
    if not 1 <= len(layers) <= _MAX_LAYERS:
        raise expected(f"1 to {_MAX_LAYERS} layers")
    return layers


Layers = Annotated[tuple[Layer, ...], Field(strict=False), AfterValidator(_stack)]


class Network(Section):
    """The LSTM."""

    mode: Literal["pooled", "joint"] = Field(
        default="pooled",
        description="pooled: one network shared by all symbols; joint: the whole vector in and out.",
    )
    layers: Layers = Field(default=(Layer(),), description="LSTM layers, first to last; 1 to 8.")
    features: Literal["market", "changes"] = Field(
        default="market",
        description="What it sees of each symbol: the market around it too, or its last change alone.",
    )
    embedding: int = Field(default=32, ge=0, le=4096, description="Units of a tanh layer before the LSTM; 0: none.")
    skip: bool = Field(default=True, description="A linear way past the LSTM.")
    members: int = Field(default=2, ge=1, le=16, description="Networks that are averaged, from different seeds.")


class Fit(Section):
    """One training: truncated back-propagation through time over parallel lanes of history."""

    steps: int = Field(default=1200, ge=1, le=10_000_000, description="Gradient steps at most.")
    epochs: int = Field(default=60, ge=0, le=1_000_000, description="Passes over the history at most; 0: any number.")
    sequence: int = Field(default=48, ge=1, le=10_000, description="Ticks that the gradient goes back.")
    lanes: int = Field(default=16, ge=1, le=4096, description="Contiguous pieces of history trained side by side.")
    learning_rate: float = Field(default=2e-3, gt=0, le=1, description="Peak of the schedule.")
    beta_2: float = Field(
        default=0.999,
        ge=0,
        lt=1,
        description="Decay of Adam's mean of squared gradients; less where there is no noise.",
    )
    patience: int = Field(default=8, ge=1, le=10_000, description="Checks without gain before it ends.")
    seed: int = Field(default=0, ge=0, lt=2**32, description="Same seed, same data: same weights.")
    refit: bool = Field(default=True, description="Once judged, fit again on all rows.")
    combine: Switch = Field(
        default=True,
        strict=True,
        description="Serve a guarded mix of network, linear experts and last price; off: the bare network.",
    )


class Retrain(Section):
    """When a training is due, on how much, and within which limits."""

    first: int = Field(default=500, ge=1, description="Ticks before the first training.")
    every: int = Field(default=1440, ge=0, description="Ticks from training to training; 0: only on request.")
    drift: float = Field(
        default=50.0,
        ge=0,
        le=1000,
        description="Training out of turn once the loss has risen against persistence's by so much; 0: never.",
    )
    cooldown: int = Field(default=500, ge=0, description="Ticks after a training came due, or a swap, without that.")
    history: int = Field(default=20_000, ge=1, le=10_000_000, description="Ticks that a training sees at most.")
    time_limit: Annotated[Seconds, Reload.AT_ONCE] = Field(
        default=900.0, ge=1, le=7 * DAY, description="After this a training is ended."
    )
    memory_limit: Annotated[Bytes, Reload.AT_ONCE] = Field(
        default=4 * 1024**3, ge=256 * 1024**2, description="Data memory of the training process at most."
    )

    @model_validator(mode="after")
    def _history_holds_the_first(self) -> Self:
        if self.history < self.first:
            conflict("history", str(self.history), f"at least retrain.first ({self.first})")
        return self


class Gate(Section):
    """Whether a newly trained model replaces the one that serves."""

    tolerance: float = Field(
        default=0.002,
        ge=0,
        le=1,
        description="So much worse than the champion a new model may be; the first must beat persistence.",
    )
    fraction: float = Field(
        default=0.15, gt=0, lt=1, description="Newest share of history, on which the two are compared."
    )
    stop_fraction: float = Field(
        default=0.15, gt=0, lt=1, description="Share before that, which decides when the fit stops."
    )

    @model_validator(mode="after")
    def _leaves_history_to_fit(self) -> Self:
        if self.fraction + self.stop_fraction > 0.8:
            conflict("fraction", str(self.fraction), "at most 0.8 with gate.stop_fraction, to leave a fit")
        return self


class Models(Section):
    """The model store."""

    url: Text = Field(default="models", description="Folder or fsspec URL.")
    keep: Annotated[int, Reload.AT_ONCE] = Field(
        default=5,
        ge=1,
        le=10_000,
        description="Newest models kept per stream, besides that in service and that before.",
    )
    hmac_key: SigningKey | None = Field(
        default=None,
        description="Key that signs the models; with it, an unsigned one is refused unread. Never in the file.",
    )
    hmac_key_file: File | None = Field(default=None, strict=False, description="File that holds hmac_key.")

    @property
    def signing_key(self) -> bytes | None:
        """`hmac_key` as it goes into the HMAC; None where models are not signed."""
        return None if self.hmac_key is None else self.hmac_key.get_secret_value().encode()


class Scoring(Section):
    """The error that is shown."""

    window: int = Field(default=1440, ge=1, le=1_000_000, description="Scored forecasts in the rolling RMSE.")


class Interval(Section):
    """The forecast interval."""

    coverage: float = Field(default=0.9, ge=0.5, le=0.999, description="Share of prices that should fall inside.")


class State(Section):
    """Snapshots."""

    every: int = Field(default=500, ge=1, le=1_000_000, description="Ticks of a stream between its snapshots.")


class Streams(Section):
    """What is kept of streams that have ended."""

    expire: Seconds = Field(
        default=30 * DAY,
        le=3650 * DAY,
        description="Without a tick for so long, by the timestamps of its partition's records, and for longer than"
        " feed.max_gap, a stream is dropped; 0: never.",
    )

    @property
    def expire_ms(self) -> int:
        """`expire` in milliseconds."""
        return round(self.expire * 1000)


class Limits(Section):
    """Bounds on what a sender can make the daemon hold; what is beyond goes to the dead letters."""

    streams: int = Field(default=2000, ge=1, le=1_000_000, description="Streams of one partition of the input.")
    symbols: int = Field(default=2048, ge=1, le=100_000, description="Symbols of a message.")
    symbol_length: int = Field(default=64, ge=1, le=1000, description="Characters of a symbol.")
    key_bytes: Bytes = Field(default=256, ge=1, le=64 * 1024, description="Record key.")
    message_bytes: Bytes = Field(default=1024**2, ge=64, le=1024**3, description="Record value.")

    def for_decoding(self) -> DecodeLimits:
        """The part that `streamer.decoding.Decoder` checks."""
        return DecodeLimits(self.message_bytes, self.symbols, self.symbol_length)


class Http(Section):
    """Metrics, health and the live page, on one port."""

    host: Text = Field(default="127.0.0.1", description="Address to listen on; 0.0.0.0 for all.")
    port: int = Field(default=9108, ge=0, le=65535, description="Port; 0: any free one.")
    token: Annotated[Token | None, Reload.AT_ONCE] = Field(
        default=None,
        description="Bearer token of the POST requests, which are off without. Never in the file.",
    )
    token_file: Annotated[File | None, Reload.AT_ONCE] = Field(
        default=None,
        strict=False,
        description="File that holds the token; relative to the working directory.",
    )


class Log(Section):
    """The log, on standard error."""

    level: Literal["debug", "info", "warning", "error"] = Field(default="info", description="Least level shown.")
    format: Literal["text", "json"] = Field(default="text", description="text for people, json for machines.")


class Daemon(Section):
    """The process."""

    shutdown_timeout: Seconds = Field(default=20.0, le=3600, description="A stop takes this long at most.")


class Settings(Section):
    """All settings. Only `kafka.bootstrap_servers` has no default."""

    kafka: Annotated[Kafka, Reload.RESTART] = Field(description="Kafka.")
    input: Annotated[Input, Reload.STREAMS] = Field(
        default_factory=Input, description="The messages of the feed, and how they become ticks."
    )
    output: Annotated[Output, Reload.STREAMS] = Field(default_factory=Output, description="The forecasts.")
    registry: Annotated[Registry, Reload.STREAMS] = Field(default_factory=Registry, description="The schema registry.")
    feed: Annotated[Feed, Reload.STREAMS] = Field(default_factory=Feed, description="The market feed.")
    network: Annotated[Network, Reload.AT_ONCE] = Field(default_factory=Network, description="The LSTM.")
    fit: Annotated[Fit, Reload.AT_ONCE] = Field(default_factory=Fit, description="One training.")
    retrain: Annotated[Retrain, Reload.STREAMS] = Field(default_factory=Retrain, description="When to train.")
    gate: Annotated[Gate, Reload.AT_ONCE] = Field(default_factory=Gate, description="Whether a new model serves.")
    models: Annotated[Models, Reload.RESTART] = Field(default_factory=Models, description="The model store.")
    scoring: Annotated[Scoring, Reload.ANEW] = Field(default_factory=Scoring, description="The error that is shown.")
    interval: Annotated[Interval, Reload.ANEW] = Field(default_factory=Interval, description="The forecast interval.")
    state: Annotated[State, Reload.STREAMS] = Field(default_factory=State, description="Snapshots.")
    streams: Annotated[Streams, Reload.STREAMS] = Field(default_factory=Streams, description="Streams that have ended.")
    limits: Annotated[Limits, Reload.STREAMS] = Field(default_factory=Limits, description="Bounds on the input.")
    http: Annotated[Http, Reload.RESTART] = Field(default_factory=Http, description="Metrics, health, live page.")
    log: Annotated[Log, Reload.AT_ONCE] = Field(default_factory=Log, description="The log.")
    daemon: Annotated[Daemon, Reload.AT_ONCE] = Field(default_factory=Daemon, description="The process.")

    _origins: Origins = PrivateAttr(default_factory=Origins)

    @model_validator(mode="before")
    @classmethod
    def _kafka_present(cls, data: Any) -> Any:
        """So that what is missing is named `kafka.bootstrap_servers`, the key to set."""
        return {"kafka": None} | data if isinstance(data, dict) else data

    @model_validator(mode="after")
    def _first_training_fills_windows(self) -> Self:
        least = 3 * self.feed.window  # fit, stop and gate slice each need rows enough to warm a state up
        if self.retrain.first < least:
            conflict("retrain.first", str(self.retrain.first), f"at least {least} (3 x feed.window)")
        return self

    @model_validator(mode="after")
    def _symbols_within_limits(self) -> Self:
        symbols, limits = self.feed.symbols, self.limits
        if len(symbols) > limits.symbols:
            conflict("feed.symbols", f"{len(symbols)} symbols", f"at most {limits.symbols} (limits.symbols)")
        longest = max((len(symbol) for symbol in symbols), default=0)
        if longest > limits.symbol_length:
            most = f"at most {limits.symbol_length} (limits.symbol_length)"
            conflict("feed.symbols", f"a symbol of {longest} characters", most)
        return self

    @model_validator(mode="after")
    def _complete_of_what(self) -> Self:
        if self.input.close == "complete" and not self.feed.symbols:
            conflict("input.close", "complete", "feed.symbols beside it: without, no step can be known to be complete")
        return self

    def remember(self, origins: Origins) -> None:
        """Keep what gave each key."""
        self._origins = origins

    @property
    def origins(self) -> Origins:
        """What gave each key, as far as it is known."""
        return self._origins

    def effective(self) -> str:
        """All values as YAML, secrets masked; it loads again to the same settings but for the secrets."""
        return yaml_text.write(self.model_dump())
