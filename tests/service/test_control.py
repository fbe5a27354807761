"""Control messages among the ticks of a partition: one outcome each, the same whoever takes over."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import hypothesis
import numpy as np
import pytest
from aiokafka import ConsumerRecord
from hypothesis import example, given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from streamer import control, dead_letters
from streamer.codec import DecodeLimits
from streamer.core.adjustment import Adjustment
from streamer.core.levels import Levels
from streamer.core.outcome import Dropped
from streamer.errors import DecodeError
from streamer.model.dataset import TrainingSet
from streamer.service.history import load_history, prepend
from streamer.service.metrics import Metrics
from streamer.service.partition import Batch, Partition, PartitionSettings
from streamer.service.telemetry import Telemetry
from tests.core.helpers import bits
from tests.service.test_expiry import TP, Log, fed, outputs, partition, restored, settings

STEP = 60_000
SYMBOLS = ("A", "B")
LIMITS = DecodeLimits(1000, 5, 10)


def tick(offset: int, key: str = "s", **prices: float) -> ConsumerRecord:
    """The tick of the minute `offset`."""
    value = json.dumps({"ts": offset * STEP, "prices": prices or {"A": 4.0 + offset / 7, "B": 9.0}}).encode()
    return _record(offset, key, value)


def asks(offset: int, key: str = "s", what: bytes = b"adjust", **message: Any) -> ConsumerRecord:
    """A control message."""
    return _record(offset, key, json.dumps(message).encode(), (("other", b""), (control.HEADER, what)))


def _record(offset: int, key: str, value: bytes, headers: Any = ()) -> ConsumerRecord:
    name = key.encode()
    return ConsumerRecord("prices", 0, offset, offset * STEP, 0, name, value, None, len(name), len(value), headers)


def kept(**changes: Any) -> PartitionSettings:
    """Settings under which a stream holds 20 ticks, and is saved after every third."""
    found = settings()
    return replace(found, engine=replace(found.engine, max_symbols=9, **changes))


# --- what it says -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("message", "adjustment"),
    [
        ({"symbol": "A", "ratio": 0.25}, Adjustment(3, "A", 0.25)),
        ({"symbol": "A", "rename": "Ä B"}, Adjustment(3, "A", 1.0, "Ä B")),
        ({"symbol": "A", "ratio": 2, "rename": "C"}, Adjustment(3, "A", 2.0, "C")),
        ({"symbol": "A", "ratio": 2, "rename": None}, Adjustment(3, "A", 2.0)),
    ],
)
def test_what_a_message_asks_for(message: dict[str, Any], adjustment: Adjustment) -> None:
    assert control.decode(b"adjust", json.dumps(message).encode(), 3, LIMITS) == adjustment
    again = control.encode(adjustment.symbol, message.get("ratio"), message.get("rename"))
    assert control.decode(b"adjust", again, 3, LIMITS) == adjustment


SYMBOL_WANTED = "expected a symbol of 1 to 10 printable characters"


@pytest.mark.parametrize(
    ("value", "detail"),
    [
        (None, 'found no JSON, expected such as {"symbol": "AAPL", "ratio": 0.25}'),
        (b"\xff", 'found no JSON, expected such as {"symbol": "AAPL", "ratio": 0.25}'),
        (b"[" * 10_000, "10000 bytes, at most 1000"),
        (b"[" * 1_000, 'found no JSON, expected such as {"symbol": "AAPL", "ratio": 0.25}'),
        (b"[1]", "found a list of 1, expected an object"),
        (b'{"ratio": 2}', "symbol: not there"),
        (b'{"symbol": 5, "ratio": 2}', f"symbol: found 5, {SYMBOL_WANTED}"),
        (b'{"symbol": "", "ratio": 2}', f"symbol: found '', {SYMBOL_WANTED}"),
        (b'{"symbol": "A"}', "found neither ratio nor rename, expected one of them at least"),
        (b'{"symbol": "A", "ration": 2}', "found 'ration', known are symbol, ratio, rename"),
        (b'{"symbol": "A", "ratio": "4:1"}', "ratio: found '4:1', expected a number"),
        (b'{"symbol": "A", "ratio": true}', "ratio: found true, expected a number"),
        (b'{"symbol": "A", "ratio": 1' + b"0" * 400 + b"}", "ratio: found a huge integer, expected a number"),
        (b'{"symbol": "A", "rename": "a\\nb"}', f"rename: found 'a\\nb', {SYMBOL_WANTED}"),
        (b'{"symbol": "A", "rename": "' + b"x" * 11 + b'"}', f"rename: found 'xxxxxxxxxxx', {SYMBOL_WANTED}"),
    ],
)
def test_a_message_that_asks_for_nothing_known_says_why(value: bytes | None, detail: str) -> None:
    with pytest.raises(DecodeError) as caught:
        control.decode(b"adjust", value, 3, LIMITS)
    assert (caught.value.reason, caught.value.detail) == ("invalid_control", detail)


def test_another_control_than_those_known_is_refused() -> None:
    with pytest.raises(DecodeError) as caught:
        control.decode(b"restart", b"{}", 3, LIMITS)
    assert caught.value.detail == "streamer-control: found 'restart', known is 'adjust'"


@given(st.one_of(st.none(), st.binary(), st.text().map(str.encode)), st.one_of(st.just(b"adjust"), st.binary()))
def test_whatever_the_bytes_are_it_is_an_adjustment_or_a_dead_letter_in_one_line(
    value: bytes | None, what: bytes
) -> None:
    refused = None
    try:
        assert control.decode(what, value, 3, LIMITS).number == 3
    except DecodeError as error:
        refused = error
    assert refused is None or (refused.reason == "invalid_control" and refused.detail.isprintable())


# --- what becomes of it -----------------------------------------------------------------------------------------------


def test_it_is_a_counted_drop_and_the_next_forecast_is_in_new_prices() -> None:
    found, registry = partition(kept()), CollectorRegistry()
    telemetry = Telemetry(Metrics(registry))
    records = [tick(0, A=8.0, B=1.0), asks(1, symbol="A", ratio=0.25, rename="NEW"), tick(2, B=1.0)]
    batch = fed(found, records)
    telemetry.committed(found, batch, [], 0.0, None)
    assert [step.outcome for _, step in batch.steps[1:2]] == [Dropped("adjusted")]
    assert batch.next_offset == 3
    forecast = json.loads(batch.records[1].value or b"")
    assert forecast["last"] == {"NEW": 2.0, "B": 1.0}
    assert registry.get_sample_value("streamer_ticks_total", {"stream": "s", "status": "adjusted"}) == 1
    assert registry.get_sample_value("streamer_ticks_total", {"stream": "s", "status": "forecast"}) == 2


@pytest.mark.parametrize(
    ("record", "detail"),
    [
        (asks(1, symbol="C", ratio=2), "symbol: found 'C', the stream has A, B"),
        (asks(1, symbol="A", ratio=-2), "ratio: found -2, expected a number from 0.000001 to 1000000"),
        (asks(1, symbol="A", rename="B"), "rename: the stream has a symbol 'B' already"),
        (asks(1, key="none", symbol="A", ratio=2), "there is no stream 'none'"),
        (asks(1, what=b"stop"), "streamer-control: found 'stop', known is 'adjust'"),
    ],
)
def test_one_that_cannot_be_heeded_is_a_dead_letter_that_says_why(record: ConsumerRecord, detail: str) -> None:
    found = partition(kept())
    batch = fed(found, [tick(0), record, tick(2)])
    [letter] = [each for each in batch.records if each.topic == "dead-letters"]
    headers = dict(letter.headers)
    assert (letter.key, letter.value) == (record.key, record.value)
    assert headers[dead_letters.REASON] == b"invalid_control"
    assert headers[dead_letters.DETAIL].decode() == detail
    assert headers[control.HEADER] in (b"adjust", b"stop"), "to be sent again once it can be heeded"
    assert set(found.streams) == {"s"}
    assert len(outputs(batch.records)) == 3


def test_the_series_of_a_symbol_go_with_its_name_and_with_itself() -> None:
    found, registry = partition(kept(max_stale=3, history=5)), CollectorRegistry()
    telemetry = Telemetry(metrics := Metrics(registry))

    def shown(records: list[ConsumerRecord]) -> set[str]:
        telemetry.committed(found, fed(found, records), [], 0.0, None)
        metrics.refresh()
        samples = [sample for family in registry.collect() for sample in family.samples]
        return {sample.labels["symbol"] for sample in samples if "symbol" in sample.labels}

    assert shown([tick(n) for n in range(3)]) == {"A", "B"}
    assert shown([asks(3, symbol="A", rename="NEW"), tick(4, NEW=4.0, B=1.0)]) == {"NEW", "B"}
    assert shown([tick(5 + n, B=1.0 + n) for n in range(8)]) == {"B"}


# --- whoever takes over -----------------------------------------------------------------------------------------------

messages = st.one_of(
    st.fixed_dictionaries({"symbol": st.sampled_from("ABC"), "ratio": st.sampled_from([0.25, 1 / 3, 7, -1])}),
    st.fixed_dictionaries({"symbol": st.sampled_from("ABC"), "rename": st.sampled_from("ABC")}),
    st.just({"symbol": "A", "ratio": 7, "rename": "C"}),
)
vectors = st.dictionaries(st.sampled_from("ABC"), st.floats(1.0, 100.0), min_size=1)
logs = st.lists(st.tuples(st.sampled_from("st"), st.one_of(vectors, vectors, vectors, messages)), max_size=30)
plans = st.lists(st.tuples(st.integers(1, 6), st.booleans()), min_size=30, max_size=30)


def records_of(drawn: list[tuple[str, dict[str, Any]]]) -> list[ConsumerRecord]:
    return [
        asks(offset, key, **item) if "symbol" in item else tick(offset, key, **item)
        for offset, (key, item) in enumerate(drawn)
    ]


@hypothesis.settings(deadline=None)
@given(logs, plans, st.integers(1, 4))
def test_outputs_are_those_of_an_owner_who_never_stopped(
    drawn: list[tuple[str, dict[str, Any]]], plan: list[tuple[int, bool]], snapshot_every: int
) -> None:
    """Whatever the batches are and after whichever an owner dies; each offset has one outcome."""
    found = replace(kept(), snapshot_every=snapshot_every)
    records = records_of(drawn)
    expected = fed(partition(found), records)
    assert len(expected.steps) == len(records)

    log, published, steps = Log(records), [], 0
    owner, at = restored(log, found), 0
    for size, dies in plan:
        batch = fed(owner, records[at : at + size])
        if batch.steps:
            log.commit(owner, batch)
            published += batch.records
            steps += len(batch.steps)
        at += size
        if dies:
            owner = restored(log, found)
    assert steps == len(records)
    assert outputs(published) == outputs(expected.records)


TICKS: list[tuple[str, dict[str, Any]]] = [("s", {"A": 3.0 + n / 7, "B": 5.0}) for n in range(13)]
TICKS_OF_B: list[tuple[str, dict[str, Any]]] = [("s", {"B": 5.0 + n}) for n in range(14)]
TICKS_OF_C: list[tuple[str, dict[str, Any]]] = [("s", {"C": 3.0 + n / 7}) for n in range(4)]
SPLIT: tuple[str, dict[str, Any]] = ("s", {"symbol": "A", "ratio": 1 / 3, "rename": "C"})


class Flowing(Log):
    """The stream goes on while the log is read: so many records of its own before each batch."""

    owner: Partition
    at: int
    flow: int

    async def read(self, tp: Any, start: int, end: int) -> AsyncIterator[list[ConsumerRecord]]:
        async for batch in super().read(tp, start, end):
            _process(self.owner, self.records[self.at : self.at + self.flow])
            self.at += self.flow
            yield batch


@hypothesis.settings(deadline=None)
@given(logs, st.integers(0, 30), st.integers(0, 30), st.integers(0, 4), st.sampled_from([4, 8, 20]))
@example([*TICKS[:13], SPLIT, *TICKS_OF_C], 12, 0, 1, 20)
@example([*TICKS[:12], *TICKS_OF_B], 12, 0, 4, 4)
def test_the_history_that_is_read_back_is_what_the_engine_had(
    drawn: list[tuple[str, dict[str, Any]]], saved: int, meanwhile: int, flow: int, history: int
) -> None:
    """From a snapshot at `saved`; the stream goes on before the log is read, and meanwhile. Symbols leave, too."""
    found, records = kept(window=3, history=history, max_stale=3), records_of(drawn)
    log, never_stopped = Flowing(records), partition(found)
    fed(never_stopped, records)
    owner = partition(found)
    batch = Batch(0)
    for each in records[:saved]:
        owner.process(each, batch)
    owner.save_due(batch, everything=True)
    log.commit(owner, batch)

    log.flow = log.at = 0
    log.owner = owner
    owner = restored(log, found)
    _process(owner, records[saved : saved + meanwhile])
    log.owner, log.at, log.flow = owner, saved + meanwhile, flow
    broker: Any = log
    asyncio.run(load_history(broker, TP, owner))
    _process(owner, records[log.at :])

    assert owner.streams.keys() == never_stopped.streams.keys()
    for name, stream in owner.streams.items():
        one, other = stream.engine, never_stopped.streams[name].engine
        assert one.symbols == other.symbols
        for part in ("times", "breaks", "prices"):
            assert bits(getattr(one.history, part)) == bits(getattr(other.history, part)), part


def _process(found: Partition, records: list[ConsumerRecord]) -> None:
    batch = Batch(0)
    for each in records:
        found.process(each, batch)


@pytest.mark.parametrize("configured", ["A", "NEW"])
def test_a_list_that_is_read_back_finds_its_columns_whichever_name_is_configured(configured: str) -> None:
    """The lists of before the rename have no names at all."""
    records = [_record(n, "s", json.dumps({"ts": n * STEP, "prices": [1.0 + n, 5.0]}).encode()) for n in range(12)]
    records[6] = asks(6, symbol="A", ratio=10, rename="NEW")
    log, found = Log(records), kept(window=3, symbols=("A", "B"))
    owner = partition(found)
    batch = fed(owner, records)
    owner.save_due(batch, everything=True)
    log.commit(owner, batch)
    before = owner.streams["s"].engine.history.prices.copy()

    owner = restored(log, kept(window=3, symbols=(configured, "B")))
    broker: Any = log
    asyncio.run(load_history(broker, TP, owner))
    np.testing.assert_array_equal(owner.streams["s"].engine.history.prices, before)


def test_what_the_last_training_learned_from_is_brought_up_by_what_came_since() -> None:
    def stored(adjustments: tuple[Adjustment, ...]) -> TrainingSet:
        times = np.arange(5) * STEP
        levels = Levels(np.ones(2, np.bool_))
        return TrainingSet(SYMBOLS, SYMBOLS, levels, STEP, times, times < 0, np.full((5, 2), 8.0), adjustments)

    first, second = Adjustment(20, "A", 0.25), Adjustment(21, "A", 0.5, "NEW")
    for had, price in (((), 1.0), ((first,), 4.0)):
        owner = partition(kept())
        fed(owner, [tick(n) for n in range(5, 9)])
        engine = owner.streams["s"].engine
        for each in (first, second):
            engine.adjust(each)
        packed = TrainingSet.unpack(stored(had).pack(), "a test")
        assert packed.adjustments == had
        assert prepend(engine, packed) == 5
        assert engine.symbols == ("NEW", "B")
        assert engine.history.prices[:5].tolist() == [[price, 8.0]] * 5
