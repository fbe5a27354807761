"""The sections of the settings, and `Settings`, which holds them all."""

from decimal import Decimal
from typing import Annotated, Any, Literal, Self

from pydantic import Field, PrivateAttr, model_validator

from streamer.codec import DecodeLimits
from streamer.settings import yaml_text
from streamer.settings.calendar import Calendar
from streamer.settings.input import Input, Output, Registry
from streamer.settings.kafka import Kafka
from streamer.settings.learning import Fit, Gate, Models, Network, Retrain
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
    Symbols,
    Text,
    Token,
    conflict,
)


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
