"""What follows from the workers' events: measurements, trainings, and records in the model store."""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

import structlog

from streamer.core.outcome import Swap
from streamer.core.policy import Reason
from streamer.errors import ArtifactError
from streamer.model.kept import Checkpoint
from streamer.model.store import ModelStore
from streamer.service.health import Health
from streamer.service.learners import Alone, Owned, SharedDrift, Sharing, Together
from streamer.service.live import Live
from streamer.service.metrics import Metrics, RetrainOutcome
from streamer.service.partition import Batch, Stream
from streamer.service.telemetry import Telemetry
from streamer.service.trainer import Account, Job, Learner, Trainer
from streamer.service.worker import PartitionWorker

log = structlog.get_logger(__name__)


class Events:
    """Implements `worker.Observer`. What the store is to record is done beside the path, by `errands`.

    owned: the streams of our partitions. sharing: which of them have one model. known_after: seconds from a tick's time
    to when it is known, which are no lag of the feed.
    """

    def __init__(
        self,
        metrics: Metrics,
        health: Health,
        store: ModelStore,
        trainer: Trainer,
        owned: Owned,
        sharing: Sharing,
        known_after: float = 0.0,
    ) -> None:
        self._metrics = metrics
        self._health = health
        self._store = store
        self._trainer = trainer
        self._owned = owned
        self._sharing = sharing
        self._drift = SharedDrift(owned)
        self._telemetry = Telemetry(metrics, known_after)
        self.live = Live(known_after)
        self._restoring: set[str] = set()
        self._errands: set[asyncio.Task[None]] = set()
        self._in_order: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    def take_over(self, sharing: Sharing, known_after: float) -> None:
        """Other settings count from now on."""
        self._sharing = sharing
        self._telemetry.known_after = self.live.known_after = known_after

    # --- partitions -----------------------------------------------------------------------------------------------

    def joined(self, partitions: int) -> None:
        """The group has given us so many partitions; none is fine too."""
        self._health.set("group", True, f"joined, {partitions} partitions")
        self._metrics.assigned_partitions.set(partitions)

    def left(self) -> None:
        """We are no member of the group."""
        self._health.set("group", False, "not joined")
        self._metrics.assigned_partitions.set(0)

    def assigned(self, worker: PartitionWorker) -> None:
        """A partition is ours and will be restored."""
        self._restoring.add(str(worker))
        self._show_readiness()

    def gone(self, worker: PartitionWorker) -> None:
        """A partition is ours no longer; whoever has it now shows its streams."""
        self._restoring.discard(str(worker))
        self._telemetry.gone(worker.partition)
        self.live.gone(worker.partition)
        self._show_readiness()

    def progress(self) -> None:
        """A worker's loop came round."""
        self._health.progress()

    def restored(self, worker: PartitionWorker, seconds: float) -> None:
        """A partition's streams are as they were."""
        self._restoring.discard(str(worker))
        self._show_readiness()
        self._telemetry.restored(worker.partition, seconds)
        self.live.restored(worker.partition)
        for stream in worker.partition.streams.values():
            for swap in stream.engine.swaps:
                self._errand(self._store.record_swap, stream.name, asdict(swap))

    def interrupted(self, worker: PartitionWorker) -> None:
        """A partition begins anew: until it is restored we do not serve it."""
        self.assigned(worker)

    def _show_readiness(self) -> None:
        waiting = ", ".join(sorted(self._restoring))
        self._health.set("state", not waiting, f"restoring {waiting}" if waiting else "restored")

    # --- ticks ----------------------------------------------------------------------------------------------------

    def committed(
        self, worker: PartitionWorker, batch: Batch, engine_seconds: list[float], seconds: float, lag: int | None
    ) -> None:
        """A batch is visible."""
        self._telemetry.committed(worker.partition, batch, engine_seconds, seconds, lag)
        self.live.committed(worker.partition, batch, lag)
        for stream, step in batch.steps:
            if stream is not None and step.training and self._trainer.busy_with(stream.name):
                self._skipped(stream)

    # --- models ---------------------------------------------------------------------------------------------------

    def wants_training(self, worker: PartitionWorker, stream: Stream, reason: str) -> None:
        """Queue a training, unless the stream's is queued or running."""
        if self._trainer.busy_with(stream.name):
            return
        learner: Learner = Alone(worker, stream)
        others: frozenset[str] = frozenset()
        if self._sharing.is_global:
            if reason == Reason.DRIFT and not self._drift.calls(stream.name):
                return
            together = learner = Together(stream, self._owned, self._store, self._sharing)
            others = frozenset(together.kin())
        if self._trainer.request(Job(stream.name, reason, learner, others)):
            self._metrics.retrains_requested.labels(self._metrics.label(stream.name), reason).inc()

    def ask_for_training(self, stream: Stream) -> bool:
        """An operator asks for a training; False, and counted as skipped, where one is queued or running."""
        if self._trainer.busy_with(stream.name):
            self._skipped(stream)
            return False
        stream.engine.policy.request(Reason.REQUESTED)
        return True

    def trained(self, ended: Mapping[str, tuple[RetrainOutcome, Account]], seconds: float) -> None:
        """A training has ended, for one stream or for several."""
        self._metrics.retrain_duration.observe(seconds)
        owned = self._owned()
        for stream, (outcome, account) in ended.items():
            if stream not in owned:
                continue  # who has it now counts what becomes of it: a series here would stay for ever
            self._metrics.retrains.labels(self._metrics.label(stream), outcome).inc()
            self.live.trained(stream, outcome, seconds, account)

    def _skipped(self, stream: Stream) -> None:
        self._metrics.retrains.labels(self._metrics.label(stream.name), RetrainOutcome.SKIPPED).inc()

    def kept(self, stream: Stream, place: Checkpoint, snapshot: bytes) -> None:
        """A snapshot is a checkpoint."""
        self._errand(self._store.save_checkpoint, stream.name, place, snapshot)

    def swapped(self, worker: PartitionWorker, stream: Stream, swap: Swap) -> None:
        """A model, or persistence, has begun to serve: record that, and let go of the models that none needs.

        Kept are the newest, that which serves, and that which a revert would go back to.
        """
        log.info("model serves", stream=stream.name, model=swap.model, after=swap.after, start=swap.start)
        self._telemetry.show_model(stream)
        self.live.swapped(stream)
        self._errand(self._store.record_swap, stream.name, asdict(swap))
        self._errand(self._store.prune, stream.name, {swap.model, *stream.engine.earlier_models()[:1]})

    def _errand(self, work: Callable[..., Any], stream: str, *arguments: Any) -> None:
        task = asyncio.create_task(self._in_thread(work, stream, *arguments))
        self._errands.add(task)
        task.add_done_callback(self._errands.discard)

    async def _in_thread(self, work: Callable[..., Any], stream: str, *arguments: Any) -> None:
        """A store that is full or away must not stop the stream: what it could not record, it is told again."""
        async with self._in_order[stream]:  # of two swaps after one tick the later counts
            try:
                await asyncio.to_thread(work, stream, *arguments)
            except ArtifactError as error:
                log.error("the model store refuses", reason=str(error))

    async def errands(self) -> None:
        """Wait for what is still being recorded."""
        await asyncio.gather(*self._errands)
