import asyncio
from collections.abc import Awaitable, Callable
from typing import Any
from unittest.mock import AsyncMock, Mock

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import KafkaError, UnknownError

from streamer.service.group import Group
from streamer.service.sink import FencedError
from streamer.service.takeovers import Takeovers

TP = TopicPartition("prices", 0)


class Worker:
    """Does `work` until it ends, or until it is stopped."""

    def __init__(self, work: Callable[[], Awaitable[Any]]) -> None:
        self._work = work
        self._stopped = asyncio.Event()

    def __str__(self) -> str:
        return "prices-0"

    async def run(self) -> None:
        ends = [asyncio.ensure_future(each) for each in (self._work(), self._stopped.wait())]
        done, pending = await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        for each in pending:
            each.cancel()
        await done.pop()

    def stop(self) -> None:
        self._stopped.set()


def group_of(work: Callable[[], Awaitable[Any]]) -> Group:
    worker: Any = Worker(work)
    group = Group(lambda tp, consumer: worker, Mock(), Takeovers(30.0, is_static=True), revoke_timeout=5.0)
    group.consumer = Mock()
    return group


async def forever() -> None:
    await asyncio.Event().wait()


async def at_once() -> None:
    return


async def cancelled() -> None:
    raise asyncio.CancelledError


async def failing() -> None:
    raise ValueError("three ticks in a row")


@pytest.mark.parametrize(
    ("work", "reason"),
    [(at_once, "prices-0 ended by itself"), (cancelled, "prices-0 ended by itself"), (failing, "three ticks in a row")],
)
async def test_a_worker_that_ends_unasked_is_a_failure_however_it_ends(
    work: Callable[[], Awaitable[Any]], reason: str
) -> None:
    """Or its partition would stay silent in a process that looks well."""
    group = group_of(work)
    await group.on_partitions_assigned([TP])
    async with asyncio.timeout(5):
        await group.failed.wait()
    assert reason in str(group.failure)


async def test_a_worker_that_ends_when_asked_to_is_none() -> None:
    group = group_of(forever)
    await group.on_partitions_assigned([TP])
    await group.stop_workers()
    assert group.failure is None


async def test_one_that_is_fenced_while_it_is_given_up_is_no_reason_to_leave_the_group(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its partition has gone to the next owner, as it was to. To leave would begin yet another rebalance."""
    given_up = asyncio.Event()

    async def fenced() -> None:
        await given_up.wait()
        raise FencedError("taken over")

    group = group_of(fenced)
    await group.on_partitions_assigned([TP])
    (worker,) = group.workers
    monkeypatch.setattr(worker, "stop", given_up.set)
    await group.on_partitions_revoked([TP])
    assert group.failure is None
    assert not group.failed.is_set()


async def test_an_assignment_that_arrives_while_the_group_is_being_left_starts_nobody() -> None:
    """A rebalance is ended before the connection is. Such a worker would be stopped by nobody, and fence the next."""
    group = group_of(forever)
    await group.leave()
    await group.on_partitions_assigned([TP])
    assert not group.workers


async def test_a_member_is_joining_until_it_is_assigned_something_or_nothing_and_after_each_revocation() -> None:
    group = group_of(forever)
    seen = [(group.is_joining, group.was_joined)]
    for assigned in ([], [TP]):
        await group.on_partitions_assigned(assigned)
        seen.append((group.is_joining, group.was_joined))
        await group.on_partitions_revoked(assigned)
        seen.append((group.is_joining, group.was_joined))
    assert seen == [(True, False), (False, True), (True, True), (False, True), (True, True)]


async def test_a_member_without_partitions_hears_the_coordinators_errors_and_takes_no_records(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Or it would never join again: aiokafka waits for somebody to fetch, and no worker does."""
    monkeypatch.setattr("streamer.service.group._ATTEND_SECONDS", 0.0)
    group = group_of(forever)
    errors = [KafkaError("the broker is away"), KafkaError(repr(UnknownError()))]
    group.consumer = Mock(getmany=AsyncMock(side_effect=[{}, *errors]))
    with pytest.raises(KafkaError, match="UnknownError"):
        await group.attend()
    (partition,) = group.consumer.getmany.call_args.args
    assert partition != TP


async def test_a_member_whose_place_another_process_takes_again_and_again_gives_way_and_joins_no_more() -> None:
    """Or it would displace the other once more, which would then give way too."""
    group = group_of(forever)
    await group.on_partitions_assigned([])
    for _ in range(5):
        await group.on_partitions_revoked([])
    group.consumer = Mock(_coordinator=Mock(member_id=""))
    for _ in range(5):
        await group.on_partitions_revoked([])
    assert not group.failed.is_set()
    with pytest.raises(asyncio.CancelledError):
        await group.on_partitions_revoked([])
    assert isinstance(group.failure, FencedError)
    assert group.failed.is_set()
