"""What is read back from the log while the stream goes on: each tick once, whatever comes meanwhile."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest
from aiokafka import ConsumerRecord, TopicPartition

from streamer.codec import DecodeLimits
from streamer.codecs.json_text import JsonCodec
from streamer.core.settings import EngineSettings
from streamer.decoding import Decoder
from streamer.errors import BrokerError
from streamer.mapping import RecordMapping
from streamer.service.history import load_history
from streamer.service.partition import Batch, Partition, PartitionSettings

TP = TopicPartition("prices", 0)
STEP = 60_000
SETTINGS = PartitionSettings(
    EngineSettings(window=5, history=200, first=1000, every=0),
    DecodeLimits(1000, 5, 10),
    streams=10,
    key_bytes=64,
    snapshot_every=1000,
    forecasts="forecasts",
    dead_letters="dead-letters",
    state="state",
    owner="me",
)


def record(offset: int, key: str, *symbols: str) -> ConsumerRecord:
    """The tick of the minute `offset`."""
    value = json.dumps({"ts": offset * STEP, "prices": dict.fromkeys(symbols or ("A",), 1.0 + offset)}).encode()
    return ConsumerRecord("prices", 0, offset, offset * STEP, 0, key.encode(), value, None, 1, len(value), ())


def partition() -> Partition:
    def load(stream: str, model_id: str) -> Any:
        raise AssertionError(f"{stream} has no model {model_id}")

    return Partition("prices", 0, SETTINGS, load)


def take(found: Partition, records: list[ConsumerRecord]) -> None:
    """Process and commit `records`, with the snapshots of all streams."""
    batch = Batch(0)
    for each in records:
        found.process(each, batch)
    found.save_due(batch, everything=True)
    found.committed(batch)


def snapshots(records: list[ConsumerRecord]) -> dict[str, bytes]:
    """Of each stream, once `records` are taken in."""
    found, batch = partition(), Batch(0)
    for each in records:
        found.process(each, batch)
    found.save_due(batch, everything=True)
    return {
        each.key.decode(): each.value for each in batch.records if each.topic == "state" and each.key and each.value
    }


class Log:
    """The input in memory. meanwhile: what happens to the partition before each batch is read."""

    def __init__(self, records: list[ConsumerRecord], meanwhile: Iterator[Callable[[], None]]) -> None:
        self._records = records
        self._meanwhile = meanwhile

    async def warm_offset(self, tp: TopicPartition, before: int) -> int:
        return 0

    async def read(self, tp: TopicPartition, start: int, end: int) -> AsyncIterator[list[ConsumerRecord]]:
        for at in range(start, end, 10):
            next(self._meanwhile, lambda: None)()
            yield self._records[at : min(at + 10, end)]


def read_back(found: Partition, log: Any) -> None:
    """From `log`, which has of a broker what is asked of it."""
    asyncio.run(load_history(log, TP, found))


def minutes(found: Partition, stream: str) -> list[int]:
    """Of the ticks that `stream` learns from."""
    return [time // STEP for time in found.streams[stream].engine.history.times.tolist()]


def with_a_behind() -> tuple[list[ConsumerRecord], Partition]:
    """Records of two streams in turn, and their partition: the snapshot of `a` is older, and replayed up to 50."""
    records = [record(offset, "ab"[offset % 2]) for offset in range(60)]
    found = partition()
    found.streams["a"] = found.restored("a", snapshots(records[:20])["a"])
    found.streams["b"] = found.restored("b", snapshots(records[:50])["b"])
    for each in records[20:50]:
        found.process(each, Batch(0))
    return records, found


def test_a_snapshot_that_is_saved_meanwhile_does_not_move_where_the_history_ends() -> None:
    records, found = with_a_behind()
    read_back(found, Log(records, iter([lambda: take(found, records[50:])])))
    assert minutes(found, "a") == list(range(0, 60, 2))
    assert minutes(found, "b") == list(range(1, 60, 2))


def test_nor_does_one_that_is_saved_before_the_second_attempt() -> None:
    records, found = with_a_behind()

    def away() -> None:
        raise BrokerError("away")

    with pytest.raises(BrokerError):
        read_back(found, Log(records, iter([away])))
    take(found, records[50:])
    read_back(found, Log(records, iter(())))
    assert minutes(found, "a") == list(range(0, 60, 2))
    assert minutes(found, "b") == list(range(1, 60, 2))


class Prepared(JsonCodec):
    """Reads what it was prepared for alone."""

    def __init__(self) -> None:
        super().__init__()
        self._known: set[bytes] = set()

    def prepare(self, values: Sequence[bytes]) -> None:
        self._known |= set(values)

    def decode(self, value: bytes) -> object:
        return super().decode(value if value in self._known else b"")


def test_the_codec_is_prepared_for_what_is_read_back(monkeypatch: pytest.MonkeyPatch) -> None:
    decoder = Decoder(Prepared(), RecordMapping(), SETTINGS.limits)
    records, saved = [record(offset, "a") for offset in range(30)], snapshots([record(each, "a") for each in range(30)])
    monkeypatch.setattr("tests.service.test_read_back.SETTINGS", replace(SETTINGS, decoder=decoder))
    found = partition()
    found.streams["a"] = found.restored("a", saved["a"])
    read_back(found, Log(records, iter(())))
    assert minutes(found, "a") == list(range(30))


@pytest.mark.parametrize("batch", [1, 3], ids=["while it is read", "with its last batch"])
def test_a_symbol_that_joins_meanwhile_is_blank_in_the_ticks_before(batch: int) -> None:
    records = [*(record(offset, "a") for offset in range(30)), record(30, "a", "A", "B")]
    found = partition()
    found.streams["a"] = found.restored("a", snapshots(records[:30])["a"])
    meanwhile = [lambda: None] * (batch - 1) + [lambda: take(found, records[30:])]
    read_back(found, Log(records, iter(meanwhile)))
    assert minutes(found, "a") == list(range(31))
    assert found.streams["a"].engine.history.prices[:, 1].tolist()[-1] == 31.0
    assert found.streams["a"].engine.history.prices.shape == (31, 2)
