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
from streamer.service.learners import Owned, SharedDrift, Sharing, Together
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
    installed: list[tuple[Stream, str]] = field(default_factory=list)

    async def install(self, stream: Stream, model_id: str) -> None:
        """As a worker does; noted."""
        self.installed.append((stream, model_id))

    def stream(self, name: str, ticks: int = 120, symbols: tuple[str, ...] = ("A", "B")) -> Stream:
        engine = ForecastEngine(self.settings)
        run(engine, walk(ticks, symbols))
        self.streams[name] = Stream(name, engine, history_complete=True)
        return self.streams[name]

    def owned(self) -> Mapping[str, tuple[PartitionWorker, Stream]]:
        return {name: (cast(PartitionWorker, self), stream) for name, stream in self.streams.items()}

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


async def test_who_cannot_be_learned_from_with_the_asker_stays_due_and_is_trained_by_itself(process: Process) -> None:
    """All have the same symbols, but one of them has had no price of B for as long as a training looks back."""
    process.settings = replace(SETTINGS, symbols=("A", "B"))
    asker, blank = process.stream("asker"), process.stream("blank", symbols=("A",))

    learner = process.learner(asker)
    assert list(await learner.collect(waited=False)) == ["asker"]
    learner.ended()

    assert [each.engine.policy.wanted for each in (asker, blank)] == [None, Reason.SCHEDULE]
    assert list(await process.learner(blank).collect(waited=False)) == ["blank"]


async def test_a_stream_too_young_to_learn_from_that_asks_takes_none_with_it(process: Process) -> None:
    """Its training fails; that of the others is not lost with it."""
    young, other = process.stream("young", 99), process.stream("other")
    young.engine.policy.request(Reason.REQUESTED)
    assert list(await process.learner(young).collect(waited=False)) == ["young"]
    assert (other.engine.policy.wanted, other.engine.policy.under_way) == (Reason.SCHEDULE, False)


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


async def test_a_model_made_under_other_settings_is_not_put_into_service(process: Process) -> None:
    """A stream that was restored meanwhile takes its model; one that a reload gave other settings does not."""
    same, reloaded = process.stream("same"), process.stream("reloaded")
    learner = process.learner(same)
    await learner.collect(waited=False)
    process.stream("same")
    process.settings = replace(SETTINGS, step=2 * SETTINGS.step)
    assert process.stream("reloaded") is not reloaded

    await learner.install("same", "m1")
    with pytest.raises(LookupError, match="other settings"):
        await learner.install("reloaded", "m1")
    assert process.installed == [(process.streams["same"], "m1")]


@pytest.mark.parametrize(("drifted", "called"), [(1, False), (2, True), (5, True)])
def test_the_drift_of_one_stream_does_not_train_all(process: Process, drifted: int, called: bool) -> None:
    streams = [process.stream(f"s{index}", 100) for index in range(8)]
    for stream in streams[:drifted]:
        stream.engine.policy.request(Reason.DRIFT)
    process.stream("other", symbols=("A", "C")).engine.policy.request(Reason.DRIFT)
    drift = SharedDrift(process.owned)
    assert [drift.calls(f"s{index}") for index in range(8)] == [called] * drifted + [False] * (8 - drifted)
    assert drift.calls("other"), "which is alone"


async def test_drifted_streams_that_ask_with_every_batch_are_not_counted_each_time(process: Process) -> None:
    """There may be hundreds of them, among a thousand."""
    streams = [process.stream(f"s{index}", 100) for index in range(8)]
    streams[0].engine.policy.request(Reason.DRIFT)
    now, looks = 0.0, []

    def owned() -> Mapping[str, tuple[PartitionWorker, Stream]]:
        looks.append(now)
        return process.owned()

    drift = SharedDrift(owned, lambda: now)
    assert not any(drift.calls("s0") for _ in range(100))
    streams[1].engine.policy.request(Reason.DRIFT)
    now = 1.0
    assert drift.calls("s0")
    assert looks == [0.0, 1.0]


async def test_a_model_that_cannot_be_taken_over_is_trained_anew(process: Process) -> None:
    """The other's is not in the store."""
    served, asker = process.stream("served"), process.stream("asker")
    put_into_service(served.engine, fake(served.engine))
    collected = await process.learner(asker).collect(waited=False)
    assert {name: each.champion for name, each in collected.items()} == {"asker": None, "served": "m1"}


async def test_who_was_reverted_to_persistence_is_not_given_the_model_of_the_others(process: Process) -> None:
    """Which is the same network under another id: only a new one may serve."""
    served, asker = process.stream("served"), process.stream("asker")
    for each in (served, asker):
        put_into_service(each.engine, fake(each.engine))
    asker.engine.revert("m1", None)
    with capture_logs() as said:
        assert len(await process.learner(asker).collect(waited=False)) == 2
    assert not said, "it did not even try"


async def test_who_asks_an_operator_for_a_training_gets_one(process: Process) -> None:
    """And not a model of the others."""
    served, asker = process.stream("served"), process.stream("asker")
    put_into_service(served.engine, fake(served.engine))
    asker.engine.policy.wanted = Reason.REQUESTED
    with capture_logs() as said:
        assert len(await process.learner(asker).collect(waited=False)) == 2
    assert not said, "it did not even try"


@pytest.mark.parametrize("ticks", [110, 120], ids=["young", "due"])
async def test_a_stream_without_a_model_takes_over_that_of_the_others_after_a_training_that_was_rejected(
    process: Process, ticks: int
) -> None:
    """It would wait for a whole turn, though a model that is better than none is there."""
    asker, joining = process.stream("asker"), process.stream("joining", ticks)
    put_into_service(asker.engine, fake(asker.engine))
    learner = process.learner(asker)
    assert list(await learner.collect(waited=False)) == ["asker", "joining"]
    learner.ended()

    run(joining.engine, walk(120)[ticks:])
    assert [each.engine.policy.wanted for each in (asker, joining)] == [None, Reason.SCHEDULE]


async def test_a_stream_that_was_given_a_model_wants_none_even_if_it_was_restored_meanwhile(process: Process) -> None:
    """A reload, or a broker that was away for a moment, would have all train once more."""
    asker, joining = process.stream("asker"), process.stream("joining")
    put_into_service(asker.engine, fake(asker.engine))
    learner = process.learner(asker)
    await learner.collect(waited=False)
    restored = process.stream("asker")
    await learner.install("asker", "m2")
    await learner.install("joining", "m3")
    learner.ended()
    assert [each.engine.policy.wanted for each in (restored, joining)] == [None, None]
    assert [each.engine.policy.due_at for each in (restored, joining)] == [170, 170]
