"""Kafka as the daemon sees it: clients with every setting explicit, topics checked, offsets and records looked up."""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterable
from typing import Any

import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.abc import ConsumerRebalanceListener
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.errors import IncompatibleBrokerVersion, KafkaError, TopicAlreadyExistsError, for_code
from aiokafka.structs import OffsetAndMetadata

from streamer.errors import BrokerError, ConfigError, StreamerError
from streamer.service import offsets
from streamer.service.access import Access
from streamer.service.records import LARGEST_DEAD_LETTER, NEXT_OFFSET, SMALLEST_DEAD_LETTER
from streamer.service.sink import LARGEST_RECORD, AtLeastOnce, ExactlyOnce, Outlet, Sink
from streamer.service.waiting import set_within
from streamer.settings.kafka import Kafka

log = structlog.get_logger(__name__)

_READ_MS = 500
_READ_RECORDS = 500
_READ_STALL = 30.0  # seconds without any progress before a read is given up
_BATCH = 512 * 1024  # bytes of records that are sent together: a request each, one after the other
_UNKNOWN_BATCH = 16 * 1024  # where it is not known what a topic takes: as Kafka's own producer does
_LIMIT = "max.message.bytes"
_OUTPUT_CONFIGS = {_LIMIT: str(LARGEST_RECORD)}
_STATE_CONFIGS = _OUTPUT_CONFIGS | {
    "cleanup.policy": "compact",
    "segment.bytes": str(16 * 2**20),  # small segments: only closed ones are compacted, and a restore reads the rest
    "min.cleanable.dirty.ratio": "0.1",
}


class Broker:
    """The way to one Kafka cluster. `input_span`: ms of event time that a full history reaches back.

    Raises ConfigError where a certificate or the password is missing or of no use.
    """

    def __init__(self, settings: Kafka, input_span: int) -> None:
        self.settings = settings
        self.input_span = input_span
        self._access = Access(settings)
        self._admin: AIOKafkaAdminClient | None = None
        self._largest: dict[str, int] = {}
        self._assumed = LARGEST_DEAD_LETTER

    def _connection(self) -> dict[str, Any]:
        return {**self._access.options(), "client_id": self.settings.group_id}

    # --- start and stop -------------------------------------------------------------------------------------------

    async def connect(self, stop: asyncio.Event) -> None:
        """Wait for the broker, at most `kafka.startup_timeout`, or until `stop`.

        BrokerError names it. ConfigError, at once, where it refuses us: that no wait would mend.
        """
        deadline = time.monotonic() + self.settings.startup_timeout
        delay = 0.2
        while not stop.is_set():
            admin = AIOKafkaAdminClient(**self._connection())
            try:
                await self._access.check()
                await admin.start()
            except ConfigError:
                await admin.close()
                raise
            except (BrokerError, KafkaError, OSError, TimeoutError) as error:
                await admin.close()
                if time.monotonic() + delay > deadline:
                    raise BrokerError(
                        f"no Kafka broker answers at {self.settings.bootstrap_servers} "
                        f"(kafka.bootstrap_servers) after {self.settings.startup_timeout:g} s: {error}"
                    ) from error
                log.warning("waiting for the broker", servers=self.settings.bootstrap_servers, error=str(error))
                await set_within(stop, delay)
                delay = min(2 * delay, 5.0)
            else:
                self._admin = admin
                return

    async def refusal(self) -> str | None:
        """Why the broker refuses us while we run; None where it does not, or is away."""
        return await self._access.refusal()

    async def close(self) -> None:
        """Disconnect."""
        if self._admin is not None:
            await self._admin.close()
            self._admin = None

    @property
    def admin(self) -> AIOKafkaAdminClient:
        """The connected admin client."""
        if self._admin is None:
            raise RuntimeError("connect() comes first")
        return self._admin

    async def answers(self) -> bool:
        """Whether one of the brokers is there and lets us in; the admin client would ask any, and give up with it."""
        try:
            async with asyncio.timeout(self.settings.transaction_timeout):
                await self._access.check()
        except (BrokerError, ConfigError, TimeoutError):
            return False
        return True

    # --- clients --------------------------------------------------------------------------------------------------

    def group_consumer(self, listener: ConsumerRebalanceListener) -> AIOKafkaConsumer:
        """The member of the group: its position is set by the partition workers alone."""
        settings = self.settings
        consumer = AIOKafkaConsumer(
            **self._connection(),
            group_id=settings.group_id,
            group_instance_id=settings.instance_id,
            enable_auto_commit=False,
            auto_offset_reset="none",
            isolation_level="read_committed",
            session_timeout_ms=round(settings.session_timeout * 1000),
            heartbeat_interval_ms=max(1, round(settings.session_timeout * 1000 / 10)),
            max_poll_interval_ms=600_000,
            partition_assignment_strategy=(RangePartitionAssignor,),
        )
        consumer.subscribe([settings.topics.prices], listener=listener)
        return consumer

    @property
    def largest_dead_letter(self) -> int:
        """Bytes of a dead letter at most, with its headers and framing, as its topic stood at the last check."""
        return min(self._largest.get(self.settings.topics.dead_letters, self._assumed), LARGEST_RECORD)

    def _refused_dead_letter(self) -> StreamerError:
        """What to do about a dead letter that its topic does not take: ask for the limit again, or assume less.

        A dead letter that is refused for ever would stop its partition.
        """
        topic = self.settings.topics.dead_letters
        if topic not in self._largest:
            if self._assumed == SMALLEST_DEAD_LETTER:
                return self._no_room(f"less than {SMALLEST_DEAD_LETTER} bytes")
            self._assumed = max(SMALLEST_DEAD_LETTER, self._assumed // 2)
        return BrokerError(f"topic {topic!r} takes smaller dead letters than it was thought to")

    def _no_room(self, takes: str) -> ConfigError:
        return ConfigError(
            f"topic {self.settings.topics.dead_letters!r} takes {takes}: raise its max.message.bytes to"
            f" {SMALLEST_DEAD_LETTER} or more, which the headers of a dead letter need"
        )

    def sink(self, tp: TopicPartition, consumer: AIOKafkaConsumer) -> Sink:
        """The way out for the input partition `tp`."""
        settings = self.settings
        # A topic's limit is one of batches: several records together must not exceed what each keeps.
        limits = [self._largest.get(topic) for topic in settings.topics.outputs]
        batch = min(_BATCH, self.largest_dead_letter, *(limit or _UNKNOWN_BATCH for limit in limits))
        outlet = Outlet(
            tp.partition,
            settings.transaction_timeout,
            settings.topics,
            self._refused_dead_letter,
            all(limits),
            {"max_batch_size": batch, **self._connection()},
        )
        if settings.delivery == "at_least_once":
            return AtLeastOnce(outlet, consumer)
        return ExactlyOnce(outlet, settings.group_id, f"{settings.group_id}.{tp.topic}.{tp.partition}")

    # --- topics ---------------------------------------------------------------------------------------------------

    async def check_topics(self) -> int:
        """Create the output topics that are missing, where allowed; returns the input's number of partitions.

        ConfigError where a topic is missing, has fewer partitions than the input, or no room for a dead letter.
        """
        topics = self.settings.topics
        counts = await self.partition_counts()
        if topics.prices not in counts:
            raise ConfigError(
                f"topic {topics.prices!r} (kafka.topics.prices) does not exist at {self.settings.bootstrap_servers}: "
                "create it, or let `streamer feed` do so"
            )
        partitions = counts[topics.prices]
        if missing := [topic for topic in topics.outputs if topic not in counts]:
            if not self.settings.create_topics:
                raise ConfigError(
                    f"topic {missing[0]!r} does not exist: create it with {partitions} partitions, "
                    "or set kafka.create_topics"
                )
            await self.create_topics(missing, partitions)
            counts |= dict.fromkeys(missing, partitions)
        for topic in topics.outputs:
            if counts[topic] < partitions:
                raise ConfigError(
                    f"topic {topic!r} has {counts[topic]} partitions, the input {topics.prices!r} has {partitions}: "
                    f"give it as many, since output goes to the partition number of its input"
                )
        self._largest = await self._largest_batches(topics.outputs)
        if self.largest_dead_letter < SMALLEST_DEAD_LETTER:
            raise self._no_room(f"{self.largest_dead_letter} bytes at most")
        return partitions

    async def _largest_batches(self, topics: Iterable[str]) -> dict[str, int]:
        """`max.message.bytes` by topic, where the broker tells: a mock does not, nor one that does not permit it."""
        resources = [ConfigResource(ConfigResourceType.TOPIC, topic, {_LIMIT: None}) for topic in topics]
        try:
            answers = await self.admin.describe_configs(resources)
        except IncompatibleBrokerVersion:
            return {}
        return {
            topic: int(entry[1])
            for answer in answers
            for code, _, _, topic, entries in answer.resources
            for entry in entries
            if not code and entry[0] == _LIMIT
        }

    async def partition_counts(self) -> dict[str, int]:
        """Number of partitions of each of our topics that exists."""
        names = set(await self.admin.list_topics())
        topics = self.settings.topics
        ours = [t for t in (topics.prices, topics.forecasts, topics.state, topics.dead_letters) if t in names]
        described = await self.admin.describe_topics(ours) if ours else []
        return {topic["topic"]: len(topic["partitions"]) for topic in described}

    async def create_topics(self, names: list[str], partitions: int) -> None:
        """Create topics with `partitions` each; one that exists meanwhile is fine. ConfigError where refused."""
        new = [self._new_topic(name, partitions) for name in names]
        response = await self.admin.create_topics(new)
        for name, code, *message in response.topic_errors:
            error = for_code(code)
            if code and error is not TopicAlreadyExistsError:
                detail = next((text for text in message if text), error.__name__)
                raise ConfigError(f"topic {name!r} cannot be created: {detail}; create it with {partitions} partitions")
        log.info("topics created", topics=names, partitions=partitions)

    def _new_topic(self, name: str, partitions: int) -> NewTopic:
        topics = self.settings.topics
        configs = {topics.prices: {}, topics.state: _STATE_CONFIGS}.get(name, _OUTPUT_CONFIGS)
        topic = NewTopic(name, partitions, self.settings.replication_factor or 1, topic_configs=configs)
        if self.settings.replication_factor is None:
            topic.replication_factor = -1  # the broker's default (KIP-464), which the constructor does not let pass
        return topic

    # --- offsets --------------------------------------------------------------------------------------------------

    async def committed(self, tp: TopicPartition) -> OffsetAndMetadata | None:
        """The next offset that the group has committed, None before its first commit.

        UnstableOffsetError where records and offsets go together, and a transaction is open.
        """
        is_fenced = self.settings.delivery == "exactly_once"
        return await offsets.committed(self.admin, self.settings.group_id, tp, require_stable=is_fenced)

    async def offsets(self, tp: TopicPartition) -> tuple[int, int]:
        """First offset held and the one behind the last, as a `read_committed` reader sees them."""
        async with self._reader(tp) as reader:
            first = await reader.beginning_offsets([tp])
            end = await reader.end_offsets([tp])
            return first[tp], end[tp]

    async def high_watermark(self, tp: TopicPartition) -> int:
        """The offset behind the last record of all, those of open transactions too."""
        async with self._reader(tp, isolation="read_uncommitted") as reader:
            return int((await reader.end_offsets([tp]))[tp])

    async def start_offset(self, tp: TopicPartition) -> int:
        """Where a group without committed offsets begins, by `kafka.start`."""
        first, end = await self.offsets(tp)
        if self.settings.start == "earliest":
            return first
        if self.settings.start_time is not None:
            return await self._offset_at(tp, self.settings.start_time, end)
        return end

    async def warm_offset(self, tp: TopicPartition, before: int) -> int:
        """An offset from which on a full history lies before the offset `before`."""
        first, _ = await self.offsets(tp)
        start, last = before, None
        while last is None:  # behind the last record may stand what is none: the markers of transactions
            if start <= first:
                return before
            start = max(first, before - 1 - 10 * (before - start))
            async for records in self.read(tp, start, before):
                last = records[-1]
        return min(before, await self._offset_at(tp, last.timestamp - self.input_span, first))

    async def _offset_at(self, tp: TopicPartition, timestamp: int, otherwise: int) -> int:
        async with self._reader(tp) as reader:
            found = (await reader.offsets_for_times({tp: max(0, timestamp)}))[tp]
        return otherwise if found is None else int(found.offset)

    # --- records --------------------------------------------------------------------------------------------------

    async def read(self, tp: TopicPartition, start: int, end: int) -> AsyncGenerator[list[ConsumerRecord]]:
        """Committed records of `[start, end)` in some batches; what retention took is left out."""
        if start >= end:
            return
        async with self._reader(tp, start) as reader:
            async for records in _batches(reader, tp, end):
                yield records

    async def snapshots(self, partition: int, up_to: int | None = None) -> dict[str, bytes]:
        """The newest snapshot of each stream of an input partition.

        That is the last; with `up_to` the one that holds most of what lies before that offset. At least once, nobody is
        fenced, and what a zombie had under way arrives behind the new owner's.
        """
        tp = TopicPartition(self.settings.topics.state, partition)
        first, end = await self.offsets(tp)
        newest: dict[str, tuple[int, bytes]] = {}
        async for records in self.read(tp, first, end):
            for record in records:
                name = (record.key or b"").decode(errors="replace")
                rank = 0 if up_to is None else _held(record, up_to)
                if record.value is None:
                    newest.pop(name, None)
                elif name not in newest or rank >= newest[name][0]:
                    newest[name] = rank, record.value
        return {name: value for name, (_, value) in newest.items()}

    def _reader(self, tp: TopicPartition, start: int | None = None, isolation: str = "read_committed") -> "_Reader":
        consumer = AIOKafkaConsumer(
            **self._connection(),
            group_id=None,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            isolation_level=isolation,
        )
        return _Reader(consumer, tp, start)


class _Reader:
    """A consumer of one partition outside the group, for the time of a `with` block."""

    def __init__(self, consumer: AIOKafkaConsumer, tp: TopicPartition, start: int | None) -> None:
        self._consumer = consumer
        self._tp = tp
        self._start = start

    async def __aenter__(self) -> AIOKafkaConsumer:
        try:
            await self._consumer.start()
        except BaseException:
            await stop_consumer(self._consumer)
            raise
        self._consumer.assign([self._tp])
        if self._start is not None:
            self._consumer.seek(self._tp, self._start)
        return self._consumer

    async def __aexit__(self, *_: object) -> None:
        await stop_consumer(self._consumer)


async def stop_consumer(consumer: AIOKafkaConsumer) -> None:
    """Leave the group, if any, and disconnect.

    aiokafka cancels its fetches, and with the broker away lets the CancelledError of one of them out: a caller that
    nobody has cancelled would end silently, and the connections stay.
    """
    try:
        await consumer.stop()
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        await consumer._client.close()


async def _batches(reader: AIOKafkaConsumer, tp: TopicPartition, end: int) -> AsyncIterator[list[ConsumerRecord]]:
    """Records before `end`; the position also crosses transaction markers, which are no records."""
    position, moved = await reader.position(tp), time.monotonic()
    while position < end:
        found = await reader.getmany(tp, timeout_ms=_READ_MS, max_records=_READ_RECORDS)
        if records := [record for record in found.get(tp, ()) if record.offset < end]:
            yield records
        now_at = await reader.position(tp)
        if now_at != position:
            position, moved = now_at, time.monotonic()
        elif time.monotonic() - moved > _READ_STALL:
            raise BrokerError(f"{tp.topic}-{tp.partition}: no record for {_READ_STALL:g} s at {position} of {end}")


def _held(record: ConsumerRecord, up_to: int) -> int:
    """The next offset of a snapshot; -1 if it is beyond `up_to`, 0 if its record does not say."""
    held = int(dict(record.headers).get(NEXT_OFFSET, b"0"))
    return held if held <= up_to else -1
