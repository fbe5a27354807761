"""Where output becomes visible: one commit for a batch's records and the input offset after them.

`ExactlyOnce` has one transactional producer per input partition, because aiokafka cannot fence by group generation
(no KIP-447): whoever starts the producer of a partition fences the owner before. `AtLeastOnce` acknowledges records,
then commits the offset; what is repeated after a crash has the same ids and values.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import IllegalOperation, KafkaError, MessageSizeTooLargeError, ProducerFenced
from aiokafka.producer.message_accumulator import BatchBuilder
from aiokafka.structs import OffsetAndMetadata

from streamer.errors import BrokerError, ConfigError, StreamerError
from streamer.service.records import OutputRecord
from streamer.settings.kafka import Topics

_RETRY_BACKOFF_MS = 5
"""Kafka 4 answers the first produce of a transaction that follows closely on another with NotEnoughReplicas while the
markers of the last are being written (KIP-890); aiokafka then sleeps this long, 100 ms by default."""

LARGEST_RECORD = 8 * 2**20
"""Bytes of a record at most, where the topic takes it. The snapshot of 2,048 symbols at a ring of 100 has 1.3 MB, their
forecast 0.3 to 2 MB; Kafka's own limit of 1 MiB would stop such a stream for ever."""

_TURNS = 3
"""Of the event loop until aiokafka has written a request: its sender wakes, begins a task, and that writes."""

Offset = tuple[TopicPartition, OffsetAndMetadata]
_Sent = tuple[str, int, asyncio.Future[Any]]  # topic of a batch, its records, and what waits for the broker


class FencedError(Exception):
    """Another process has taken over the partition."""


class Sink(Protocol):
    """Makes batches visible."""

    async def start(self) -> None:
        """Connect; with transactions: fence the owner before and abort what it left open."""

    async def open(self) -> None:
        """Let the broker begin what the next `commit` needs, while its records are made. BrokerError, FencedError."""

    async def commit(self, records: Iterable[OutputRecord], offset: Offset | None) -> None:
        """Make `records` visible and, with them, the next offset to read. BrokerError, FencedError."""

    async def abort_left(self, tp: TopicPartition) -> None:
        """Abort what the owner before of the input `tp` has left in the log without an end. BrokerError, FencedError.

        The broker ends what it knows to be open when the next owner starts. But Kafka 4.3.1 may hold a transaction
        for committed though none of its partitions was told, as they had no leader when it ended: the broker was
        stopping (KAFKA-20734). The next commit of the same producer would bring those records back.
        """

    async def stop(self) -> None:
        """Disconnect."""


@dataclass(frozen=True, slots=True)
class Outlet:
    """Where a partition's output goes, and how.

    timeout: seconds for anything that the broker is asked. refused: called for the error to raise where a dead letter
    is larger than its topic takes. knows_limits: whether batches are no larger than topics took when they were asked.
    options: of the producer.
    """

    partition: int
    timeout: float
    topics: Topics
    refused: Callable[[], StreamerError]
    knows_limits: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)


class _Producing:
    def __init__(self, outlet: Outlet, **options: Any) -> None:
        self._outlet = outlet
        self._producer = AIOKafkaProducer(
            acks="all",
            enable_idempotence=True,
            retry_backoff_ms=_RETRY_BACKOFF_MS,
            max_request_size=LARGEST_RECORD,
            **outlet.options,
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
            async with asyncio.timeout(self._outlet.timeout):
                await work
        except ProducerFenced as error:
            raise FencedError(str(error)) from error
        except TimeoutError as error:
            raise BrokerError(f"the broker did not answer within {self._outlet.timeout:g} s") from error
        except (KafkaError, IllegalOperation) as error:
            raise BrokerError(f"the broker refused: {error!r}") from error

    def _batches(self, records: Iterable[OutputRecord]) -> Iterator[tuple[str, BatchBuilder]]:
        """`records` in batches of a topic each, in order within it.

        aiokafka's `send` would have a future, and a turn of the event loop, for each of them.
        """
        filling: dict[str, BatchBuilder] = {}
        for record in records:
            batch = filling.get(record.topic)
            if batch is None or not _append(batch, record):
                if batch is not None:
                    yield record.topic, batch
                batch = filling[record.topic] = self._producer.create_batch()
                _append(batch, record)  # an empty one takes a record of any size
                if batch.size() > LARGEST_RECORD:
                    raise self._too_large(record.topic, 1)
        yield from filling.items()

    @contextlib.asynccontextmanager
    async def _sent(self, records: Iterable[OutputRecord]) -> AsyncIterator[None]:
        """Leave the block once the broker has all `records`.

        One that it refuses fails all that follow, those too that are still to be queued.
        """
        sent: list[_Sent] = []
        try:
            for topic, batch in self._batches(records):
                queued = await self._producer.send_batch(batch, topic, partition=self._outlet.partition)
                sent.append((topic, batch.record_count(), queued))
            yield
            await asyncio.gather(*(queued for _, _, queued in sent))
        except (KafkaError, IllegalOperation) as error:
            await asyncio.sleep(0)  # what aiokafka gives is a shield: it knows of a failure a turn of the loop later
            failures = [(topic, count, reason) for topic, count, queued in sent if (reason := _failure(queued))]
            for topic, count, reason in failures:
                if isinstance(reason, MessageSizeTooLargeError):
                    raise self._too_large(topic, count) from error
            if failures and isinstance(error, IllegalOperation):
                # It says no more than that there is no transaction any more: what ended it, the batches know.
                raise failures[0][2] from error
            raise

    def _too_large(self, topic: str, records: int) -> StreamerError:
        """Of so many records together."""
        if topic == self._outlet.topics.dead_letters:
            return self._outlet.refused()
        if records > 1 and self._outlet.knows_limits:  # which the next session asks for anew
            return BrokerError(f"topic {topic!r} takes smaller batches than it did")
        return ConfigError(
            f"a record is larger than topic {topic!r} takes: raise its max.message.bytes to {LARGEST_RECORD}, or lower"
            " limits.symbols or feed.window"
        )


class ExactlyOnce(_Producing):
    """Records and offset in one transaction."""

    def __init__(self, outlet: Outlet, group_id: str, transactional_id: str) -> None:
        super().__init__(outlet, transactional_id=transactional_id, transaction_timeout_ms=round(outlet.timeout * 1000))
        self._group_id = group_id
        self._is_open = False

    async def open(self) -> None:
        """Begin the transaction, and have the partition of the forecasts added to it: a round trip less afterwards."""
        await self._bounded(self._begin())
        self._add(self._outlet.topics.forecasts)
        for _ in range(_TURNS):
            await asyncio.sleep(0)

    async def _begin(self) -> None:
        if not self._is_open:
            await self._producer.begin_transaction()
            self._is_open = True

    def _add(self, topic: str) -> None:
        """As `send` does it, but for the record."""
        self._producer._txn_manager.maybe_add_partition_to_txn(TopicPartition(topic, self._outlet.partition))

    async def commit(self, records: Iterable[OutputRecord], offset: Offset | None) -> None:
        """One transaction. After BrokerError its fate is open: to go on, start a new producer and restore."""
        await self._bounded(self._transaction(records, offset))

    async def _transaction(self, records: Iterable[OutputRecord], offset: Offset | None) -> None:
        # No abort when this fails: with the broker away it would wait for ever, and the next producer's start aborts.
        await self._begin()
        try:
            async with self._sent(records):
                if offset is not None:
                    await self._producer.send_offsets_to_transaction(dict([offset]), self._group_id)
            await self._producer.commit_transaction()
        except IllegalOperation:
            ended = self._producer._txn_manager.wait_for_transaction_end()
            if ended.done():
                ended.result()  # raises what ended it, while the calls say no more than that there is none
            raise
        self._is_open = False

    async def abort_left(self, tp: TopicPartition) -> None:
        """One transaction, of which nothing becomes visible: the markers of its end are also that of the one before."""
        await self._bounded(self._aborted(tp))

    async def _aborted(self, tp: TopicPartition) -> None:
        await self._producer.begin_transaction()
        for topic in self._outlet.topics.outputs:
            self._add(topic)
        await self._producer.send_offsets_to_transaction({tp: OffsetAndMetadata(0, "")}, self._group_id)
        await self._producer.abort_transaction()


class AtLeastOnce(_Producing):
    """Output first, then snapshots, then the offset: what a snapshot holds has been published."""

    def __init__(self, outlet: Outlet, consumer: AIOKafkaConsumer) -> None:
        super().__init__(outlet)
        self._consumer = consumer

    async def open(self) -> None:
        """Nothing: there are no transactions of ours."""

    async def commit(self, records: Iterable[OutputRecord], offset: Offset | None) -> None:
        """Return once records and offset are acknowledged."""
        await self._bounded(self._in_order(list(records), offset))

    async def _in_order(self, records: Sequence[OutputRecord], offset: Offset | None) -> None:
        state = self._outlet.topics.state
        for part in ([r for r in records if r.topic != state], [r for r in records if r.topic == state]):
            if part:
                async with self._sent(part):
                    pass
        if offset is not None:
            await self._consumer.commit(dict([offset]))

    async def abort_left(self, tp: TopicPartition) -> None:
        """Nothing: there are no transactions of ours."""


def _append(batch: BatchBuilder, record: OutputRecord) -> bool:
    """Whether it has room for one more."""
    headers = list(record.headers)
    return batch.append(timestamp=None, key=record.key, value=record.value, headers=headers) is not None


def _failure(queued: asyncio.Future[Any]) -> BaseException | None:
    return queued.exception() if queued.done() and not queued.cancelled() else None
