"""Messages that each hold a part of a vector: one outcome for each, whoever takes over, and the history read back."""

import csv
import json
import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import hypothesis
import numpy as np
import pytest
from aiokafka import ConsumerRecord
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from streamer.codec import format_time
from streamer.core.outcome import Forecast
from streamer.service import wiring
from streamer.service.metrics import Metrics
from streamer.service.partition import Batch, Partition, PartitionSettings
from streamer.service.records import OutputRecord
from streamer.service.telemetry import Telemetry
from streamer.settings import Settings
from tests.service.test_control import asks
from tests.service.test_expiry import Log, fed, outputs, partition, restored, settings
from tests.service.test_read_back import read_back
from tests.support import shared_data

MINUTE = 60_000
START = 1_700_000_040_000


def assembling(snapshot_every: int = 3, **changes: Any) -> PartitionSettings:
    """Every limit is near; `changes` are of the engine's settings."""
    found = settings(expire=0, snapshot_every=snapshot_every)
    return replace(found, engine=replace(found.engine, assemble="last", **{"late_reset": 3, "max_gap": 3} | changes))


def record(offset: int, at: float, *, key: str = "a", behind: int = 0, **prices: float | None) -> ConsumerRecord:
    """Prices at so many minutes after START, in a record `behind` ms later."""
    return partial(offset, at, prices, key, behind)


def partial(
    offset: int, at: float, prices: Mapping[str, float | None], key: str = "a", behind: int = 0
) -> ConsumerRecord:
    time = START + round(at * MINUTE)
    value = json.dumps({"ts": time, "prices": prices}).encode()
    name = key.encode()
    return ConsumerRecord("prices", 0, offset, time + behind, 0, name, value, None, len(name), len(value), ())


def statuses(batch: Batch) -> list[str]:
    """What became of each record."""
    outcomes = [step.outcome for _, step in batch.steps]
    return ["forecast" if isinstance(each, Forecast) else each.reason for each in outcomes]


# --- one outcome ------------------------------------------------------------------------------------------------------


def test_a_stream_begins_with_the_first_message_that_is_merged_and_its_snapshot_with_it() -> None:
    log, found = Log([record(0, 0, A=1.0), record(1, 0, B=2.0), record(2, 1, A=3.0)]), assembling()
    owner = partition(found)
    first = fed(owner, log.records[:1])
    log.commit(owner, first)
    assert statuses(first) == ["merged"]
    assert set(log.state) == {"a"}
    assert outputs(first.records) == []

    rest = fed(restored(log, found), log.records[1:])
    assert statuses(rest) == ["merged", "forecast"]
    forecast = json.loads(outputs(rest.records)[0][1] or b"")
    assert forecast["source"] == {"topic": "prices", "partition": 0, "offset": 2}
    assert (forecast["id"], forecast["as_of"]) == ("prices-0-2", format_time(START))
    assert forecast["last"] == {"A": 1.0, "B": 2.0}


def test_what_is_not_taken_in_begins_no_stream() -> None:
    found = partition(assembling())
    assert statuses(fed(found, [record(0, 0, A=None), record(1, 99, behind=-9_000_000, A=1.0)])) == [
        "no_price",
        "ahead",
    ]
    assert found.streams == {}


def test_an_exception_at_the_close_is_one_dead_letter_and_the_stream_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Again and again on the same step, it would end the process."""
    found = partition(assembling())
    batch = fed(found, [record(0, 0, A=1.0), record(1, 1, A=2.0)])
    engine = found.streams["a"].engine
    accept = engine.accept

    def fails(*arguments: object) -> None:
        raise ArithmeticError("too much")

    monkeypatch.setattr(engine, "accept", fails)
    batch = fed(found, [record(2, 2, A=3.0)])
    monkeypatch.setattr(engine, "accept", accept)
    assert statuses(batch) == ["error"]
    assert outputs(batch.records)[0][1] == record(2, 2, A=3.0).value
    rest = fed(found, [record(3 + n, 1 + n / 2, A=4.0 + n) for n in range(6)])
    assert statuses(rest) == ["duplicate", "duplicate", "merged", "merged", "forecast", "merged"]
    assert engine.ring.times.tolist() == [START, START + 2 * MINUTE]


# --- whoever takes over -----------------------------------------------------------------------------------------------

parts = st.lists(
    st.tuples(
        st.sampled_from("ab"),
        st.sampled_from([0.0] * 8 + [1.0] * 4 + [2.0, 5.0, -1.0, -9.0]),
        st.sampled_from([0.0, 0.4, 0.9]),
        st.sampled_from([0, 0, 70_000, 200_000]),
        st.dictionaries(st.sampled_from("ABC"), st.one_of(st.none(), st.floats(1.0, 9.0)), min_size=1, max_size=2),
    ),
    min_size=1,
    max_size=40,
)
plans = st.lists(st.tuples(st.integers(1, 6), st.booleans()), min_size=40, max_size=40)
"""How many records each batch has, and whether the owner dies after it."""


def records_of(drawn: Iterable[tuple[str, float, float, int, Mapping[str, float | None]]]) -> list[ConsumerRecord]:
    now: dict[str, float] = defaultdict(float)
    records = []
    for offset, (key, move, within, behind, prices) in enumerate(drawn):
        now[key] += move
        records.append(partial(offset, now[key] + within, prices, key, behind))
    return records


@hypothesis.settings(deadline=None)
@given(parts, plans, st.integers(1, 4), st.sampled_from([None, 90_000]))
def test_outputs_are_those_of_an_owner_who_never_stopped(
    drawn: list[tuple[str, float, float, int, Mapping[str, float | None]]],
    plan: list[tuple[int, bool]],
    snapshot_every: int,
    close_after: int | None,
) -> None:
    """Whatever the batches are and after whichever an owner dies; each offset has its one outcome."""
    found, records = assembling(snapshot_every, close_after=close_after), records_of(drawn)
    undisturbed = partition(found)
    expected = fed(undisturbed, records)
    assert len(expected.steps) == len(records)

    log, published, found_statuses = Log(records), [], []
    owner = restored(log, found)
    at = 0
    for size, dies in plan:
        batch = fed(owner, records[at : at + size])
        if batch.steps:
            log.commit(owner, batch)
            published += batch.records
            found_statuses += statuses(batch)
        at += size
        if dies:
            owner = restored(log, found)
    assert outputs(published) == outputs(expected.records)
    assert found_statuses == statuses(expected)
    sources = [json.loads(value or b"")["source"]["offset"] for _, value in forecasts(published)]
    assert sources == [offset for offset, status in enumerate(found_statuses) if status == "forecast"]


def forecasts(records: list[OutputRecord]) -> list[tuple[bytes | None, bytes | None]]:
    return outputs([each for each in records if each.topic == "forecasts"])


@hypothesis.settings(deadline=None)
@given(parts, st.integers(0, 40), st.sampled_from([None, 90_000]))
def test_the_history_read_back_is_that_of_the_engine(
    drawn: list[tuple[str, float, float, int, Mapping[str, float | None]]], cut: int, close_after: int | None
) -> None:
    """Also where a step is open where the snapshot was made, and of symbols that no closed step has yet."""
    found = assembling(snapshot_every=10**6, window=2, history=100, close_after=close_after)
    the_history_is_read_back(found, records_of(drawn), cut)


def test_it_is_where_the_step_that_is_open_has_a_symbol_that_the_engine_has_not_heard_of() -> None:
    """Its tick closed the step before, which is in the ring."""
    records = [record(n, n, A=1.0 + n) for n in range(9)]
    the_history_is_read_back(assembling(window=2), [*records, record(9, 9, B=1.0)], 10)


def test_it_is_where_ticks_were_refused_for_their_symbol() -> None:
    """They closed no step of the stream's, and close none of the history's."""
    found = assembling(window=5)
    found = replace(found, engine=replace(found.engine, max_symbols=2))
    steps = [(at, {"C": 1.0} if at % 5 == 4 else {"A": 1.0 + at, "B": 2.0 + at}) for at in range(40)]
    the_history_is_read_back(found, [partial(n, at, prices) for n, (at, prices) in enumerate(steps)], 35)


@pytest.mark.parametrize("start", [0, 1, 2, 3])
def test_a_step_of_which_the_log_that_is_read_has_but_the_end_is_none(start: int) -> None:
    """Of one symbol, its price would be missing as if nothing had been traded."""
    found, symbols = assembling(window=2), ("A", "B")
    records = [partial(2 * n + part, n, {symbols[part]: 1.0 + n}) for n in range(12) for part in (0, 1)]
    log = Begun(records, start=start)
    owner = partition(found)
    log.commit(owner, everything_saved(owner, records))
    owner = restored(log, found)
    read_back(owner, log)

    history = owner.streams["a"].engine.history
    assert history.times.tolist()[0] == START + {0: 0, 1: 1, 2: 2, 3: 2}[start] * MINUTE
    assert len(history) == 11 - {0: 0, 1: 1, 2: 2, 3: 2}[start], "but for the step that is open"
    assert np.isfinite(history.prices).all()
    assert not history.breaks[1:].any()


@dataclass
class Begun(Log):
    """A log that is read from an offset on."""

    start: int = 0

    async def warm_offset(self, tp: Any, before: int) -> int:
        return self.start


def test_it_is_where_a_symbol_was_renamed_that_only_the_open_step_had() -> None:
    records = [record(n, n, A=1.0 + n) for n in range(9)]
    records += [record(9, 9, B=8.0), asks(10, "a", symbol="B", ratio=0.25, rename="C")]
    records += [record(n, n, A=1.0, C=2.0) for n in range(11, 20)]
    for cut in (10, 11, 19):
        the_history_is_read_back(assembling(window=2), records, cut)


def the_history_is_read_back(found: PartitionSettings, records: list[ConsumerRecord], cut: int) -> None:
    """By an owner who takes over after `cut` records, as it is with one who never stopped."""
    undisturbed, log = partition(found), Log(records)
    log.commit(undisturbed, everything_saved(undisturbed, records[:cut]))
    fed(undisturbed, records[cut:])

    owner = restored(log, found)
    fed(owner, records[cut:])
    read_back(owner, log)

    for name, stream in undisturbed.streams.items():
        ours, theirs = stream.engine.history, owner.streams[name].engine.history
        assert theirs.times.tolist() == ours.times.tolist()
        assert theirs.breaks.tolist() == ours.breaks.tolist()
        np.testing.assert_array_equal(theirs.prices, ours.prices)


def everything_saved(found: Partition, records: list[ConsumerRecord]) -> Batch:
    batch = Batch(0)
    for each in records:
        found.process(each, batch)
    found.save_due(batch, everything=True)
    return batch


# --- what is seen of it -----------------------------------------------------------------------------------------------


def test_merged_messages_are_counted_and_the_feed_is_as_new_as_the_open_step() -> None:
    registry = CollectorRegistry()
    metrics = Metrics(registry, clock=lambda: (START + 5 * MINUTE) / 1000)
    telemetry, found = Telemetry(metrics), partition(assembling())
    batch = fed(found, [record(0, 0, A=1.0), record(1, 0, B=1.0), record(2, 2, A=1.0), record(3, 1, A=1.0)])
    telemetry.committed(found, batch, [], 0.0, None)
    counted = {
        status: registry.get_sample_value("streamer_ticks_total", {"stream": "a", "status": status})
        for status in ("merged", "forecast", "late")
    }
    assert counted == {"merged": 2.0, "forecast": 1.0, "late": 1.0}
    assert registry.get_sample_value("streamer_feed_lag_seconds", {"stream": "a"}) == 180.0
    metrics.forget("a")
    assert registry.get_sample_value("streamer_ticks_total", {"stream": "a", "status": "merged"}) is None


def test_the_settings_reach_the_engine() -> None:
    given = {"assemble": "last", "close": "complete", "close_after": 60.0}
    found = wiring.engine_settings(
        Settings.model_validate({"kafka": {"bootstrap_servers": "a:1"}, "input": given, "feed": {"symbols": ["A"]}})
    )
    assert (found.assemble, found.close, found.close_after) == ("last", "complete", 60_000)


# --- a raw feed -------------------------------------------------------------------------------------------------------


@dataclass
class Plain:
    """What has to become of raw prints, one symbol each, without gaps beyond `max_gap` or a restart of time."""

    minute: int | None = None
    newest: dict[str, tuple[int, float]] = field(default_factory=dict)
    last: dict[str, float] = field(default_factory=dict)
    forecasts: list[tuple[int, dict[str, float]]] = field(default_factory=list)

    def take(self, time: int, symbol: str, price: float) -> str:
        minute = time // MINUTE
        if self.minute is not None and minute < self.minute:
            return "late"
        closes = self.minute is not None and minute > self.minute
        if closes:
            self.last |= {name: newest[1] for name, newest in self.newest.items()}
            self.forecasts.append((self.minute or 0, dict(self.last)))
            self.newest = {}
        self.minute = minute
        if symbol not in self.newest or time >= self.newest[symbol][0]:
            self.newest[symbol] = (time, price)
        return "forecast" if closes else "merged"


def test_of_raw_exchange_prints_no_forecast_is_lost_and_everything_is_counted() -> None:
    """Several prints a minute, jumps back in time of up to 21 s, duplicates; the owner dies again and again."""
    prints = raw_prints()
    records = [partial(n, (time - START) / MINUTE, {symbol: price}) for n, (time, symbol, price) in prints]
    plain = Plain()
    expected = [plain.take(*each) for _, each in prints]
    assert Counter(expected).keys() == {"merged", "forecast", "late"}

    found, log, draw = assembling(max_gap=60, late_reset=10), Log(records), random.Random(1)
    owner, at, became, published = restored(log, found), 0, [], []
    while at < len(records):
        size = draw.randint(1, 200)
        batch = fed(owner, records[at : at + size])
        log.commit(owner, batch)
        became += statuses(batch)
        published += outputs(batch.records)
        at += size
        if draw.random() < 0.5:
            owner = restored(log, found)
    assert became == expected
    values = [json.loads(value or b"") for _, value in published]
    assert [(value["as_of"], value["last"]) for value in values] == [
        (format_time(minute * MINUTE), last) for minute, last in plain.forecasts
    ]
    assert len(values) == len({time // MINUTE for _, (time, _, _) in prints}) - 1, "all minutes but the open one"


def raw_prints() -> list[tuple[int, tuple[int, str, float]]]:
    """Offset, and time in ms, symbol and price, as the exchange sent them."""
    with shared_data("nasty/nse_mcx_futures_ticks_2025-11-17_raw.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["exchange_timestamp"]]
    moments = [datetime.fromisoformat(row["exchange_timestamp"]).replace(tzinfo=UTC) for row in rows]
    times = [int(moment.timestamp() * 1000) for moment in moments]
    return list(enumerate((t, row["Symbol"], float(row["last_price"])) for t, row in zip(times, rows, strict=True)))
