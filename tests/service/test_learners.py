"""Whom a training is for where streams have one model: who takes part, when it is called for, what is due after it."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import cast

import pytest
from structlog.testing import capture_logs

from streamer.core.engine import ForecastEngine
from streamer.core.policy import Reason
from streamer.core.settings import EngineSettings
from streamer.model.store import ModelStore
from streamer.service.learners import Owned, Sharing, Together
from streamer.service.partition import Stream
from streamer.service.worker import PartitionWorker
from tests.core.fakes import fake
from tests.core.helpers import SMALL, put_into_service, run, walk

SETTINGS = replace(SMALL, first=120, every=50, history=200)
SHARING = Sharing(is_global=True, pool=330, history=200)


@dataclass
class Process:
    """Streams of one process."""

    folder: Path
    streams: dict[str, Stream] = field(default_factory=dict)
    settings: EngineSettings = SETTINGS

    def stream(self, name: str, ticks: int = 120, symbols: tuple[str, ...] = ("A", "B")) -> Stream:
        engine = ForecastEngine(self.settings)
        run(engine, walk(ticks, symbols))
        self.streams[name] = Stream(name, engine, history_complete=True)
        return self.streams[name]

    def owned(self) -> Mapping[str, tuple[PartitionWorker, Stream]]:
        return {name: (cast(PartitionWorker, None), stream) for name, stream in self.streams.items()}

    def learner(self, asker: Stream) -> Together:
        owned: Owned = self.owned
        return Together(asker, owned, ModelStore(str(self.folder), keep=1), SHARING)


@pytest.fixture
def process(tmp_path: Path) -> Process:
    return Process(tmp_path)


async def test_all_streams_of_one_shape_that_have_enough_take_part_and_the_asker_is_first(process: Process) -> None:
    process.stream("early", 199)
    process.stream("other", symbols=("A", "C"))
    process.stream("wider", symbols=("A", "B", "C"))
    process.stream("short", 99)
    process.stream("unread").history_complete = False
    process.stream("turned", 110, symbols=("B", "A"))
    asker = process.stream("asker")

    collected = await process.learner(asker).collect(waited=False)

    assert list(collected) == ["asker", "early", "turned"]
    assert [len(each.history) for each in collected.values()] == [110, 110, 110], "a third of the pool each"
    assert {each.champion for each in collected.values()} == {None}
    newest = collected["early"].history.times[-1]
    assert newest == process.streams["early"].engine.position.last


async def test_what_a_training_for_all_has_seen_is_due_no_more_in_any_of_them(process: Process) -> None:
    """A stream that was about to come due is due again a whole turn later; what comes due meanwhile follows."""
    asker, soon = process.stream("asker"), process.stream("soon", 119)
    learner = process.learner(asker)
    await learner.collect(waited=False)

    run(soon.engine, walk(125)[119:])
    due = [each.engine.policy.wanted for each in (asker, soon)]
    soon.engine.policy.request(Reason.REQUESTED)
    learner.ended()

    assert due == [Reason.SCHEDULE, None]
    assert [each.engine.policy.wanted for each in (asker, soon)] == [None, Reason.REQUESTED]
    assert [each.engine.policy.due_at for each in (asker, soon)] == [170, 169]


async def test_who_was_in_a_training_of_others_wants_none_any_more(process: Process) -> None:
    first, second = process.stream("first"), process.stream("second")
    both = process.learner(first), process.learner(second)
    assert len(await both[0].collect(waited=False)) == 2
    both[0].ended()
    assert await both[1].collect(waited=True) == {}


async def test_a_stream_that_left_calls_for_nothing(process: Process) -> None:
    asker = process.stream("asker")
    process.stream("asker")
    assert await process.learner(asker).collect(waited=False) == {}


@pytest.mark.parametrize(("drifted", "called"), [(1, False), (2, True), (5, True)])
def test_the_drift_of_one_stream_does_not_train_all(process: Process, drifted: int, called: bool) -> None:
    streams = [process.stream(f"s{index}", 100) for index in range(8)]
    for stream in streams[:drifted]:
        stream.engine.policy.request(Reason.DRIFT)
    assert process.learner(streams[0]).is_called_for(Reason.DRIFT) is called
    assert process.learner(streams[0]).is_called_for(Reason.SCHEDULE)


async def test_a_model_that_cannot_be_taken_over_is_trained_anew(process: Process) -> None:
    """The other's is not in the store."""
    served, asker = process.stream("served"), process.stream("asker")
    put_into_service(served.engine, fake(served.engine))
    collected = await process.learner(asker).collect(waited=False)
    assert {name: each.champion for name, each in collected.items()} == {"asker": None, "served": "m1"}


async def test_who_asks_an_operator_for_a_training_gets_one(process: Process) -> None:
    """And not a model of the others."""
    served, asker = process.stream("served"), process.stream("asker")
    put_into_service(served.engine, fake(served.engine))
    asker.engine.policy.wanted = Reason.REQUESTED
    with capture_logs() as said:
        assert len(await process.learner(asker).collect(waited=False)) == 2
    assert not said, "it did not even try"
