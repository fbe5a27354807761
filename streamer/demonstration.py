"""The demo: the real daemon against a Kafka broker inside this process, fed with prices that can be learned.

The broker is librdkafka's mock cluster: it speaks Kafka's protocol on a TCP port, keeps its data in memory, and ends
with the process. What is summed up comes from the published forecasts and the fed prices alone.
"""

import asyncio
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from aiokafka import AIOKafkaConsumer, TopicPartition
from confluent_kafka import KafkaException, Producer

from streamer.codec import format_time
from streamer.core.outcome import PERSISTENCE_MODEL
from streamer.core.tick import Tick
from streamer.errors import BrokerError, StreamerError
from streamer.feeding import Publisher, Route, shift_to, shifted
from streamer.sawtooth import sawtooth
from streamer.service.access import Access
from streamer.service.daemon import Daemon
from streamer.settings import Settings

_PATIENCE = 60.0  # seconds without the next forecast, after which something is wrong
_POLL = 0.05  # the daemon's counters tell nobody of a change; this often they are read
_FETCH_MS = 200
_CHUNK = 500
_BEFORE = 3000  # ticks before now, of a demo that goes on
_PIECE = 60  # ticks that are made at once from then on
_MAX_BACKLOG = 2000  # ticks: the embedded broker forgets the oldest of 5 MB, read or not

Summary = dict[str, Any]
"""`ticks`, `forecasts`, `retrains` (outcome to count), `symbols` (name to n, rmse, persistence_rmse, skill)."""


class Reporter(Protocol):
    """Told what happens, for whoever watches."""

    def stage(self, text: str) -> None:
        """A new part begins."""

    def forecasts(self, count: int) -> None:
        """So many forecasts have been published."""


def demo_settings(bootstrap_servers: str, models: Path, port: int) -> Settings:
    """The settings of config/demo.yaml, with the addresses and the model folder given."""
    return Settings.model_validate(
        {
            "kafka": {
                "bootstrap_servers": bootstrap_servers,
                "group_id": "streamer-demo",
                "delivery": "at_least_once",
                "start": "earliest",
                "create_topics": False,
            },
            "feed": {"step": "1s", "change": "difference"},
            "network": {
                "mode": "joint",
                "layers": [{"units": 32}],
                "features": "changes",
                "embedding": 0,
                "skip": False,
                "members": 1,
            },
            "fit": {"steps": 800, "epochs": 0, "learning_rate": 0.01},
            "retrain": {"first": 500, "every": 1000, "history": 5000, "time_limit": "5m"},
            "models": {"url": str(models)},
            "http": {"port": port},
        }
    )


@contextmanager
def embedded_broker(topics: Sequence[str]) -> Iterator[str]:
    """A Kafka broker in this process with `topics`, four partitions each; gives its address. BrokerError."""
    producer = Producer({"test.mock.num.brokers": 1, "log_level": 0})
    try:
        broker = next(iter(producer.list_topics(timeout=_PATIENCE).brokers.values()))
        for topic in topics:
            producer.list_topics(topic, timeout=_PATIENCE)  # it makes a topic when first asked for it
    except KafkaException as error:
        raise BrokerError(f"the embedded broker does not answer: {error}") from error
    yield f"{broker.host}:{broker.port}"
    producer.flush(0)  # the broker lives as long as this producer: so far, at least


@dataclass
class _Errors:
    """Squared errors of one symbol, of the forecast and of persistence."""

    n: int = 0
    forecast: float = 0.0
    persistence: float = 0.0

    def summary(self) -> dict[str, float | int | None]:
        """None for what nothing was scored for."""
        if not self.n:
            return {"n": 0, "rmse": None, "persistence_rmse": None, "skill": None}
        rmse, persistence = (self.forecast / self.n) ** 0.5, (self.persistence / self.n) ** 0.5
        skill = 1 - rmse / persistence if persistence else None
        return {"n": self.n, "rmse": rmse, "persistence_rmse": persistence, "skill": skill}


@dataclass
class Tally:
    """Scores published forecasts against the prices that were fed; counts those since a model first served.

    prices: what is fed, by time in ISO-8601.
    """

    prices: Mapping[str, Mapping[str, float]]
    forecasts: int = 0
    model_serves: bool = False
    errors: dict[str, _Errors] = field(default_factory=lambda: {symbol: _Errors() for symbol in ("a", "b")})
    _last_offset: int = -1

    def take(self, forecast: Mapping[str, Any]) -> None:
        """Count one forecast; repeats, which at-least-once delivery allows, are not."""
        if forecast["source"]["offset"] <= self._last_offset:
            return
        self._last_offset = forecast["source"]["offset"]
        self.forecasts += 1
        self.model_serves = self.model_serves or forecast["model"] != PERSISTENCE_MODEL
        now, then = self.prices[forecast["as_of"]], self.prices.get(forecast["target"])
        if not self.model_serves or then is None:
            return
        for symbol, errors in self.errors.items():
            errors.n += 1
            errors.forecast += (forecast["yhat"][symbol] - then[symbol]) ** 2
            errors.persistence += (now[symbol] - then[symbol]) ** 2


class Demonstration:
    """One run of the demo. rate: ticks a second, 0 for as fast as possible. `stop` ends it early.

    ticks: None: it goes on with a tick each step of the clock, once those that lie before now are fed.
    """

    def __init__(
        self, settings: Settings, ticks: int | None, rate: float, reporter: Reporter, stop: asyncio.Event
    ) -> None:
        step = settings.feed.step_ms
        rows = sawtooth(ticks or _BEFORE, step)
        self._shift = shift_to(time.time_ns() // 1_000_000, rows[-1].time, step)
        self._goes_on = ticks is None
        self._settings = settings
        self._rows = list(shifted(rows, self._shift))
        self._rate = rate
        self._reporter = reporter
        self._stop = stop
        self._tally = Tally({format_time(row.time): row.prices for row in self._rows})
        self._sent = 0
        self._stop_daemon = asyncio.Event()
        self._daemon = Daemon(settings, self._stop_daemon)
        self._tasks: list[asyncio.Task[None]] = []

    async def run(self) -> Summary:
        """Serve and feed, then sum up. StreamerError where the daemon fails."""
        self._tasks = [asyncio.create_task(self._daemon.run()), asyncio.create_task(self._read_forecasts())]
        serving, reading = self._tasks
        try:
            await self._run()
            retrains = self._retrains()  # before the daemon stops: it removes what it shows of its streams
        finally:
            self._stop_daemon.set()
            reading.cancel()
            with suppress(asyncio.CancelledError):
                await reading
            await serving
        return {
            "ticks": self._sent,
            "forecasts": self._tally.forecasts,
            "retrains": retrains,
            "symbols": {symbol: errors.summary() for symbol, errors in self._tally.errors.items()},
        }

    async def _run(self) -> None:
        kafka, first = self._settings.kafka, self._settings.retrain.first
        self._reporter.stage("starting the daemon")
        await self._until(lambda: self._daemon.health.readiness().ok, "the daemon does not get ready")
        access = Access(kafka).options()
        async with Publisher(kafka.bootstrap_servers, Route(kafka.topics.prices), _PATIENCE, access) as publisher:
            self._reporter.stage(f"warming up: persistence forecasts the first {len(self._rows[:first])} ticks")
            await self._feed(publisher, self._rows[:first])
            if self._sent < first or self._stop.is_set():
                return
            self._reporter.stage("training the first model (about a minute), the feed pauses")
            limit = self._settings.retrain.time_limit + _PATIENCE
            await self._until(lambda: bool(self._retrains()), "the training does not end", limit)
            if self._stop.is_set():
                return
            outcome = next(iter(self._retrains()))
            self._reporter.stage(f"first model {outcome}; serving, and training again beside it")
            await self._feed(publisher, self._rows[first:])
            if self._goes_on:
                self._reporter.stage("live, with a tick a second, until Ctrl-C")
                await self._feed_on(publisher)

    async def _feed(self, publisher: Publisher, rows: Sequence[Tick]) -> None:
        """Send `rows` and wait for their forecasts."""
        for begin in range(0, len(rows), _CHUNK):
            await self._until_behind(_MAX_BACKLOG)
            self._sent += await publisher.publish(rows[begin : begin + _CHUNK], self._rate, self._stop)
        await self._until_behind(0)

    async def _feed_on(self, publisher: Publisher) -> None:
        """Send the rest of the wave, each tick when its time has come, until `stop`."""
        row = len(self._rows)
        known = self._rows
        while not self._stop.is_set():
            # One more than is sent: the last one's forecast is scored too.
            rows = list(shifted(sawtooth(_PIECE + 1, self._settings.feed.step_ms, first=row), self._shift))
            self._tally.prices = {format_time(each.time): each.prices for each in (*known, *rows)}
            self._sent += await publisher.publish(rows[:_PIECE], None, self._stop)
            await self._until_behind(_PIECE)
            row, known = row + _PIECE, rows

    async def _until_behind(self, at_most: int) -> None:
        await self._until(
            lambda: self._sent - self._tally.forecasts <= at_most, f"of {self._sent} ticks some have no forecast"
        )

    async def _until(self, condition: Callable[[], bool], otherwise: str, patience: float = _PATIENCE) -> None:
        """Wait for `condition`, or the end of the demo; a task that failed meanwhile raises what it did."""
        deadline = time.monotonic() + patience
        while not condition() and not self._stop.is_set():
            for task in self._tasks:
                if task.done():
                    task.result()
                    raise StreamerError("the daemon has stopped by itself")
            if time.monotonic() > deadline:
                raise StreamerError(f"{otherwise} after {patience:g} s")
            await asyncio.sleep(_POLL)

    def _retrains(self) -> dict[str, int]:
        """Trainings that ended, by outcome, as the daemon's metrics count them."""
        counts: Counter[str] = Counter()
        for metric in self._daemon.metrics.retrains.collect():
            for sample in metric.samples:
                counts[sample.labels["outcome"]] += int(sample.value)
        return dict(+counts)

    async def _read_forecasts(self) -> None:
        kafka = self._settings.kafka
        consumer = AIOKafkaConsumer(
            **Access(kafka).options(),
            group_id=None,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            isolation_level="read_committed",
        )
        await consumer.start()
        try:
            consumer.assign([TopicPartition(kafka.topics.forecasts, 0)])
            while True:
                for records in (await consumer.getmany(timeout_ms=_FETCH_MS)).values():
                    for record in records:
                        self._tally.take(json.loads(record.value))
                self._reporter.forecasts(self._tally.forecasts)
        finally:
            await consumer.stop()
