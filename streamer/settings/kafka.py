"""The section `kafka`: the broker, the topics, and how messages are taken and given."""

from typing import Literal, Self

from pydantic import Field, model_validator

from streamer.settings.security import Security
from streamer.settings.types import (
    DAY,
    DURATION,
    KafkaName,
    Seconds,
    Section,
    Servers,
    Start,
    Text,
    conflict,
)


class Topics(Section):
    """Names of the Kafka topics."""

    prices: KafkaName = Field(default="prices", description="Input: price vectors.")
    forecasts: KafkaName = Field(default="forecasts", description="Output: forecasts.")
    state: KafkaName = Field(default="state", description="Snapshots of the engines; compacted.")
    dead_letters: KafkaName = Field(default="dead-letters", description="Messages that are no tick, with the reason.")

    @property
    def outputs(self) -> tuple[str, str, str]:
        """Those that are written to."""
        return self.forecasts, self.state, self.dead_letters

    @model_validator(mode="after")
    def _all_different(self) -> Self:
        # Kafka refuses topics that differ only in "." and "_": its metrics write both as "_".
        keys: dict[str, str] = {}
        for key, name in self:
            other = keys.setdefault(name.replace(".", "_"), key)
            if other != key:
                conflict(key, repr(name), f"another name than topics.{other} has")
        return self


class Kafka(Section):
    """The broker, the topics, and how messages are taken and given."""

    bootstrap_servers: Servers = Field(description="Brokers to ask first, host:port; several with commas or as a list.")
    security: Security = Field(default_factory=Security, description="TLS and SASL.")
    group_id: Text = Field(
        default="streamer",
        max_length=249,
        description="Consumer group; daemons in one group share the partitions.",
    )
    instance_id: KafkaName | None = Field(
        default=None,
        description="Static membership: this daemon's own name, with which a restart rejoins at once.",
    )
    delivery: Literal["exactly_once", "at_least_once"] = Field(
        default="exactly_once",
        description="exactly_once needs a broker with transactions; at_least_once may repeat (same ids).",
    )
    topics: Topics = Field(default_factory=Topics, description="Names of the topics.")
    start: Start = Field(
        default="warm",
        description="Where a group without committed offsets begins: warm (history is read back, forecasts"
        " from the end of the topic on), earliest, latest, or an ISO-8601 time with a zone.",
    )
    create_topics: bool = Field(
        default=True, description="Whether missing topics are created; that of prices by `streamer feed` alone."
    )
    replication_factor: int | None = Field(
        default=None, ge=1, le=32767, description="Of topics created here; null: the broker's default."
    )
    startup_timeout: Seconds = Field(
        default=60.0, le=DAY, description="How long a broker that does not answer is retried at start."
    )
    session_timeout: Seconds = Field(
        default=30.0,
        ge=0.1,
        le=1800,
        description="Without a heartbeat for so long, a daemon loses its partitions.",
    )
    transaction_timeout: Seconds = Field(
        default=20.0,
        ge=0.1,
        le=900,
        description="The broker aborts a transaction after this; below session_timeout.",
    )
    max_poll_records: int = Field(default=1000, ge=1, le=100_000, description="Ticks in one transaction at most.")

    @model_validator(mode="after")
    def _transaction_ends_within_session(self) -> Self:
        if self.transaction_timeout >= self.session_timeout:
            conflict(
                "transaction_timeout",
                DURATION.render(self.transaction_timeout),
                f"less than kafka.session_timeout ({DURATION.render(self.session_timeout)}): a transaction"
                " that times out later looks like another daemon's takeover",
            )
        return self

    @property
    def start_time(self) -> int | None:
        """`start` in ms since the epoch where it is a time, else None."""
        return None if isinstance(self.start, str) else round(self.start.timestamp() * 1000)
