"""What tests need of code that reads forecasts or feeds ticks: records equal to the real ones, a broker, the daemon.

Without a broker: one forecast as a consumer finds it, or all that the daemon would publish of a frame of prices.

>>> forecast({"AAPL": 190.1}, yhat={"AAPL": 190.2})["yhat"]
{'AAPL': 190.2}
>>> tick({"AAPL": 190.1, "MSFT": None}, at="2026-01-05T14:31:00Z")
b'{"ts":"2026-01-05T14:31:00Z","prices":{"AAPL":190.1,"MSFT":null}}'
>>> [message["as_of"] for message in forecasts(random_walk(3))]
['2026-01-05T00:00:00Z', '2026-01-05T00:01:00Z', '2026-01-05T00:02:00Z']

With one, and the real daemon on it, both in this process:

>>> import asyncio, tempfile
>>> async def served(frame):
...     with tempfile.TemporaryDirectory() as models, broker() as bootstrap_servers:
...         settings = daemon_settings(bootstrap_servers, models)
...         async with run_daemon(settings):
...             await publish(settings, frame)
...             return await published(settings, len(frame))
>>> messages = asyncio.run(served(random_walk(3)))
>>> messages == list(forecasts(random_walk(3)))
True

The broker is librdkafka's mock cluster: it speaks Kafka's protocol on a port of 127.0.0.1, keeps its newest 5 MB in
memory, ends with its block, and has no transactions worth the name: the daemon delivers at least once on it.
"""

import asyncio
import json
import math
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition

from streamer import sawtooth as triangles
from streamer.codec import parse_time
from streamer.config import load
from streamer.core.outcome import PERSISTENCE_MODEL, Forecast
from streamer.core.tick import Tick
from streamer.demonstration import embedded_broker
from streamer.encoding import forecast_message
from streamer.errors import StreamerError
from streamer.feeding import Publisher, Route, encode_tick
from streamer.frames import price_table, ticks
from streamer.notebook import ForecastEngine
from streamer.service.access import Access
from streamer.service.daemon import Daemon
from streamer.settings import Settings, Topics

__all__ = [
    "broker",
    "daemon_settings",
    "forecast",
    "forecasts",
    "publish",
    "published",
    "random_walk",
    "run_daemon",
    "sawtooth",
    "tick",
]

START = "2026-01-05T00:00:00Z"
"""When the frames begin: a Monday."""

_PATIENCE = 60.0  # seconds for what the daemon or the broker does by itself
_POLL = 0.02  # the daemon's readiness tells nobody of a change; this often it is read


# --- prices -----------------------------------------------------------------------------------------------------------


def sawtooth(rows: int, step: str = "1min") -> pd.DataFrame:
    """Triangles `a` and `b` out of phase, which can be learned without error; indexed by time from START on."""
    return _frame([dict(each.prices) for each in triangles.sawtooth(rows, 1)], step)


def random_walk(rows: int, symbols: Sequence[str] = ("A", "B"), *, step: str = "1min", seed: int = 0) -> pd.DataFrame:
    """Prices from about 100 on whose log returns are independent: nothing beats the last price."""
    changes = np.random.default_rng(seed).normal(scale=1e-3, size=(rows, len(symbols)))
    prices = 100.0 * np.exp(np.cumsum(changes, axis=0))
    return _frame([dict(zip(symbols, row, strict=True)) for row in prices.tolist()], step)


def _frame(rows: list[dict[str, float]], step: str) -> pd.DataFrame:
    index = pd.date_range(START, periods=len(rows), freq=step, name="timestamp")
    return pd.DataFrame(rows).set_axis(index, axis=0)


# --- records ----------------------------------------------------------------------------------------------------------


def tick(prices: Mapping[str, float | None], *, at: str = START) -> bytes:
    """The value of a record of the input topic, in the form of the default. at: ISO-8601 with a zone."""
    known = {symbol: math.nan if price is None else price for symbol, price in prices.items()}
    return encode_tick(Tick(parse_time(at), known))


def forecast(
    last: Mapping[str, float],
    yhat: Mapping[str, float] | None = None,
    *,
    half_width: float = 1.0,
    as_of: str = START,
    step: float = 60.0,
    model: str = PERSISTENCE_MODEL,
    source: tuple[str, int, int] = ("prices", 0, 0),
) -> dict[str, Any]:
    """The value of a record of the topic for forecasts, before JSON makes bytes of it.

    last: prices by symbol. yhat: what is forecast of them, None for the last price. half_width: of the interval, in
    prices. step: seconds to the target. source: topic, partition and offset of the tick.
    """
    levels = np.array([(yhat or last)[symbol] for symbol in last])
    begin = parse_time(as_of)
    made = Forecast(
        as_of=begin,
        target=begin + round(step * 1000),
        symbols=tuple(last),
        yhat=levels,
        lower=levels - half_width,
        upper=levels + half_width,
        last=np.array(list(last.values())),
        model=model,
    )
    return forecast_message(made, f"{source[0]}-{source[1]}", source)


def forecasts(frame: pd.DataFrame, settings: Settings | Mapping[str, Any] | None = None) -> Iterator[dict[str, Any]]:
    """The values that the daemon publishes of a frame's rows, fed to an empty topic, until its first training.

    They are made by its engine. frame, settings: as of `streamer.ForecastEngine`.
    """
    engine = ForecastEngine.from_settings(settings)
    topic = engine.known.kafka.topics.prices
    for offset, each in enumerate(ticks(price_table(frame, engine.settings.symbols, "the frame"))):
        outcome = engine.process(each).outcome
        if isinstance(outcome, Forecast):
            yield forecast_message(outcome, f"{topic}-0", (topic, 0, offset))


# --- broker and daemon ------------------------------------------------------------------------------------------------


@contextmanager
def broker(*topics: str) -> Iterator[str]:
    """A Kafka broker in this process; gives its address. topics: to be there, those of the default settings if none.

    Each has four partitions. BrokerError.
    """
    with embedded_broker(topics or list(Topics().model_dump().values())) as address:
        yield address


def daemon_settings(bootstrap_servers: str, models: Path | str, overrides: Mapping[str, Any] | None = None) -> Settings:
    """Settings for the daemon on `broker`: all of the input, no training, HTTP on any free port.

    models: folder for its models. overrides: by dotted key, `{"retrain.every": 1000}`. ConfigError.
    """
    own = {
        "kafka.bootstrap_servers": bootstrap_servers,
        "kafka.delivery": "at_least_once",
        "kafka.start": "earliest",
        "kafka.create_topics": False,
        "models.url": str(models),
        "retrain.every": 0,
        "http.port": 0,
    }
    return load(None, {}, {**own, **(overrides or {})})


@asynccontextmanager
async def run_daemon(settings: Settings) -> AsyncIterator[Daemon]:
    """The daemon of `streamer run` as a task of this loop, ready when the block begins, stopped when it ends.

    What ends it is raised: StreamerError. Its log goes to the standard library's `logging`, unless structlog is set up.
    """
    if not structlog.is_configured():
        structlog.configure(logger_factory=structlog.stdlib.LoggerFactory())
    stop = asyncio.Event()
    daemon = Daemon(settings, stop)
    serving = asyncio.create_task(daemon.run())
    try:
        await _until(lambda: serving.done() or daemon.health.readiness().ok)
        if serving.done():
            await serving
            raise StreamerError("the daemon has stopped by itself")
        yield daemon
    finally:
        stop.set()
        await serving


async def _until(condition: Callable[[], bool]) -> None:
    try:
        async with asyncio.timeout(_PATIENCE):
            while not condition():
                await asyncio.sleep(_POLL)
    except TimeoutError:
        raise StreamerError(f"the daemon is not ready after {_PATIENCE:g} s") from None


async def publish(settings: Settings, frame: pd.DataFrame, *, key: str | None = None) -> int:
    """Send the rows of a frame as ticks to `kafka.topics.prices`; returns how many were acknowledged.

    key: name of the stream; None for that of partition 0. BrokerError; UsageError for a frame that cannot be used.
    """
    rows = ticks(price_table(frame, settings.feed.symbols, "the frame"))
    route = Route(settings.kafka.topics.prices, None if key is None else key.encode())
    access = Access(settings.kafka).options()
    async with Publisher(settings.kafka.bootstrap_servers, route, _PATIENCE, access) as publisher:
        return await publisher.publish(rows, 0.0, asyncio.Event())


async def published(settings: Settings, count: int, *, partition: int = 0) -> list[dict[str, Any]]:
    """Wait for the first `count` forecasts of a partition of `kafka.topics.forecasts`. StreamerError."""
    consumer = AIOKafkaConsumer(
        **Access(settings.kafka).options(),
        group_id=None,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        isolation_level="read_committed",
    )
    found: list[dict[str, Any]] = []
    await consumer.start()
    try:
        consumer.assign([TopicPartition(settings.kafka.topics.forecasts, partition)])
        async with asyncio.timeout(_PATIENCE):
            while len(found) < count:
                found.append(json.loads((await consumer.getone()).value))
    except TimeoutError:
        raise StreamerError(f"{len(found)} of {count} forecasts came within {_PATIENCE:g} s") from None
    finally:
        await consumer.stop()
    return found
