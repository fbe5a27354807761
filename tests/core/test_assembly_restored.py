"""The step that is open, through a snapshot: as if never stopped, and under other settings."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.core import checkpoint, snapshot
from streamer.core.adjustment import Adjustment
from streamer.core.assembly import Assembly
from streamer.core.engine import ForecastEngine
from streamer.core.settings import EngineSettings
from streamer.core.tick import Tick
from streamer.errors import SnapshotError
from tests.core.fakes import FakeForecaster, shelf
from tests.core.helpers import MODERATE, SMALL, START, STEP, forecast_of, lasting, walk
from tests.core.test_assembly import CONFIGURATIONS, LAST, assembly, at, fed, held, print_sequences


def restart(found: Assembly, settings: EngineSettings, *models: FakeForecaster) -> tuple[Assembly, tuple[str, ...]]:
    restored = checkpoint.restore(settings, checkpoint.save(found.engine, {}, found), shelf(*models).load)
    assert restored.assembly is not None
    assert restored.assembly.engine is restored.engine
    return restored.assembly, restored.notices


@MODERATE
@given(ticks=print_sequences(), cut=st.integers(0, 60), settings=st.sampled_from(CONFIGURATIONS))
def test_restored_equals_never_stopped(ticks: list[Tick], cut: int, settings: EngineSettings) -> None:
    """Before the first step has closed, in the middle of one, of a late run, and after a restart of time."""
    found = assembly(settings)
    fed(found, ticks[:cut])
    restored, notices = restart(found, settings)

    assert notices == ()
    for tick in ticks[cut:]:
        assert lasting(restored.process(tick)) == lasting(found.process(tick))
    again = [checkpoint.save(each.engine, {}, each) for each in (restored, found)]
    assert again[0] == again[1]


@MODERATE
@given(
    ticks=print_sequences(max_size=30),
    cut=st.integers(0, 60),
    asked=st.lists(st.tuples(st.sampled_from("ABCD"), st.sampled_from([0.25, 1.0]), st.sampled_from([None, "D", "E"]))),
)
def test_restored_equals_never_stopped_among_adjustments(
    ticks: list[Tick], cut: int, asked: list[tuple[str, float, str | None]]
) -> None:
    """One after each tick, for as long as there are any, also of symbols that only the open step has."""
    items: list[Tick | Adjustment] = []
    for number, tick in enumerate(ticks):
        items += [tick, *(Adjustment(number, *each) for each in asked[number : number + 1])]
    found = assembly()
    outcomes(found, items[:cut])
    restored, notices = restart(found, LAST)

    assert notices == ()
    assert outcomes(restored, items[cut:]) == outcomes(found, items[cut:])
    again = [checkpoint.save(each.engine, {}, each) for each in (restored, found)]
    assert again[0] == again[1]


def outcomes(found: Assembly, items: list[Tick | Adjustment]) -> list[object]:
    return [lasting(found.process(item) if isinstance(item, Tick) else found.adjust(item)) for item in items]


def test_a_snapshot_does_not_tie_two_assemblies_together() -> None:
    found = assembly()
    fed(found, [at(0, A=1.0)])
    before = checkpoint.save(found.engine, {}, found)
    fed(restart(found, LAST)[0], [at(0, B=1.0), at(1, A=2.0)])
    assert checkpoint.save(found.engine, {}, found) == before


def test_a_snapshot_from_before_there_was_assembly_holds_for_vectors() -> None:
    engine = ForecastEngine(SMALL)
    for tick in walk(9):
        engine.process(tick)
    data = without_assemble(checkpoint.save(engine, {}))
    restored = checkpoint.restore(SMALL, data, shelf().load)
    assert (restored.notices, restored.assembly) == ((), None)
    assert lasting(restored.engine.process(walk(10)[9])) == lasting(engine.process(walk(10)[9]))


def without_assemble(data: bytes) -> bytes:
    meta, arrays = snapshot.unpack(data)
    del meta["settings"]["assemble"]
    return snapshot.pack(meta, arrays)


def test_vectors_become_parts_and_the_ring_is_kept() -> None:
    engine = ForecastEngine(SMALL)
    for tick in walk(9):
        engine.process(tick)
    restored = checkpoint.restore(LAST, without_assemble(checkpoint.save(engine, {})), shelf().load)
    assert "assemble" in restored.notices[0]
    assert restored.assembly is not None
    assert fed(restored.assembly, [at(8.5, A=1.0), at(9, A=1.0), at(9, B=2.0), at(10, A=1.0)]) == [
        "duplicate",
        "merged",
        "merged",
        "forecast",
    ]
    assert held(restored.assembly)[-2:] == [list(walk(9)[8].prices.values()), [1.0, 2.0]]


def opened() -> Assembly:
    """With steps closed before and after a restart of time, and a step open."""
    found = assembly()
    fed(found, [at(100, A=1.0), at(1, A=1.0), at(2, A=1.0), at(3, A=1.0), at(4, A=2.0), at(4.5, B=5.0)])
    assert len(found.engine.ring) == 2
    return found


def test_parts_become_vectors_and_the_open_step_is_the_last_of_the_ring() -> None:
    found = opened()
    restored = checkpoint.restore(
        replace(LAST, assemble="vector"), checkpoint.save(found.engine, {}, found), shelf().load
    )
    assert restored.assembly is None
    assert restored.engine.ring.times.tolist()[-1] == START + 4 * STEP
    assert restored.engine.ring.prices[-1].tolist() == [2.0, 5.0]


def test_the_open_step_stays_open_under_other_settings() -> None:
    restored, notices = restart(opened(), replace(LAST, coverage=0.5))
    assert "coverage" in notices[0]
    assert fed(restored, [at(4.2, B=4.0), at(4.6, A=3.0)]) == ["merged", "merged"]
    step = restored.process(at(5, A=1.0))
    assert (forecast_of(step).as_of, step.is_break, step.restarted) == (START + 4 * STEP, False, False)
    assert held(restored)[-1] == [3.0, 5.0]


def test_the_open_step_stays_open_with_what_can_still_be_read() -> None:
    restored, _ = restart(opened(), replace(LAST, symbols=("B",)))
    fed(restored, [at(5, B=1.0)])
    assert held(restored)[-1] == [5.0]
    restored, _ = restart(opened(), replace(LAST, symbols=("C",)))
    assert fed(restored, [at(4.5, C=1.0), at(5, C=2.0), at(6, C=3.0)]) == ["duplicate", "merged", "forecast"]
    assert held(restored) == [[2.0]]


def test_one_that_opened_with_a_restart_of_time_stays_open_under_other_settings() -> None:
    found = assembly()
    fed(found, [at(100, A=1.0), at(1, A=1.0), at(2, A=1.0), at(3, A=2.0)])
    restored, _ = restart(found, replace(LAST, coverage=0.5))
    step = restored.process(at(4, A=3.0))
    assert (step.is_break, forecast_of(step).as_of) == (True, START + 3 * STEP)


def test_with_another_step_the_prints_of_the_open_one_are_placed_anew() -> None:
    found = assembly()
    fed(found, [at(0, A=1.0), at(4, A=2.0), at(4.5, B=5.0)])
    restored, _ = restart(found, replace(LAST, step=2 * STEP))
    assert fed(restored, [at(5.9, A=3.0), at(6, A=1.0)]) == ["merged", "forecast"]
    assert held(restored)[-1] == [3.0, 5.0]


@pytest.mark.parametrize("damage", ["assembly", "open.times", "open.prices", "position"])
def test_a_snapshot_without_what_was_open_is_refused(damage: str) -> None:
    found = opened()
    meta, arrays = snapshot.unpack(checkpoint.save(found.engine, {}, found))
    if damage == "position":
        meta["assembly"]["position"]["last"] = None
    else:
        del (meta if damage == "assembly" else arrays)[damage]
    with pytest.raises(SnapshotError):
        checkpoint.restore(LAST, snapshot.pack(meta, arrays), shelf().load)
