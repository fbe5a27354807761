"""What the benchmarks of the whole daemon share: a broker, the daemon with its defaults, a feed, and an oracle."""

import asyncio
import csv
import json
import random
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import chain, cycle, islice
from pathlib import Path
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from streamer.core.tick import Tick
from streamer.pricefile import PriceFile
from tests.e2e.harness import Service
from tests.support import SHARED_DATA, KafkaBroker, kcat

PRICES = SHARED_DATA / "dev" / "crypto_usd_1m_2018-01.csv"
SYMBOLS = 7
MINUTE = timedelta(minutes=1)

Figures = dict[str, Any]


@contextmanager
def running_broker(folder: Path) -> Iterator[str]:
    """The address of a Kafka of one's own."""
    broker = KafkaBroker(folder / "kafka")
    address = broker.start()
    try:
        yield address
    finally:
        broker.stop()


async def default_service(bootstrap: str, folder: Path, **sections: Figures) -> Service:
    """The daemon, not started yet, with its default settings but for where things are and `sections`."""
    service = Service(bootstrap, folder, "prices")
    kafka = {name: service.settings["kafka"][name] for name in ("bootstrap_servers", "group_id", "topics")}
    places = {name: service.settings[name] for name in ("models", "http", "log")} | {"kafka": kafka}
    service.settings = places | {name: places.get(name, {}) | section for name, section in sections.items()}
    return service


async def make_input(service: Service, partitions: int = 1) -> None:
    """Make the input topic."""
    admin = AIOKafkaAdminClient(bootstrap_servers=service.bootstrap)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(service.topic("prices"), partitions, 1)])
    finally:
        await admin.close()


@dataclass(frozen=True, slots=True)
class Prices:
    """A file of prices by the minute, each minute once: header, then a row for each tick."""

    path: Path

    @classmethod
    def given_or_real(cls, path: Path | None, folder: Path) -> "Prices":
        """`path`, or real prices where this checkout has them, or a random walk that is written to `folder`."""
        if path is not None or PRICES.exists():
            return cls(path or PRICES)
        return cls.random_walk(folder / "walk.csv", 45_000)

    @classmethod
    def random_walk(cls, path: Path, rows: int) -> "Prices":
        """Prices of seven symbols that carry a part of their last change on: a model has something to find."""
        draw, start = random.Random(0), datetime(2018, 1, 1, tzinfo=UTC)
        prices, changes = [10.0 ** (number - 1) for number in range(SYMBOLS)], [0.0] * SYMBOLS
        with path.open("w", newline="") as file:
            lines = csv.writer(file)
            lines.writerow(["timestamp", *(f"S{number}" for number in range(SYMBOLS))])
            for row in range(rows):
                changes = [draw.gauss(0.3 * change, 1e-3) for change in changes]
                prices = [price * (1.0 + change) for price, change in zip(prices, changes, strict=True)]
                lines.writerow([iso(start + row * MINUTE), *(f"{price:.6g}" for price in prices)])
        return cls(path)

    def part(self, path: Path, begin: int, end: int) -> "Prices":
        """Write the rows `[begin, end)` to `path`."""
        with self.path.open() as file, path.open("w") as out:
            out.write(next(file))
            out.writelines(islice(file, begin, end))
        return Prices(path)

    def times(self) -> list[datetime]:
        """Times of the rows."""
        with self.path.open(newline="") as file:
            return [datetime.fromisoformat(row[0]) for row in islice(csv.reader(file), 1, None)]

    def there_and_back(self, ticks: int) -> Iterator[Tick]:
        """So many ticks a minute apart: the file forwards, then backwards, and so on, so that no price leaps."""
        rows = [tick.prices for tick in PriceFile(self.path).ticks(limit=ticks)]
        start = self.times()[0]
        path = cycle(chain(rows, reversed(rows)))
        for number, prices in enumerate(islice(path, ticks)):
            yield Tick(round((start + number * MINUTE).timestamp() * 1000), prices)


async def feed(service: Service, prices: Prices, rate: float) -> None:
    """`streamer feed`, a process of its own: the ticks' times as the file has them, their records stamped now."""
    options = ("-c", str(service.folder / "config.json"), "--rate", str(rate), "--keep-times")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "streamer", "feed", *options, str(prices.path)),
        stderr=asyncio.subprocess.PIPE,
    )
    _, said = await process.communicate()
    assert process.returncode == 0, said.decode()


def check_outcomes(values: list[Figures], times: list[datetime], service: Service) -> None:
    """One forecast for each offset, in order, of the right time, by the model that the recorded swaps say."""
    topic = service.topic("prices")
    models = {swap["after"]: swap["model"] for swap in service.swaps(f"{topic}-0")}
    assert len(values) == len(times), f"{len(values)} forecasts of {len(times)} ticks"
    model = "persistence"
    for offset, (value, time) in enumerate(zip(values, times, strict=True)):
        expected = {
            "id": f"{topic}-0-{offset}",
            "stream": f"{topic}-0",
            "as_of": iso(time),
            "target": iso(time + MINUTE),
            "model": model,
            "source": {"topic": topic, "partition": 0, "offset": offset},
        }
        assert expected == {name: value[name] for name in expected}
        model = models.get(round(time.timestamp() * 1000), model)


def kcat_agrees(service: Service, values: list[Figures]) -> bool | None:
    """Whether a foreign client reads the same; None where it is not installed."""
    if not shutil.which("kcat"):
        return None
    found = [json.loads(record["payload"]) for record in kcat(service.bootstrap, service.topic("forecasts"))]
    assert found == values
    return True


def iso(moment: datetime) -> str:
    """A time in UTC, as forecasts have it."""
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
