"""What a producer says where the broker ends its transaction in the midst of a batch."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import IllegalOperation, KafkaError, MessageSizeTooLargeError, ProducerFenced
from aiokafka.producer.message_accumulator import BatchBuilder
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.structs import OffsetAndMetadata

from streamer.errors import BrokerError, ConfigError, StreamerError
from streamer.service.records import OutputRecord
from streamer.service.sink import LARGEST_RECORD, ExactlyOnce, FencedError, Outlet
from streamer.settings.kafka import Topics

TOPICS = Topics()
OFFSET = (TopicPartition("prices", 0), OffsetAndMetadata(1, ""))


class Producer:
    """Its first batch ends the transaction; as aiokafka does, it then knows no more than that there is none.

    size: bytes of a batch; one of 1 has room for one record.
    """

    def __init__(self, error: KafkaError | None, size: int = 1) -> None:
        self._error = error
        self._size = size
        self._is_open = True
        self._txn_manager = SimpleNamespace(wait_for_transaction_end=asyncio.get_running_loop().create_future)

    async def begin_transaction(self) -> None: ...

    def create_batch(self) -> BatchBuilder:
        return BatchBuilder(self._size, 0)

    async def send_batch(self, batch: BatchBuilder, topic: str, *, partition: int) -> asyncio.Future[None]:
        self._require_transaction()
        self._is_open = False
        delivered = asyncio.get_running_loop().create_future()
        shield = asyncio.shield(delivered)
        if self._error is not None:
            delivered.set_exception(self._error)
        return shield

    async def send_offsets_to_transaction(self, offsets: Any, group: str) -> None:
        self._require_transaction()

    def _require_transaction(self) -> None:
        if not self._is_open:
            raise IllegalOperation("Not in the middle of a transaction")


def asked() -> StreamerError:
    return BrokerError("the limit is asked for again")


async def commit(error: KafkaError | None, *topics: str, size: int = 1, knows_limits: bool = True) -> None:
    sink = ExactlyOnce(Outlet(0, 5.0, TOPICS, asked, knows_limits), "group", "id")
    await sink.stop()
    producer: Any = Producer(error, size)
    sink._producer = producer
    await sink.commit([OutputRecord(topic, b"k", b"v") for topic in topics], OFFSET)


@pytest.mark.parametrize("behind", [0, 1], ids=["the offset behind it", "further records behind it"])
class TestBehindTheRecordThatEndsTheTransaction:
    async def test_a_takeover_is_known_for_one(self, behind: int) -> None:
        """Or the process would end, as by an error of ours, or fence the new owner in turn."""
        with pytest.raises(FencedError):
            await commit(ProducerFenced(), *[TOPICS.forecasts] * (1 + behind))

    async def test_a_dead_letter_that_is_refused_is_known_by_its_topic(self, behind: int) -> None:
        with pytest.raises(BrokerError, match="the limit is asked for again"):
            await commit(MessageSizeTooLargeError(), TOPICS.dead_letters, *[TOPICS.forecasts] * behind)

    async def test_so_is_any_other_record(self, behind: int) -> None:
        with pytest.raises(ConfigError, match=f"larger than topic '{TOPICS.state}' takes"):
            await commit(MessageSizeTooLargeError(), TOPICS.state, *[TOPICS.forecasts] * behind)

    async def test_what_no_record_knows_is_the_brokers(self, behind: int) -> None:
        with pytest.raises(BrokerError, match="the broker refused: IllegalOperation"):
            await commit(None, *[TOPICS.forecasts] * (1 + behind))


async def test_a_topic_that_takes_less_than_it_did_is_asked_anew() -> None:
    """A daemon that would end over it would have to be started by hand, though each record alone is small enough."""
    with pytest.raises(BrokerError, match=f"topic '{TOPICS.forecasts}' takes smaller batches than it did"):
        await commit(MessageSizeTooLargeError(), *[TOPICS.forecasts] * 2, size=1000)


async def test_one_whose_limit_nobody_tells_us_is_not_asked_for_ever() -> None:
    with pytest.raises(ConfigError, match="larger than topic"):
        await commit(MessageSizeTooLargeError(), *[TOPICS.forecasts] * 2, size=1000, knows_limits=False)


class Log:
    """A producer that keeps what it is sent; its batches take so many bytes."""

    def __init__(self, size: int) -> None:
        self._size = size
        self.batches: list[tuple[str, list[bytes | None]]] = []

    async def begin_transaction(self) -> None: ...

    async def commit_transaction(self) -> None: ...

    async def send_offsets_to_transaction(self, offsets: Any, group: str) -> None: ...

    def create_batch(self) -> BatchBuilder:
        return BatchBuilder(self._size, 0)

    async def send_batch(self, batch: BatchBuilder, topic: str, *, partition: int) -> asyncio.Future[None]:
        [records] = iter(MemoryRecords(bytes(batch._build())).next_batch, None)
        self.batches.append((topic, [record.value for record in records]))
        sent = asyncio.get_running_loop().create_future()
        sent.set_result(None)
        return sent


async def sent(records: list[OutputRecord], size: int) -> list[tuple[str, list[bytes | None]]]:
    sink = ExactlyOnce(Outlet(0, 5.0, TOPICS, asked), "group", "id")
    await sink.stop()
    log = Log(size)
    sink._producer = log
    await sink.commit(records, OFFSET)
    return log.batches


async def test_records_of_a_topic_are_sent_together_and_in_order() -> None:
    """With a request for a few of them each, a backlog would wait for the broker most of the time."""
    forecasts = [OutputRecord(TOPICS.forecasts, b"k", b"%d" % number) for number in range(100)]
    records = [*forecasts[:50], OutputRecord(TOPICS.state, b"k", None), *forecasts[50:]]
    assert await sent(records, 64 * 1024) == [
        (TOPICS.forecasts, [record.value for record in forecasts]),
        (TOPICS.state, [None]),
    ]


async def test_what_a_batch_has_no_room_for_goes_into_the_next_and_a_large_record_has_its_own() -> None:
    values = [b"a" * 400, b"b" * 400, b"c" * 400, b"d" * 5000, b"e"]
    batches = await sent([OutputRecord(TOPICS.forecasts, b"k", value) for value in values], 1000)
    assert [values for _, values in batches] == [values[:2], values[2:3], values[3:4], values[4:]]


async def test_a_record_that_no_topic_takes_is_refused_before_it_is_sent() -> None:
    with pytest.raises(ConfigError, match=f"larger than topic '{TOPICS.state}' takes"):
        await sent([OutputRecord(TOPICS.state, b"k", b"v" * (LARGEST_RECORD + 1))], 1000)
