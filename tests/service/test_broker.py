"""What of aiokafka has to be kept from the daemon."""

import asyncio
from collections.abc import Collection
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import ConsumerRecord, TopicPartition

from streamer.service.broker import Broker, stop_consumer
from streamer.settings.kafka import Kafka

TP = TopicPartition("prices", 0)


class Consumer:
    """Stops as aiokafka's consumer does while the broker is away: a fetch that it cancels cancels its caller."""

    def __init__(self) -> None:
        self.is_connected = True
        self._client = SimpleNamespace(close=self._disconnect)

    async def stop(self) -> None:
        fetch = asyncio.create_task(asyncio.sleep(3600))
        await asyncio.sleep(0)
        fetch.cancel()
        await fetch

    async def _disconnect(self) -> None:
        self.is_connected = False


class SlowConsumer(Consumer):
    async def stop(self) -> None:
        await asyncio.sleep(3600)


async def test_a_fetch_that_is_cancelled_does_not_cancel_who_stops_the_consumer() -> None:
    consumer: Any = Consumer()
    await stop_consumer(consumer)
    assert not consumer.is_connected


async def test_whoever_cancels_the_stop_is_heard() -> None:
    consumer: Any = SlowConsumer()
    stopping = asyncio.create_task(stop_consumer(consumer))
    await asyncio.sleep(0)
    stopping.cancel()
    with pytest.raises(asyncio.CancelledError):
        await stopping


async def test_a_time_limit_on_the_stop_holds() -> None:
    consumer: Any = SlowConsumer()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await stop_consumer(consumer)


class Log(Consumer):
    """A reader of a log of 100 offsets that holds records at `offsets`, each with its offset for a timestamp."""

    def __init__(self, offsets: Collection[int]) -> None:
        super().__init__()
        self._offsets = offsets
        self._position = 0

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    def assign(self, partitions: list[TopicPartition]) -> None: ...

    def seek(self, tp: TopicPartition, offset: int) -> None:
        self._position = offset

    async def position(self, tp: TopicPartition) -> int:
        return self._position

    async def beginning_offsets(self, partitions: list[TopicPartition]) -> dict[TopicPartition, int]:
        return {TP: 0}

    async def end_offsets(self, partitions: list[TopicPartition]) -> dict[TopicPartition, int]:
        return {TP: 100}

    async def offsets_for_times(self, times: dict[TopicPartition, int]) -> dict[TopicPartition, Any]:
        offset = min((each for each in self._offsets if each >= times[TP]), default=None)
        return {TP: None if offset is None else SimpleNamespace(offset=offset)}

    async def getmany(self, tp: TopicPartition, **_: int) -> dict[TopicPartition, list[ConsumerRecord]]:
        start, self._position = self._position, 100
        found = [each for each in sorted(self._offsets) if each >= start]
        return {TP: [ConsumerRecord("prices", 0, each, each, 0, None, b"", None, 0, 0, ()) for each in found]}


@pytest.mark.parametrize(
    ("offsets", "expected"),
    [(range(100), 89), (range(99), 88), (range(80), 69), (range(5), 0), ((), 100)],
    ids=["a record", "a marker", "more of them", "fewer records than the span", "no record at all"],
)
async def test_a_history_is_counted_back_from_the_last_record_whatever_stands_behind_it(
    offsets: Collection[int], expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A transactional sender's marker is the last offset of its topic."""
    monkeypatch.setattr("streamer.service.broker.AIOKafkaConsumer", lambda **_: Log(offsets))
    broker = Broker(Kafka(bootstrap_servers="localhost:9092"), input_span=10)
    assert await broker.warm_offset(TP, 100) == expected
