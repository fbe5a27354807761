"""What a producer says where the broker ends its transaction in the midst of a batch."""

import asyncio
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import IllegalOperation, KafkaError, MessageSizeTooLargeError, ProducerFenced
from aiokafka.structs import OffsetAndMetadata

from streamer.errors import BrokerError, ConfigError, StreamerError
from streamer.service.records import OutputRecord
from streamer.service.sink import ExactlyOnce, FencedError, Outlet
from streamer.settings.kafka import Topics

TOPICS = Topics()
OFFSET = (TopicPartition("prices", 0), OffsetAndMetadata(1, ""))


class Producer:
    """Its first record ends the transaction; as aiokafka does, it then knows no more than that there is none."""

    def __init__(self, error: KafkaError | None) -> None:
        self._error = error
        self._is_open = True

    async def begin_transaction(self) -> None: ...

    async def send(self, topic: str, **record: Any) -> asyncio.Future[None]:
        self._require_transaction()
        self._is_open = False
        queued = asyncio.get_running_loop().create_future()
        if self._error is not None:
            queued.set_exception(self._error)
        return queued

    async def send_offsets_to_transaction(self, offsets: Any, group: str) -> None:
        self._require_transaction()

    def _require_transaction(self) -> None:
        if not self._is_open:
            raise IllegalOperation("Not in the middle of a transaction")


def asked() -> StreamerError:
    return BrokerError("the limit is asked for again")


async def commit(error: KafkaError | None, *topics: str) -> None:
    sink = ExactlyOnce(Outlet(0, 5.0, TOPICS, asked), "group", "id")
    await sink.stop()
    producer: Any = Producer(error)
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
