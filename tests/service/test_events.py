"""What follows from the workers' events: jobs for the trainer, and what the store keeps."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import cast

import pytest
from prometheus_client import CollectorRegistry

from streamer.core.engine import ForecastEngine
from streamer.core.outcome import Swap
from streamer.model.store import ModelStore
from streamer.service.events import Events
from streamer.service.health import Health
from streamer.service.learners import Sharing
from streamer.service.metrics import Metrics, RetrainOutcome
from streamer.service.partition import Stream
from streamer.service.trainer import Account, Job, Trainer, TrainerSettings
from streamer.service.worker import PartitionWorker
from tests.core.fakes import fake
from tests.core.helpers import SMALL, put_into_service, run, walk
from tests.model.helpers import STEP, artifact


class QueueOnly(Trainer):
    """Keeps the jobs and does none."""

    def __init__(self, store: ModelStore) -> None:
        super().__init__(TrainerSettings("", 1.0, 1 << 30), store, lambda *_: None)
        self.jobs: list[Job] = []

    def request(self, job: Job) -> bool:
        """Queue a job."""
        is_new = super().request(job)
        self.jobs += [job] if is_new else []
        return is_new


@dataclass
class Owner:
    """As much of a worker as says which streams are ours."""

    streams: dict[str, Stream] = field(default_factory=dict)

    name = "prices-0"

    @property
    def partition(self) -> "Owner":
        """The partition, which holds the streams."""
        return self

    def stream(self, name: str) -> Stream:
        """A stream of ours that has just come due."""
        engine = ForecastEngine(SMALL)
        run(engine, walk(SMALL.first))
        assert engine.policy.wanted == "schedule"
        self.streams[name] = Stream(name, engine)
        return self.streams[name]


class Around:
    """Events with all that they act on."""

    def __init__(self, folder: Path) -> None:
        self.registry = CollectorRegistry()
        self.store = ModelStore(str(folder), keep=1)
        self.trainer = QueueOnly(self.store)
        self.health = Health(60)
        self.owner = Owner()
        self.worker = cast(PartitionWorker, self.owner)
        metrics, sharing = Metrics(self.registry), Sharing(is_global=False, pool=1_000, history=1_000)
        self.events = Events(metrics, self.health, self.store, self.trainer, self.owned, sharing)

    def owned(self) -> Mapping[str, tuple[PartitionWorker, Stream]]:
        """The streams of ours."""
        return {name: (self.worker, stream) for name, stream in self.owner.streams.items()}

    def counted(self, name: str, **labels: str) -> float | None:
        """Value of a sample."""
        return self.registry.get_sample_value(name, labels)


@pytest.fixture
def around(tmp_path: Path) -> Around:
    return Around(tmp_path)


def test_ready_is_who_has_restored_all_partitions_and_was_not_interrupted_since(around: Around) -> None:
    events, worker = around.events, around.worker
    told: list[Callable[[], None]] = [
        lambda: events.joined(1),
        lambda: events.assigned(worker),
        lambda: events.restored(worker, 0.1),
        lambda: events.interrupted(worker),
        lambda: events.restored(worker, 0.1),
    ]
    seen = []
    for event in told:
        event()
        seen.append(around.health.readiness().ok)
    assert seen == [True, False, True, False, True]


def test_a_training_is_queued_once_and_counted_by_its_reason(around: Around) -> None:
    stream = around.owner.stream("a")
    for _ in range(3):
        around.events.wants_training(around.worker, stream, "schedule")

    assert [job.stream for job in around.trainer.jobs] == ["a"]
    assert around.counted("streamer_retrains_requested_total", stream="a", reason="schedule") == 1


async def test_streams_that_come_due_together_are_spread_by_the_queue(around: Around) -> None:
    """Each waits for those before it, and is due again so much later."""
    streams = [around.owner.stream(name) for name in ("a", "b")]
    for stream in streams:
        around.events.wants_training(around.worker, stream, "schedule")
        run(stream.engine, walk(SMALL.first + 3)[SMALL.first :])
    first, second = around.trainer.jobs

    assert await first.learner.collect(False)
    assert await second.learner.collect(True)

    assert [stream.engine.policy.due_at for stream in streams] == [
        SMALL.first + SMALL.every,
        SMALL.first + 3 + SMALL.every,
    ]


async def test_a_training_that_comes_due_beside_another_follows_it(around: Around) -> None:
    stream = around.owner.stream("a")
    around.events.wants_training(around.worker, stream, "schedule")
    (job,) = around.trainer.jobs
    assert await job.learner.collect(False)

    run(stream.engine, walk(SMALL.first + SMALL.every + 3)[SMALL.first :])
    job.learner.ended()

    assert stream.engine.policy.wanted == "schedule"


def test_an_operator_is_told_that_a_training_is_under_way_already(around: Around) -> None:
    stream = around.owner.stream("a")
    stream.engine.policy.ended()

    assert around.events.ask_for_training(stream)
    assert stream.engine.policy.wanted == "requested"
    around.events.wants_training(around.worker, stream, "requested")
    assert not around.events.ask_for_training(stream)

    assert around.counted("streamer_retrains_total", stream="a", outcome=RetrainOutcome.SKIPPED) == 1


def test_a_job_knows_what_was_reverted_since_it_was_queued(around: Around) -> None:
    stream = around.owner.stream("a")
    around.events.wants_training(around.worker, stream, "schedule")
    (job,) = around.trainer.jobs
    put_into_service(stream.engine, fake(stream.engine))
    assert not job.learner.reverted("a", "m1")

    stream.engine.revert("m1", None)

    assert job.learner.reverted("a", "m1")


def test_the_end_of_a_training_is_counted_of_the_streams_that_are_still_ours(around: Around) -> None:
    around.owner.stream("a")
    around.events.trained({name: (RetrainOutcome.FAILED, Account()) for name in ("a", "gone")}, 1.0)
    outcomes = [around.counted("streamer_retrains_total", stream=name, outcome="failed") for name in ("a", "gone")]
    assert outcomes == [1, None]
    assert around.counted("streamer_retrain_duration_seconds_count") == 1


async def test_the_model_in_service_and_the_one_to_go_back_to_are_kept(around: Around) -> None:
    stream = around.owner.stream("a")
    stored = [artifact(as_of=number * STEP) for number in range(1, 6)]
    ids = [each.id for each in stored]
    for each in stored:
        around.store.save("a", each)
    for number, model_id in enumerate(ids[:3]):
        run(stream.engine, walk(20)[SMALL.first + number : SMALL.first + number + 1])
        put_into_service(stream.engine, replace(fake(stream.engine), id=model_id))

    around.events.swapped(around.worker, stream, stream.engine.swaps[-1])
    await around.events.errands()

    assert [manifest.id for manifest in around.store.list("a")] == [ids[4], ids[2], ids[1]]


async def test_the_later_of_two_swaps_after_one_tick_is_what_the_store_records(around: Around) -> None:
    stream = around.owner.stream("a")
    events = [Swap(f"m{number}", 1_000, 0, "trained", 0) for number in range(20)]
    for event in events:
        around.events.swapped(around.worker, stream, event)
    await around.events.errands()

    assert [swap["model"] for swap in around.store.swaps("a")] == ["m19"]
