"""Membership of the consumer group: partitions come and go, and a worker with each."""

import asyncio
import time
from collections.abc import Callable, Iterable
from functools import partial

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.abc import ConsumerRebalanceListener
from aiokafka.errors import KafkaError, UnknownError

from streamer.errors import StreamerError
from streamer.service.events import Events
from streamer.service.sink import FencedError
from streamer.service.takeovers import Takeovers
from streamer.service.worker import PartitionWorker

log = structlog.get_logger(__name__)

_ATTEND_SECONDS = 1.0
_NO_PARTITION = TopicPartition("", -1)  # a fetch of none, or it would take records from the workers

NewWorker = Callable[[TopicPartition, AIOKafkaConsumer], PartitionWorker]


def is_nameless(error: KafkaError) -> bool:
    """Whether aiokafka has no name for an answer of the group: FENCED_INSTANCE_ID is one of these."""
    return UnknownError.__name__ in str(error)


class Group(ConsumerRebalanceListener):
    """Starts a worker for each partition assigned, and ends it before the partition goes to another member.

    aiokafka logs and swallows what a listener raises, so this one raises nothing: a worker that fails sets `failed`,
    which the daemon waits for. revoke_timeout: seconds for the workers to commit their last batch; one that is slower
    is cancelled, and its open transaction is aborted by the next owner's producer. is_joining: it has no assignment,
    not even of nothing, at the moment. was_joined: it has had one.
    """

    def __init__(self, new_worker: NewWorker, events: Events, takeovers: Takeovers, revoke_timeout: float) -> None:
        self.failed = asyncio.Event()
        self.failure: BaseException | None = None
        self.consumer: AIOKafkaConsumer | None = None
        self._new_worker = new_worker
        self._events = events
        self._takeovers = takeovers
        self._revoke_timeout = revoke_timeout
        self._running: dict[PartitionWorker, asyncio.Task[None]] = {}
        self._leaving = False
        self.is_joining = True
        self.was_joined = False

    @property
    def workers(self) -> tuple[PartitionWorker, ...]:
        """Those that serve now."""
        return tuple(self._running)

    async def attend(self) -> None:
        """Hear what the coordinator has to say, with and without partitions; KafkaError where it names no reason.

        aiokafka tells errors to whoever fetches, and joins no group before somebody has heard them; having been heard,
        it goes on by itself. A member that has not fetched for max_poll_interval_ms it takes for stuck, and leaves the
        group for good. A member without partitions has no worker that would fetch.
        """
        assert self.consumer is not None
        while True:
            try:
                await self.consumer.getmany(_NO_PARTITION, timeout_ms=0)
            except KafkaError as error:
                if is_nameless(error):
                    raise
                log.warning("the group's coordinator failed", error=repr(error))
            await asyncio.sleep(_ATTEND_SECONDS)

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        """Start a worker for each, unless the group is being left: a rebalance that is under way ends before that."""
        if self._leaving:
            return
        self.is_joining, self.was_joined = False, True
        self._events.joined(len(list(assigned)))
        log.info("partitions assigned", partitions=sorted(f"{tp.topic}-{tp.partition}" for tp in assigned))
        for tp in assigned:
            worker = self._new_worker(tp, self.consumer)
            task = asyncio.create_task(worker.run(), name=f"worker {worker}")
            self._running[worker] = task
            self._events.assigned(worker)
            task.add_done_callback(partial(self._ended, worker))

    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        """End the workers of all of them; assignment is eager, so it is always all."""
        self.is_joining = True
        self._events.left()
        await self.stop_workers()
        if self.was_joined and self.consumer is not None and not self.consumer._coordinator.member_id:
            self._takeovers.displaced(time.monotonic())
            if self._takeovers.is_displaced:
                self._fail(FencedError("another process takes our place in the group again and again"))
                # The way to end aiokafka's task: to join once more would displace the other, which is to stay.
                raise asyncio.CancelledError

    async def leave(self) -> None:
        """End all workers, and start none any more."""
        self._leaving = True
        await self.stop_workers()

    async def stop_workers(self) -> None:
        """Let each worker commit its last batch and snapshots."""
        running, self._running = self._running, {}
        for worker in running:
            worker.stop()
        if not running:
            return
        _, late = await asyncio.wait(running.values(), timeout=self._revoke_timeout)
        for task in late:
            log.warning("worker did not end in time", worker=task.get_name(), seconds=self._revoke_timeout)
            task.cancel()
        if late:
            await asyncio.wait(late)
        for worker in running:
            self._events.gone(worker)

    def _ended(self, worker: PartitionWorker, task: asyncio.Task[None]) -> None:
        """A worker that ends before it is asked to has failed, however it ends: its partition would stay silent."""
        error = None if task.cancelled() else task.exception()
        is_given_up = worker not in self._running
        if isinstance(error, FencedError) and is_given_up:
            # The next owner was quicker than our revocation. The rebalance is under way: to leave would begin another.
            log.info("taken over while it was given up", partition=str(worker), reason=str(error))
            return
        if error is None and not is_given_up:
            error = StreamerError(f"the worker of {worker} ended by itself")
        if error is not None:
            self._fail(error)

    def _fail(self, error: BaseException) -> None:
        """The first failure counts."""
        if self.failure is None:
            self.failure = error
            self.failed.set()
