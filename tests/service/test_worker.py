"""What a worker makes of what its consumer, its sink and its history come upon."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import replace
from typing import Any
from unittest.mock import Mock

import pytest
from aiokafka import ConsumerRecord, TopicPartition
from aiokafka.errors import OffsetOutOfRangeError
from aiokafka.structs import OffsetAndMetadata
from structlog.testing import capture_logs

from streamer.codecs.json_text import JsonCodec
from streamer.codecs.registry import RegistryError
from streamer.decoding import Decoder
from streamer.errors import BrokerError
from streamer.mapping import RecordMapping
from streamer.service import worker as module
from streamer.service.partition import Replay
from streamer.service.restore import offset_to_commit
from streamer.service.sink import Offset
from streamer.service.worker import PartitionWorker
from tests.service.test_read_back import SETTINGS, STEP, TP, partition, record


class Kafka:
    """One partition whose group stands at offset 5: broker, consumer and sink in one.

    fetched: what each fetch gives or raises; behind the last the worker is stopped. commits: what each commit raises.
    """

    def __init__(self, *fetched: list[ConsumerRecord] | Exception, first: int = 0) -> None:
        self.settings = Mock(delivery="exactly_once", max_poll_records=500)
        self.largest_dead_letter = 5000
        self.seeks: list[int] = []
        self.commits: deque[Exception | None] = deque()
        self._fetched = deque(fetched)
        self._first = first
        self._committed = offset_to_commit(5, Replay(5))
        self.observer = Mock()
        self.worker = PartitionWorker(TP, self.as_any, self.as_any, partition, self.observer)

    @property
    def as_any(self) -> Any:
        """For whom it stands in."""
        return self

    # --- broker -------------------------------------------------------------------------------------------------------

    async def check_topics(self) -> int:
        return 1

    def sink(self, tp: TopicPartition, consumer: object) -> "Kafka":
        return self

    async def refusal(self) -> str | None:
        return None

    async def committed(self, tp: TopicPartition) -> OffsetAndMetadata:
        return self._committed

    async def offsets(self, tp: TopicPartition) -> tuple[int, int]:
        return self._first, 100

    async def snapshots(self, partition: int, up_to: int | None = None) -> dict[str, bytes]:
        return {}

    async def read(self, tp: TopicPartition, start: int, end: int) -> AsyncIterator[list[ConsumerRecord]]:
        for _ in range(0):
            yield []

    # --- consumer -----------------------------------------------------------------------------------------------------

    def seek(self, tp: TopicPartition, offset: int) -> None:
        self.seeks.append(offset)

    async def getmany(self, tp: TopicPartition, **_: int) -> dict[TopicPartition, list[ConsumerRecord]]:
        await asyncio.sleep(0)
        if not self._fetched:
            self.worker.stop()
            return {}
        found = self._fetched.popleft()
        if isinstance(found, Exception):
            raise found
        return {tp: found}

    def highwater(self, tp: TopicPartition) -> None: ...

    # --- sink ---------------------------------------------------------------------------------------------------------

    async def start(self) -> None: ...

    async def open(self) -> None: ...

    async def commit(self, records: Iterable[object], offset: Offset | None) -> None:
        assert offset is not None
        if self.commits and (error := self.commits.popleft()):
            raise error
        self._committed = offset[1]

    async def stop(self) -> None: ...


@pytest.mark.parametrize(("first", "goes_on_at"), [(0, 5), (5, 5), (9, 9)])
async def test_it_goes_on_at_the_oldest_record_only_where_its_position_has_expired(first: int, goes_on_at: int) -> None:
    """A leader that has just taken over may refuse an offset that it holds; from the first on all would be doubled."""
    kafka = Kafka(OffsetOutOfRangeError({TP: 5}), first=first)
    await kafka.worker.run()
    assert kafka.seeks == [5, goes_on_at]


async def test_a_broker_that_was_there_again_is_waited_for_as_briefly_as_at_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "_RETRY_SECONDS", (0.0, 1e-6))
    kafka = Kafka(*([record(offset, "a")] for offset in (5, 5, 5, 6, 6)))
    away = BrokerError("away")
    kafka.commits.extend([away, away, None, away])
    with capture_logs() as logs:
        await kafka.worker.run()
    assert [each["in_seconds"] for each in logs if each["event"] == "partition begins anew"] == [0.0, 1e-6, 0.0]


class Away:
    """A codec whose registry is away when it is first asked."""

    content_type = "application/json"

    def __init__(self) -> None:
        self.prepared: list[int] = []
        self.decode = JsonCodec().decode
        self.encode = JsonCodec().encode

    def prepare(self, values: Sequence[bytes]) -> None:
        self.prepared.append(len(values))
        if len(self.prepared) == 1:
            raise RegistryError("no schema registry answers")


async def test_a_registry_that_is_away_is_waited_for_and_no_record_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_RETRY_SECONDS", (0.0,))
    codec = Away()
    settings = replace(SETTINGS, decoder=Decoder(codec, RecordMapping(), SETTINGS.limits))
    monkeypatch.setattr("tests.service.test_read_back.SETTINGS", settings)
    records = [record(offset, "a") for offset in (5, 6)]
    kafka = Kafka(records, records)
    with capture_logs() as logs:
        await kafka.worker.run()
    assert codec.prepared == [2, 2]
    assert [each["error"] for each in logs if each["event"] == "partition begins anew"] == [
        "no schema registry answers"
    ]
    outcomes = [step.outcome for _, step in kafka.observer.committed.call_args.args[1].steps]
    assert [outcome.as_of for outcome in outcomes] == [5 * STEP, 6 * STEP]
    assert kafka.seeks == [5, 5]


async def test_asked_to_stop_it_does_not_wait_for_its_next_attempt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_RETRY_SECONDS", (3600.0,))
    kafka = Kafka([record(5, "a")])
    kafka.commits.append(BrokerError("away"))
    running = asyncio.create_task(kafka.worker.run())
    while not kafka.observer.interrupted.called:
        await asyncio.sleep(0)
    kafka.worker.stop()
    async with asyncio.timeout(5):
        await running


async def test_its_observer_hears_when_it_serves_no_longer_and_when_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_RETRY_SECONDS", (0.0,))
    kafka = Kafka(*([record(offset, "a")] for offset in (5, 5)))
    kafka.commits.append(BrokerError("away"))
    await kafka.worker.run()
    told = [call[0] for call in kafka.observer.method_calls if call[0] in ("restored", "interrupted")]
    assert told == ["restored", "interrupted", "restored"]


async def test_what_nobody_expected_of_the_history_ends_the_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    """Or trainings would wait for it for ever, and nobody would know."""

    async def load_history(*_: object) -> None:
        raise ValueError("our mistake")

    monkeypatch.setattr(module, "load_history", load_history)
    kafka = Kafka(*([record(offset, "a")] for offset in range(5, 9)))
    with pytest.raises(ValueError, match="our mistake"):
        await kafka.worker.run()


async def test_a_history_that_the_broker_does_not_give_is_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    errors: deque[Exception] = deque([BrokerError("away"), OSError("gone")])

    async def load_history(*_: object) -> None:
        if errors:
            raise errors.popleft()
        kafka.worker.stop()

    monkeypatch.setattr(module, "load_history", load_history)
    monkeypatch.setattr(module, "_HISTORY_SECONDS", 0.0)
    kafka = Kafka(*([record(offset, "a")] for offset in range(5, 90)))
    await kafka.worker.run()
    assert not errors
