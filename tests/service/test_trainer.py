"""The queue of trainings: one at a time, one for each stream, each told whether it had to wait."""

import asyncio
import tempfile
import threading
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from streamer.errors import ArtifactError
from streamer.model.artifact import Artifact
from streamer.model.dataset import TrainingSet
from streamer.model.pool import Pool
from streamer.model.store import ModelStore
from streamer.service.metrics import RetrainOutcome
from streamer.service.trainer import Account, Collected, Job, Trainer, TrainerSettings
from tests.model.helpers import artifact, training_set, walk
from tests.support import eventually


class Queued:
    """Notes what becomes of jobs whose stream is not ours any more when their turn comes: no process is begun."""

    def __init__(self, store: ModelStore) -> None:
        self.trainer = Trainer(TrainerSettings("", 1.0, 1 << 30), store, self._counted)
        self.waited: dict[str, bool] = {}
        self.ended: list[str] = []
        self.outcomes: list[tuple[str, RetrainOutcome]] = []
        self.accounts: list[Account] = []

    def job(self, stream: str, error: Exception | None = None, others: frozenset[str] = frozenset()) -> Job:
        return Job(stream, "schedule", Gone(stream, self, error), others)

    def _counted(self, ended: Mapping[str, tuple[RetrainOutcome, Account]], seconds: float) -> None:
        for stream, (outcome, account) in ended.items():
            self.outcomes.append((stream, outcome))
            self.accounts.append(account)


@dataclass
class Gone:
    """A stream that is not ours any more when its turn comes, or whose history cannot be had."""

    stream: str
    seen: Queued
    error: Exception | None

    async def collect(self, waited: bool) -> Mapping[str, Collected]:
        """Nothing."""
        self.seen.waited[self.stream] = waited
        if self.error is not None:
            raise self.error
        return {}

    def reverted(self, stream: str, model_id: str) -> bool:
        """There is no model."""
        raise AssertionError(f"there is no model {model_id} of {stream}")

    async def install(self, stream: str, model_id: str) -> None:
        """There is no model."""
        raise AssertionError(f"there is no model {model_id} of {stream}")

    def ended(self) -> None:
        """Noted."""
        self.seen.ended.append(self.stream)


@pytest.fixture
async def queued(tmp_path: Path) -> AsyncIterator[Queued]:
    """A queue that is worked off once the test lets go of the event loop."""
    made = Queued(ModelStore(str(tmp_path), keep=1))
    running = asyncio.create_task(made.trainer.run())
    yield made
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_a_training_is_told_whether_those_of_other_streams_came_first(queued: Queued) -> None:
    for stream in ("a", "b", "c"):
        assert queued.trainer.request(queued.job(stream))
    await eventually(lambda: len(queued.ended) == 3)
    assert queued.trainer.request(queued.job("d"))
    await eventually(lambda: len(queued.ended) == 4)

    assert queued.ended == ["a", "b", "c", "d"]
    assert queued.waited == {"a": False, "b": True, "c": True, "d": False}


async def test_a_stream_is_queued_once(queued: Queued) -> None:
    assert queued.trainer.request(queued.job("a"))
    assert not queued.trainer.request(queued.job("a"))
    assert queued.trainer.busy_with("a")

    await eventually(lambda: queued.ended == ["a"])

    assert not queued.trainer.busy_with("a")
    assert queued.trainer.request(queued.job("a"))


async def test_a_training_that_fails_is_counted_and_the_next_begins(queued: Queued) -> None:
    queued.trainer.request(queued.job("a", ArtifactError("the champion is gone")))
    queued.trainer.request(queued.job("b"))

    await eventually(lambda: queued.ended == ["a", "b"])

    assert queued.outcomes == [("a", RetrainOutcome.FAILED)]
    assert queued.accounts == [Account("schedule", "the champion is gone")]


async def test_streams_that_learn_together_are_busy_and_queued_once(queued: Queued) -> None:
    assert queued.trainer.request(queued.job("a", others=frozenset({"a", "b", "c"})))
    assert all(queued.trainer.busy_with(stream) for stream in "abc")
    assert not queued.trainer.request(queued.job("b"))
    assert queued.trainer.request(queued.job("d", others=frozenset({"c", "d"})))

    await eventually(lambda: queued.ended == ["a", "d"])

    assert not any(queued.trainer.busy_with(stream) for stream in "abcd")


class Full(ModelStore):
    """A store that refuses what is of one stream."""

    def save_input(self, stream: str, data: bytes) -> None:
        """Refused for `b`."""
        if stream == "b":
            raise ArtifactError("no space is left")
        super().save_input(stream, data)


class Trained(Trainer):
    """A training's child has left a promoted model of each stream."""

    async def _fit_together(self, folder: Path, pool: Pool, champions: Mapping[str, str]) -> dict[str, Any]:
        for seed, stream in enumerate(pool.sets):
            ModelStore(str(folder / "models"), keep=1).save(stream, artifact(seed=seed, gate={"promoted": True}))
        return {"promoted": True}


@dataclass
class All:
    """Streams that are ours."""

    sets: Mapping[str, TrainingSet]
    champion: str | None = None
    installed: list[str] = field(default_factory=list)

    async def collect(self, waited: bool) -> Mapping[str, Collected]:
        """All of them, with one model or none."""
        return {stream: Collected(history, self.champion) for stream, history in self.sets.items()}

    def reverted(self, stream: str, model_id: str) -> bool:
        """None was."""
        return False

    async def install(self, stream: str, model_id: str) -> None:
        """Noted."""
        self.installed.append(stream)

    def ended(self) -> None:
        """Nothing follows."""


async def test_what_the_store_refuses_of_one_stream_keeps_no_model_from_the_others(tmp_path: Path) -> None:
    outcomes: dict[str, RetrainOutcome] = {}
    streams = All({stream: training_set(walk(120)) for stream in "abc"})
    trainer = Trained(
        TrainerSettings("", 1.0, 1 << 30),
        Full(str(tmp_path), keep=1),
        lambda ended, _: outcomes.update({stream: outcome for stream, (outcome, _) in ended.items()}),
    )
    trainer.request(Job("a", "schedule", streams))
    running = asyncio.create_task(trainer.run())
    await eventually(lambda: bool(outcomes))
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)

    assert outcomes == {"a": RetrainOutcome.PROMOTED, "b": RetrainOutcome.FAILED, "c": RetrainOutcome.PROMOTED}
    assert streams.installed == ["a", "c"]


class Slow(ModelStore):
    """A store that gives a model only when it may."""

    def __init__(self, url: str) -> None:
        super().__init__(url, keep=1)
        self.asked, self.may = threading.Event(), threading.Event()

    def load(self, stream: str, model_id: str) -> Artifact:
        """Blocks."""
        self.asked.set()
        self.may.wait()
        return super().load(stream, model_id)


async def test_a_stop_while_a_training_is_being_prepared_ends_it_and_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thread may write to its folder just then: what cannot be removed for that must not hide the stop."""
    folders, store = tmp_path / "folders", Slow(str(tmp_path / "models"))
    folders.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folders))
    champion = artifact()
    for stream in "abc":
        store.save(stream, champion)
    trainer = Trainer(TrainerSettings("", 1.0, 1 << 30), store, lambda *_: None)
    trainer.request(Job("a", "schedule", All({each: training_set(walk(120)) for each in "abc"}, champion.id)))
    running = asyncio.create_task(trainer.run())
    await eventually(store.asked.is_set)

    running.cancel()
    await asyncio.sleep(0)
    store.may.set()
    done, _ = await asyncio.wait([running], timeout=10.0)
    await asyncio.get_running_loop().shutdown_default_executor()

    assert done
    assert running.cancelled()
    assert not list(folders.iterdir())
