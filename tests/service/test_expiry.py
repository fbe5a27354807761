"""A stream that has ended is dropped, by the log alone: whoever takes over, and however records came in batches."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import hypothesis
import pytest
from aiokafka import ConsumerRecord, TopicPartition
from aiokafka.structs import OffsetAndMetadata
from hypothesis import example, given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from streamer.codec import DecodeLimits
from streamer.core.settings import EngineSettings
from streamer.service import restore
from streamer.service.metrics import Metrics
from streamer.service.partition import Batch, Partition, PartitionSettings
from streamer.service.records import OutputRecord
from streamer.service.sink import Offset
from streamer.service.telemetry import Telemetry

TP = TopicPartition("prices", 0)
HOUR = 3_600_000
EXPIRE = 24 * HOUR


def settings(expire: int = EXPIRE, streams: int = 10, snapshot_every: int = 3) -> PartitionSettings:
    engine = EngineSettings(window=5, history=20, first=1000, every=0)
    limits = DecodeLimits(1000, 5, 10)
    return PartitionSettings(
        engine, limits, streams, 64, snapshot_every, "forecasts", "dead-letters", "state", "me", expire
    )


def partition(found: PartitionSettings) -> Partition:
    def load(stream: str, model_id: str) -> Any:
        raise AssertionError(f"{stream} has no model {model_id}")

    return Partition("prices", 0, found, load)


def record(offset: int, key: str, timestamp: int, price: float | None = 1.0, time: int | None = None) -> ConsumerRecord:
    """A tick of the stream `key`; its time is that of its record unless given."""
    value = json.dumps({"ts": timestamp if time is None else time, "prices": {"A": price}}).encode()
    name = key.encode()
    return ConsumerRecord("prices", 0, offset, timestamp, 0, name, value, None, len(name), len(value), ())


@dataclass
class Log:
    """The broker's side of one partition, in memory: what the restore reads, and what commits have left there."""

    records: list[ConsumerRecord]
    state: dict[str, bytes] = field(default_factory=dict)
    offset: OffsetAndMetadata | None = None
    published: dict[int, list[OutputRecord]] = field(default_factory=dict)
    settings: Any = field(
        default_factory=lambda: SimpleNamespace(
            start="earliest", delivery="exactly_once", topics=SimpleNamespace(state="state")
        )
    )

    def commit(self, partition: Partition, batch: Batch) -> None:
        """One transaction."""
        for each in batch.records:
            if each.topic == "state":
                self._keep(each)
        self.offset = restore.offset_to_commit(batch.next_offset, partition.replay_from(batch))
        partition.committed(batch)

    def _keep(self, snapshot: OutputRecord) -> None:
        assert snapshot.key is not None
        if snapshot.value is None:
            self.state.pop(snapshot.key.decode(), None)
        else:
            self.state[snapshot.key.decode()] = snapshot.value

    async def committed(self, tp: TopicPartition) -> OffsetAndMetadata | None:
        return self.offset

    async def offsets(self, tp: TopicPartition) -> tuple[int, int]:
        return 0, len(self.records)

    async def start_offset(self, tp: TopicPartition) -> int:
        return 0

    async def warm_offset(self, tp: TopicPartition, before: int) -> int:
        return 0

    async def snapshots(self, number: int, up_to: int | None = None) -> dict[str, bytes]:
        return dict(self.state)

    async def read(self, tp: TopicPartition, start: int, end: int) -> AsyncIterator[list[ConsumerRecord]]:
        for at in range(start, end, 4):
            yield self.records[at : min(at + 4, end)]


class FirstCommit:
    """Takes the first commit of a group."""

    def __init__(self, log: Log) -> None:
        self._log = log

    async def commit(self, records: Iterable[OutputRecord], offset: Offset | None) -> None:
        assert offset is not None
        self._log.offset = offset[1]

    async def start(self) -> None: ...

    async def open(self) -> None: ...

    async def abort_left(self, tp: TopicPartition) -> None: ...

    async def stop(self) -> None: ...


def restored(log: Log, found: PartitionSettings) -> Partition:
    """What a new owner makes of `log`."""
    new, consumer = partition(found), SimpleNamespace(seek=lambda tp, offset: None)
    broker: Any = log
    asyncio.run(restore.restore(broker, consumer, FirstCommit(log), TP, new, lambda: None))
    return new


def fed(found: Partition, records: list[ConsumerRecord]) -> Batch:
    """One batch of `records`, with its snapshots."""
    batch = Batch(0)
    for each in records:
        found.process(each, batch)
    found.save_due(batch)
    return batch


def outputs(records: list[OutputRecord]) -> list[tuple[bytes | None, bytes | None]]:
    """What subscribers see."""
    return [(each.key, each.value) for each in records if each.topic != "state"]


# --- when -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("idle", "is_dropped"), [(EXPIRE - 1, False), (EXPIRE, True)])
def test_a_stream_is_dropped_by_the_tick_of_another_once_it_has_been_idle_for_so_long(
    idle: int, is_dropped: bool
) -> None:
    found = partition(settings())
    batch = fed(found, [record(0, "old", HOUR), record(1, "other", HOUR + idle)])
    assert ("old" in found.streams) is not is_dropped
    assert batch.expired == (["old"] if is_dropped else [])
    tombstones = [each.key for each in batch.records if each.value is None]
    assert tombstones == ([b"old"] if is_dropped else [])


def test_zero_is_never() -> None:
    found = partition(settings(expire=0))
    fed(found, [record(0, "old", HOUR), record(1, "other", 10_000 * EXPIRE)])
    assert set(found.streams) == {"old", "other"}


def test_ticks_of_an_old_time_that_come_now_keep_their_stream() -> None:
    """A feed that replays the past beside a live one: the records' timestamps count, not the times in them."""
    found = partition(settings())
    fed(found, [record(n, "ab"[n % 2], HOUR + n, time=n * HOUR if n % 2 else n * 100 * EXPIRE) for n in range(8)])
    assert set(found.streams) == {"a", "b"}


def test_one_clock_that_is_far_ahead_drops_the_others_once_and_not_with_each_tick() -> None:
    """Kafka 4 refuses such a record, older brokers do not."""
    found = partition(settings())
    fed(found, [record(0, "a", HOUR), record(1, "wrong", 99 * EXPIRE)])
    assert set(found.streams) == {"wrong"}
    batch = fed(found, [record(2 + n, "ab"[n % 2], HOUR + n * 60_000) for n in range(6)])
    assert batch.expired == []
    assert len(found.streams["a"].engine.ring) == 3


def test_a_tick_that_is_refused_or_dropped_is_a_sign_of_life_too() -> None:
    found = partition(settings())
    fed(found, [record(0, "a", HOUR), record(1, "a", EXPIRE, price=None), record(2, "b", EXPIRE + 2 * HOUR)])
    assert set(found.streams) == {"a", "b"}


def test_rubbish_is_none() -> None:
    found = partition(settings())
    fed(found, [record(0, "a", HOUR), record(1, "a", EXPIRE, time=-1), record(2, "b", EXPIRE + 2 * HOUR)])
    assert set(found.streams) == {"b"}


def test_one_that_comes_back_begins_anew_and_its_snapshot_follows_the_tombstone() -> None:
    found = partition(settings())
    first = fed(found, [record(0, "a", HOUR, 5.0), record(1, "a", 2 * HOUR, 6.0)])
    alone = fed(partition(settings()), [record(2, "a", 2 * HOUR + EXPIRE, 7.0)])
    again = fed(found, [record(2, "a", 2 * HOUR + EXPIRE, 7.0)])
    assert len(outputs(first.records)) == 2
    assert outputs(again.records) == outputs(alone.records)
    assert [each.value is None for each in again.records if each.topic == "state"] == [True, False]
    assert len(found.streams["a"].engine.ring) == 1


def test_a_dropped_stream_makes_room_below_the_limit_at_once() -> None:
    found = partition(settings(streams=1))
    batch = fed(found, [record(0, "a", HOUR), record(1, "b", 2 * HOUR), record(2, "b", HOUR + EXPIRE)])
    assert [each.topic for each in batch.records] == ["forecasts", "dead-letters", "state", "forecasts", "state"]
    assert set(found.streams) == {"b"}


def test_a_batch_in_which_a_stream_ticks_and_expires_saves_no_snapshot_of_it() -> None:
    """It would stand behind the tombstone, and the stream would be back with the next owner."""
    found, log = partition(settings()), Log([record(0, "a", HOUR), record(1, "b", HOUR + EXPIRE)])
    log.commit(found, fed(found, log.records))
    assert set(log.state) == {"b"}
    assert set(restored(log, settings()).streams) == {"b"}


# --- whoever takes over -----------------------------------------------------------------------------------------------

ticks = st.lists(
    st.tuples(st.sampled_from("abcd"), st.sampled_from([0, 1, HOUR, EXPIRE // 3, EXPIRE]), st.integers(-HOUR, 0)),
    min_size=1,
    max_size=25,
)
plans = st.lists(st.tuples(st.integers(1, 6), st.booleans()), min_size=25, max_size=25)
"""How many records each batch has, and whether the owner dies after it."""


SEATED = [("a", 0, 0), ("b", 0, 0), ("a", EXPIRE, -1), ("c", 0, -1), ("a", 0, 0)]
"""c is refused for want of a seat just before b leaves one."""


@hypothesis.settings(deadline=None)
@example(SEATED, [(1, False)] * 24 + [(1, True)], 3, 2)
@given(ticks, plans, st.integers(1, 4), st.sampled_from([2, 10]))
def test_outputs_and_streams_are_those_of_an_owner_who_never_stopped(
    drawn: list[tuple[str, int, int]], plan: list[tuple[int, bool]], snapshot_every: int, streams: int
) -> None:
    """Whatever the batches are and after whichever an owner dies; timestamps are out of order by up to an hour."""
    found = settings(snapshot_every=snapshot_every, streams=streams)
    records, now = [], 10 * HOUR
    for offset, (key, step, disorder) in enumerate(drawn):
        now += step
        records.append(record(offset, key, now + disorder, 1.0 + offset))
    undisturbed = partition(found)
    expected = fed(undisturbed, records)

    log, published = Log(records), []
    owner = restored(log, found)
    at = 0
    for size, dies in plan:
        batch = fed(owner, records[at : at + size])
        if batch.steps or batch.expired:
            log.commit(owner, batch)
            published += batch.records
        at += size
        if dies:
            owner = restored(log, found)
    assert outputs(published) == outputs(expected.records)
    assert {s.name: s.seen for s in owner.streams.values()} == {s.name: s.seen for s in undisturbed.streams.values()}
    assert owner.newest == undisturbed.newest


def test_what_a_broker_that_is_away_has_undone_is_expired_again() -> None:
    log = Log([record(0, "a", HOUR), record(1, "b", HOUR + EXPIRE)])
    owner = restored(log, settings())
    log.commit(owner, fed(owner, log.records[:1]))
    lost = fed(owner, log.records[1:])
    assert lost.expired == ["a"]
    again = fed(restored(log, settings()), log.records[1:])
    assert again.records == lost.records


def test_an_offset_without_a_note_of_the_newest_timestamp_is_read_as_before_there_was_one() -> None:
    noted = restore.replay_noted(OffsetAndMetadata(7, '{"replay_from": 3}'))
    assert noted is not None
    assert (noted.offset, noted.newest) == (3, 0)
    for metadata in ("", "[]", '{"replay_from": 8}', '{"replay_from": "3"}', '{"replay_from": 3, "newest": "x"}'):
        assert restore.replay_noted(OffsetAndMetadata(7, metadata)) is None


# --- what is seen of it -----------------------------------------------------------------------------------------------


def test_all_series_of_a_dropped_stream_are_removed_and_those_of_one_that_is_back_stay() -> None:
    registry = CollectorRegistry()
    telemetry, found = Telemetry(Metrics(registry)), partition(settings())
    for records in (
        [record(0, "gone", HOUR), record(1, "back", HOUR)],
        [record(2, "back", HOUR + EXPIRE)],
    ):
        telemetry.committed(found, fed(found, records), [], 0.0, None)
    streams = {sample.labels.get("stream") for family in registry.collect() for sample in family.samples}
    assert streams - {None} == {"back"}
