import asyncio
import threading
from typing import Any
from unittest.mock import AsyncMock, Mock

import pytest
from aiokafka import TopicPartition

from streamer.core import checkpoint
from streamer.errors import BrokerError
from streamer.service.history import load_history
from streamer.service.partition import Replay
from streamer.service.restore import offset_to_commit, restore
from tests.service.test_read_back import Log, partition, record, snapshots

TP = TopicPartition("prices", 0)


def broker_that_fails_to_read_back() -> Any:
    return Mock(
        committed=AsyncMock(return_value=offset_to_commit(5, Replay(5))),
        offsets=AsyncMock(return_value=(0, 9)),
        snapshots=AsyncMock(return_value={"one": b""}),
        warm_offset=AsyncMock(side_effect=BrokerError("it is away")),
    )


def partition_behind(schedules: Any) -> Any:
    """One stream that was restored from its snapshot, without the ticks from before it."""
    stream = Mock(history_complete=False, held=5, restored=5, restored_ticks=0)
    stream.engine.settings.history = 10
    stream.engine.symbols = ("a",)
    return Mock(streams={"one": stream}, schedules=schedules, restored=Mock(return_value=stream))


async def test_a_history_that_cannot_be_read_is_not_taken_for_complete() -> None:
    """Trainings wait for it, and a later attempt may read it."""
    partition = partition_behind(schedules=None)
    with pytest.raises(BrokerError, match="it is away"):
        await load_history(broker_that_fails_to_read_back(), TP, partition)
    assert not partition.streams["one"].history_complete


async def test_without_the_history_that_scheduled_swaps_replay_nothing_is_served() -> None:
    """Or the ticks at which they are due would go to the dead letters as errors of ours."""
    partition = partition_behind(schedules={"one": []})
    with pytest.raises(BrokerError, match="it is away"):
        await restore(broker_that_fails_to_read_back(), Mock(), Mock(), TP, partition, lambda: None)
    partition.process.assert_not_called()


async def test_while_a_stream_is_put_back_all_else_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its model may lie in a store that is slow: heartbeats, the other partitions, and livez do not wait for it."""
    went_on = threading.Event()

    def loading(*arguments: Any) -> Any:
        assert went_on.wait(5), "the event loop stood still"
        return checkpoint_restore(*arguments)

    checkpoint_restore = checkpoint.restore
    monkeypatch.setattr(checkpoint, "restore", loading)
    records = [record(offset, "a") for offset in range(5)]
    broker = broker_that_fails_to_read_back()
    broker.snapshots.return_value = snapshots(records)
    broker.read = Log(records, iter(())).read
    found = partition()
    restoring = asyncio.create_task(restore(broker, Mock(), Mock(), TP, found, lambda: None))
    while not broker.snapshots.await_count:
        await asyncio.sleep(0)
    went_on.set()
    assert await restoring == 5
    assert set(found.streams) == {"a"}
