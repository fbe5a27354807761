"""Where output becomes visible: one commit for a batch's records and the input offset after them.

`ExactlyOnce` has one transactional producer per input partition, because aiokafka cannot fence by group generation
(no KIP-447): whoever starts the producer of a partition fences the owner before. `AtLeastOnce` acknowledges records,
then commits the offset; what is repeated after a crash has the same ids and values.
"""

import asyncio
from collections.abc import Iterable
from typing import Any, Protocol

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError, MessageSizeTooLargeError, ProducerFenced
from aiokafka.structs import OffsetAndMetadata

from streamer.errors import BrokerError, ConfigError
from streamer.service.records import OutputRecord

_RETRY_BACKOFF_MS = 5
"""Kafka 4 answers the first produce of a transaction that follows closely on another with NotEnoughReplicas while the
markers of the last are being written (KIP-890); aiokafka then sleeps this long, 100 ms by default."""

LARGEST_RECORD = 8 * 2**20
"""Bytes of a record at most, where the topic takes it. The snapshot of 2,048 symbols at a ring of 100 has 1.3 MB, their
forecast 0.3 to 2 MB; Kafka's own limit of 1 MiB would stop such a stream for ever."""

Offset = tuple[TopicPartition, OffsetAndMetadata]


class FencedError(Exception):
    """Another process has taken over the partition."""


class Sink(Protocol):
    """Makes batches visible."""

    async def start(self) -> None:
        """Connect; with transactions: fence the owner before and abort what it left open."""

    async def commit(self, records: Iterable[OutputRecord], offset: Offset | None) -> None:
        """Make `records` visible and, with them, the next offset to read. BrokerError, FencedError."""

    async def stop(self) -> None:
        """Disconnect."""


class _Producing:
    def __init__(self, partition: int, timeout: float, **options: Any) -> None:
        self._partition = partition
        self._timeout = timeout
        self._producer = AIOKafkaProducer(
            acks="all",
            enable_idempotence=True,
            retry_backoff_ms=_RETRY_BACKOFF_MS,
            max_request_size=LARGEST_RECORD,
            **options,
        )

    async def start(self) -> None:
        """Connect within the time limit."""
        await self._bounded(self._producer.start())

    async def stop(self) -> None:
        """Disconnect within the time limit; aiokafka's own stop waits for an absent broker for ever."""
        try:
            await self._bounded(self._producer.stop())
        except BrokerError:
            return

    async def _bounded(self, work: Any) -> None:
        try:
            async with asyncio.timeout(self._timeout):
                await work
        except ProducerFenced as error:
            raise FencedError(str(error)) from error
        except MessageSizeTooLargeError as error:
            raise ConfigError(
                f"a record is larger than its topic takes ({error}): raise max.message.bytes of the topics for"
                f" forecasts and state to {LARGEST_RECORD}, or lower limits.symbols or feed.window"
            ) from error
        except TimeoutError as error:
            raise BrokerError(f"the broker did not answer within {self._timeout:g} s") from error
        except KafkaError as error:
            raise BrokerError(f"the broker refused: {error!r}") from error

    async def _send(self, records: Iterable[OutputRecord]) -> list[asyncio.Future[Any]]:
        return [
            await self._producer.send(
                r.topic, value=r.value, key=r.key, partition=self._partition, headers=list(r.headers)
            )
            for r in records
        ]


class ExactlyOnce(_Producing):
    """Records and offset in one transaction."""

    def __init__(self, partition: int, timeout: float, group_id: str, transactional_id: str, **options: Any) -> None:
        super().__init__(
            partition,
            timeout,
            transactional_id=transactional_id,
            transaction_timeout_ms=round(timeout * 1000),
            **options,
        )
        self._group_id = group_id

    async def commit(self, records: Iterable[OutputRecord], offset: Offset | None) -> None:
        """One transaction. After BrokerError its fate is open: to go on, start a new producer and restore."""
        await self._bounded(self._transaction(records, offset))

    async def _transaction(self, records: Iterable[OutputRecord], offset: Offset | None) -> None:
        # No abort when this fails: with the broker away it would wait for ever, and the next producer's start aborts.
        await self._producer.begin_transaction()
        sent = await self._send(records)
        if offset is not None:
            await self._producer.send_offsets_to_transaction(dict([offset]), self._group_id)
        await asyncio.gather(*sent)
        await self._producer.commit_transaction()


class AtLeastOnce(_Producing):
    """Output first, then snapshots, then the offset: what a snapshot holds has been published."""

    def __init__(self, partition: int, timeout: float, consumer: AIOKafkaConsumer, state: str, **options: Any) -> None:
        super().__init__(partition, timeout, **options)
        self._consumer = consumer
        self._state = state

    async def commit(self, records: Iterable[OutputRecord], offset: Offset | None) -> None:
        """Return once records and offset are acknowledged."""
        await self._bounded(self._acknowledged(records, offset))

    async def _acknowledged(self, records: Iterable[OutputRecord], offset: Offset | None) -> None:
        records = list(records)
        await asyncio.gather(*await self._send(r for r in records if r.topic != self._state))
        await asyncio.gather(*await self._send(r for r in records if r.topic == self._state))
        if offset is not None:
            await self._consumer.commit(dict([offset]))
