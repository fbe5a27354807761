"""Records of many streams at once: each has the outcome that it has alone."""

import json
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from aiokafka import ConsumerRecord
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from streamer import control
from streamer.core.catchup import RING
from streamer.core.forecaster import Forecaster
from streamer.core.levels import Change, Levels
from streamer.errors import BrokerError, StreamerError
from streamer.service import burst
from streamer.service.burst import process_all
from streamer.service.partition import Batch, Partition
from tests.core.fakes import FailingForecaster
from tests.core.helpers import FEW, lasting
from tests.service.test_expiry import EXPIRE, HOUR, settings

STEP = 60_000
START = 100 * STEP
FAILS_AT = START + 3 * STEP
MODEL = FailingForecaster("m", ("A", "B"), ("A", "B"), Levels.starting([Change.LOG_RETURN] * 2), fails_at=FAILS_AT)
SETTINGS = replace(settings(streams=4), engine=replace(settings().engine, first=10**6, symbols=("A", "B")))

Process = Callable[[Partition, Iterable[ConsumerRecord], Batch], None]


def record(offset: int, stream: str, time: int, value: bytes | None = None, headers: Any = ()) -> ConsumerRecord:
    """A tick of both symbols; `value` in place of that."""
    prices = {"A": 10.0 + offset % 7, "B": 20.0 + time // STEP % 5}
    value = json.dumps({"ts": time, "prices": prices}).encode() if value is None else value
    return ConsumerRecord("prices", 0, offset, time, 0, stream.encode(), value, None, 1, len(value), headers)


def one_by_one(partition: Partition, records: Iterable[ConsumerRecord], batch: Batch) -> None:
    for each in records:
        partition.process(each, batch)


def at_once(partition: Partition, records: Iterable[ConsumerRecord], batch: Batch) -> None:
    some = list(records)
    assert sum(process_all(partition, some, batch)) == len(some)


def serving(streams: str, model: Forecaster = MODEL) -> Partition:
    """A partition whose streams have six ticks each, the last at START, and are served by one model."""
    partition = Partition("prices", 0, SETTINGS, lambda stream, model_id: model)
    first = [record(0, stream, START - after * STEP) for after in range(5, -1, -1) for stream in streams]
    one_by_one(partition, first, Batch(0))
    for stream in partition.streams.values():
        ready = stream.engine.catch_up(model, RING)
        ready.advance(100)
        stream.engine.swap(ready)
    return partition


def outcome(partition: Partition, batches: Iterable[list[ConsumerRecord]], process: Process) -> list[Any]:
    """All that comes of `batches`, each of which is committed, up to the error that ends the process."""
    found: list[Any] = []
    for records in batches:
        batch = Batch(0)
        try:
            with capture_logs():  # tracebacks, whose text takes longer than all else
                process(partition, records, batch)
        except StreamerError as error:
            return [*found, str(error)]
        partition.save_due(batch)
        steps = [(stream and stream.name, lasting(step)) for stream, step in batch.steps]
        saved = [stream.name for stream in batch.saved]
        kept = [(stream.name, place, value) for stream, place, value in batch.kept]
        place = (batch.next_offset, partition.replay_from(batch), batch.expired, batch.lacked_schema)
        found.append((batch.records, steps, saved, kept, place))
        partition.committed(batch)
    return [*found, {name: (stream.seen, stream.began, stream.ticks) for name, stream in partition.streams.items()}]


_SELDOM = ("gap", "again", "late", "blank", "partial", "rubbish", "split", "day", "ahead")
_KINDS = st.sampled_from(("tick",) * 12 + _SELDOM)


@st.composite
def batches(draw: st.DrawFn) -> list[list[ConsumerRecord]]:
    """Records of some streams, in any order, cut into fetches: what a feed sends, and what it should not."""
    names, clocks, offset = "abcdef", dict.fromkeys("abcdef", START), 1
    found: list[list[ConsumerRecord]] = []
    for _ in range(draw(st.integers(1, 4))):
        some = []
        for stream, kind in draw(st.lists(st.tuples(st.sampled_from(names), _KINDS), min_size=1, max_size=20)):
            some.append(_record(offset, stream, kind, clocks))
            offset += 1
        found.append(some)
    return found


def _record(offset: int, stream: str, kind: str, clocks: dict[str, int]) -> ConsumerRecord:
    now = clocks[stream]
    if kind in ("rubbish", "split", "again", "late"):
        late = record(offset, stream, now - STEP * (kind == "late"))
        ratio = json.dumps({"symbol": "A", "ratio": 0.5}).encode()
        return {
            "rubbish": record(offset, stream, now, b"{"),
            "split": record(offset, stream, now, ratio, ((control.HEADER, b"adjust"),)),
        }.get(kind, late)
    then = now + {"gap": 4 * STEP, "day": EXPIRE + HOUR}.get(kind, STEP)
    if kind == "ahead":
        return replace(record(offset, stream, then + 5 * HOUR), timestamp=now)
    clocks[stream] = then
    prices = {"blank": {"A": None, "B": None}, "partial": {"B": 21.0}}.get(kind)
    return record(offset, stream, then, None if prices is None else json.dumps({"ts": then, "prices": prices}).encode())


@FEW
@given(records=batches())
def test_any_records_in_any_order_have_the_outcomes_that_they_have_alone(records: list[list[ConsumerRecord]]) -> None:
    """Ticks, dead letters, failures, splits, streams that come and expire; their order, snapshots and offsets too."""
    expected = outcome(serving("abc"), records, one_by_one)
    assert outcome(serving("abc"), records, at_once) == expected


def test_a_tick_of_each_stream_is_one_step_of_their_model(monkeypatch: pytest.MonkeyPatch) -> None:
    partition, asked = serving("abcd"), []
    stepped = type(MODEL).step_all

    def step_all(self: Any, states: Any, rows: Any) -> Any:
        asked.append(len(rows))
        return stepped(self, states, rows)

    monkeypatch.setattr(type(MODEL), "step_all", step_all)
    volley = [record(1 + at, stream, START + STEP) for at, stream in enumerate("abcd")]

    counts = list(process_all(partition, volley, Batch(0)))

    assert (counts, asked) == ([4], [4])


def test_a_stream_takes_its_second_tick_only_after_its_first() -> None:
    partition = serving("ab")
    some = [record(1 + at, stream, START + STEP * (1 + at // 2)) for at, stream in enumerate("abba")]
    assert list(process_all(partition, some, Batch(0))) == [2, 2]


def test_wide_vectors_are_taken_in_fewer_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rest of the process waits as long for a few of them as for many narrow ones."""
    monkeypatch.setattr(burst, "_PRICES", 5)
    partition = serving("abcd")
    some = [record(1 + at, stream, START + STEP) for at, stream in enumerate("abcd")]
    assert list(process_all(partition, some, Batch(0))) == [2, 2]


def test_what_is_not_the_record_s_fault_ends_the_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    partition = serving("ab")
    broken = record(2, "b", START + STEP)

    decode = partition.decode

    def refused(found: ConsumerRecord) -> Any:
        if found is broken:
            raise BrokerError("the registry is away")
        return decode(found)

    monkeypatch.setattr(partition, "decode", refused)
    with pytest.raises(BrokerError, match="registry"):
        list(process_all(partition, [record(1, "a", START + STEP), broken], Batch(0)))
    assert np.array_equal(partition.streams["a"].engine.ring.times[-1:], [START])
