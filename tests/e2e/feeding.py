"""What the daemon is fed, and what became of each message."""

import asyncio
import json
import math
import random
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from aiokafka import AIOKafkaProducer

MINUTE = 60_000
START = 1_700_000_040_000
"""A whole minute of November 2023, ms: well before any record's timestamp, so that no tick is ahead of it."""

Offset = tuple[int, int]
"""Partition and offset of an input message."""


# --- what it is fed ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Message:
    """One input record. timestamp: ms, now if None."""

    value: bytes | None
    key: bytes | None = None
    partition: int = 0
    headers: tuple[tuple[str, bytes], ...] = ()
    timestamp: int | None = None


def tick(at: int, prices: Mapping[str, float | None], **fields: Any) -> Message:
    """A price vector for the minute `at` after START; `fields` are those of Message."""
    return Message(json.dumps({"ts": START + at * MINUTE, "prices": prices}).encode(), **fields)


def sawtooth(rows: int, seed: int = 1, **fields: Any) -> list[Message]:
    """Triangle 1, 2, ... 10, 9, ... 2 in `a`, nine rows later in `b`, both times one random factor."""
    factor = random.Random(seed).uniform(0.2, 0.9)
    triangle = [*range(1, 11), *range(9, 1, -1)]
    return [
        tick(row, {"a": triangle[row % 18] * factor, "b": triangle[(row - 9) % 18] * factor}, **fields)
        for row in range(rows)
    ]


def random_walk(rows: int, seed: int = 1, **fields: Any) -> list[Message]:
    """Two prices whose log returns are noise, an eighth of the one before carried on."""
    draw = random.Random(seed)
    level, change, messages = [0.0, 0.0], [0.0, 0.0], []
    for row in range(rows):
        change = [draw.gauss(0.125 * each, 1e-3) for each in change]
        level = [a + b for a, b in zip(level, change, strict=True)]
        messages.append(tick(row, {"a": 100 * math.exp(level[0]), "b": 20 * math.exp(level[1])}, **fields))
    return messages


class Feed:
    """Produces messages to one topic, as a backlog or at a rate. `sent`: offsets in the order of the messages."""

    def __init__(self, bootstrap: str, topic: str) -> None:
        self._bootstrap = bootstrap
        self._topic = topic
        self.sent: list[Offset] = []

    def has_sent(self, messages: int) -> bool:
        """Whether so many have been acknowledged."""
        return len(self.sent) >= messages

    async def send(
        self, messages: Sequence[Message], rate: float | None = None, stop: asyncio.Event | None = None
    ) -> list[Offset]:
        """Send all, or those until `stop`; `rate`: a second. Returns the offset of each."""
        producer = AIOKafkaProducer(bootstrap_servers=self._bootstrap, acks="all", enable_idempotence=True)
        await producer.start()
        began = time.monotonic()
        first = len(self.sent)
        pending: list[Any] = []
        try:
            for number, message in enumerate(messages):
                if stop is not None and stop.is_set():
                    break
                if rate is not None:
                    await asyncio.sleep(max(0.0, began + number / rate - time.monotonic()))
                pending.append(await self._send(producer, message))
                if rate is not None or len(pending) >= 500:
                    await self._acknowledged(pending)
            await self._acknowledged(pending)
        finally:
            await producer.stop()
        return self.sent[first:]

    @asynccontextmanager
    async def flowing(self, messages: Sequence[Message], rate: float) -> AsyncIterator[None]:
        """Send at `rate` beside the block, until it ends."""
        stop = asyncio.Event()
        sending = asyncio.create_task(self.send(messages, rate, stop))
        try:
            yield
        finally:
            stop.set()
            await sending

    async def _send(self, producer: AIOKafkaProducer, message: Message) -> Any:
        return await producer.send(
            self._topic,
            value=message.value,
            key=message.key,
            partition=message.partition,
            headers=list(message.headers),
            timestamp_ms=message.timestamp,
        )

    async def _acknowledged(self, pending: list[Any]) -> None:
        for record in await asyncio.gather(*pending):
            self.sent.append((record.partition, record.offset))
        pending.clear()


# --- what came of it --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Published:
    """What a `read_committed` reader finds: records of both output topics, by partition, then offset."""

    forecasts: list[Any]
    dead_letters: list[Any]

    def values(self) -> list[dict[str, Any]]:
        """The forecasts, parsed."""
        return [json.loads(record.value) for record in self.forecasts]

    def by_offset(self) -> dict[Offset, list[Any]]:
        """Every output record under the input offset that it names."""
        found: dict[Offset, list[Any]] = defaultdict(list)
        for record in self.forecasts:
            source = json.loads(record.value)["source"]
            found[source["partition"], source["offset"]].append(record)
        for record in self.dead_letters:
            headers = dict(record.headers)
            where = (f"__streams.errors.{name}" for name in ("partition", "offset"))
            partition, offset = (int(headers[name]) for name in where)
            found[partition, offset].append(record)
        return dict(found)

    def forecast_values(self) -> dict[Offset, bytes]:
        """Bytes of each forecast under its input offset; fails where an offset has two."""
        found = {}
        for offset, records in self.by_offset().items():
            assert len(records) == 1, f"{len(records)} outcomes of input offset {offset}"
            found[offset] = records[0].value
        return found

    def models(self) -> list[str]:
        """Ids of the models, in order of first appearance."""
        return list(dict.fromkeys(value["model"] for value in self.values()))
