"""Bring a partition to its committed offset, as a new owner and after a failed transaction alike.

The committed offset is the one truth for the position. Snapshots are older than it; the offset's metadata names the
offset from which they must be replayed, output suppressed, to be as they were.
"""

import asyncio
import contextlib
import json
from collections.abc import Callable

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.structs import OffsetAndMetadata

from streamer.core.snapshot import NewerSnapshotError
from streamer.errors import ConfigError, SnapshotError
from streamer.service.broker import Broker
from streamer.service.burst import process_all
from streamer.service.history import load_history
from streamer.service.offsets import UnstableOffsetError
from streamer.service.partition import Batch, Partition, Replay
from streamer.service.records import OutputRecord
from streamer.service.sink import Sink

log = structlog.get_logger(__name__)


def offset_to_commit(next_offset: int, replay: Replay) -> OffsetAndMetadata:
    """The next offset to read, which names where a new owner must begin to replay."""
    return OffsetAndMetadata(next_offset, json.dumps({"replay_from": replay.offset, "newest": replay.newest}))


def replay_noted(committed: OffsetAndMetadata) -> Replay | None:
    """What `offset_to_commit` noted; None where nothing was kept (librdkafka's mock cluster keeps no metadata)."""
    try:
        noted = json.loads(committed.metadata)
        offset, newest = noted["replay_from"], noted.get("newest", 0)
    except (ValueError, TypeError, KeyError, AttributeError):
        return None
    if not (isinstance(offset, int) and isinstance(newest, int) and 0 <= offset <= committed.offset):
        return None
    return Replay(offset, newest)


async def restore(
    broker: Broker,
    consumer: AIOKafkaConsumer,
    sink: Sink,
    tp: TopicPartition,
    partition: Partition,
    progress: Callable[[], None],
) -> int:
    """Restore all streams of `tp`; returns the committed offset, at which `consumer` stands.

    progress: called again and again, since reading back a long log takes a while.
    """
    committed = await _committed(broker, sink, tp)
    _, end = await broker.offsets(tp)
    if committed is None:
        left = await _left_snapshots(broker, tp, partition, end)
        begin = await broker.start_offset(tp)
        replay = Replay(await broker.warm_offset(tp, begin) if broker.settings.start == "warm" else begin)
        # A crash before the first tick must not move the beginning.
        committed = offset_to_commit(begin, replay)
        await sink.commit(left, (tp, committed))
    elif committed.offset > end:
        raise made_anew(tp, end, committed.offset)
    else:
        replay = await _read_snapshots(broker, tp, partition, committed)
    if partition.schedules is not None:
        await load_history(broker, tp, partition)  # a scheduled swap replays it
    partition.newest = replay.newest
    async for records in broker.read(tp, replay.offset, committed.offset):
        await partition.prepare(records)
        unseen = Batch(replay.offset)  # what comes of these records was published before
        for _ in process_all(partition, records, unseen):
            pass
        progress()
        await asyncio.sleep(0)
    for stream in partition.streams.values():
        if not stream.held or stream.began < 0:
            # Read back to begin with, rebuilt, or put back in part: what it does from here on depends on that.
            stream.begin_anew(int(committed.offset))
    consumer.seek(tp, committed.offset)
    return int(committed.offset)


async def _committed(broker: Broker, sink: Sink, tp: TopicPartition) -> OffsetAndMetadata | None:
    """What the group has committed, once and for all: since `sink` has started, no transaction of ours is open."""
    try:
        return await broker.committed(tp)
    except UnstableOffsetError:
        log.warning(
            "the broker has forgotten to end a transaction, which is aborted now",
            partition=f"{tp.topic}-{tp.partition}",
        )
        await sink.abort_left(tp)
        return await broker.committed(tp)


def made_anew(tp: TopicPartition, end: int, offset: int) -> ConfigError:
    """The topic ends before an offset that we have dealt with. Only the operator knows what is to be done."""
    return ConfigError(
        f"{tp.topic}-{tp.partition} ends at offset {end}, but offset {offset} is committed: the topic was made anew "
        "and forecast ids would repeat; use another kafka.group_id and kafka.topics.state"
    )


async def _left_snapshots(broker: Broker, tp: TopicPartition, partition: Partition, end: int) -> list[OutputRecord]:
    """What a group that has committed nothing may find: nothing of others, which it would overwrite.

    Returns the records that remove what it left itself, before its offsets expired or were deleted.
    """
    left = []
    for name, snapshot in (await broker.snapshots(tp.partition)).items():
        with contextlib.suppress(SnapshotError):
            if (held := await _put_back(partition, name, snapshot)) > end:
                raise made_anew(tp, end, held)
            left.append(OutputRecord(broker.settings.topics.state, name.encode(), None))
    if left:
        log.warning(
            "the group's offsets are gone: it begins as kafka.start says", partition=partition.name, streams=len(left)
        )
        partition.streams.clear()
    return left


async def _read_snapshots(
    broker: Broker, tp: TopicPartition, partition: Partition, committed: OffsetAndMetadata
) -> Replay:
    """Put back every stream that has a snapshot; returns from where to replay."""
    noted = replay_noted(committed)
    is_ours = noted is not None
    is_fenced = broker.settings.delivery == "exactly_once"
    up_to = committed.offset if is_ours and not is_fenced else None
    held = []
    for name, snapshot in (await broker.snapshots(tp.partition, up_to)).items():
        try:
            held.append(await _put_back(partition, name, snapshot))
            if held[-1] > committed.offset and not is_ours:
                del partition.streams[name]
                raise SnapshotError(f"it holds offset {held[-1] - 1}, and somebody has set the group's offset back")
        except SnapshotError as error:
            log.error("snapshot refused, the stream is rebuilt from the log", stream=name, reason=str(error))
            held.append(await broker.warm_offset(tp, committed.offset))
            noted = None
    return Replay(min(held, default=committed.offset)) if noted is None else noted


async def _put_back(partition: Partition, name: str, snapshot: bytes) -> int:
    """Returns the offset that follows what the stream holds. A model store that is slow must not stop all else."""
    try:
        stream = await asyncio.to_thread(partition.restored, name, snapshot)
    except NewerSnapshotError as error:
        raise ConfigError(f"stream {name!r}: {error}") from error
    partition.streams[name] = stream
    return stream.held
