"""Reads what was published and what it was made of, partition by partition, and compares."""

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from dataclasses import dataclass

from aiokafka import ConsumerRecord, TopicPartition

from streamer import decoding
from streamer.core.forecaster import Forecaster
from streamer.core.outcome import Forecast
from streamer.dead_letters import DeadLetter
from streamer.errors import ConfigError, UsageError
from streamer.model.dataset import TrainingSet
from streamer.model.forecaster import LstmForecaster
from streamer.model.store import ModelStore
from streamer.service.broker import Broker
from streamer.service.history import load_history
from streamer.service.offsets import UnstableOffsetError
from streamer.service.partition import Batch, PartitionSettings
from streamer.verification.comparison import Comparison, Tally
from streamer.verification.replay import UNJUDGED, Replay, Swaps

_UNEXPLAINED = ("error", "unknown_schema")
"""Reasons of dead letters that may have gone since: of a fault of ours, and of a registry that lacked something."""

_RETRY_SECONDS = 0.05
_NEAR = 5_000  # forecasts that may as well be read as searched


@dataclass(frozen=True, slots=True)
class Asked:
    """Which forecasts. stream, partition: None is all. start, end: input offsets `[start, end)`, None is open."""

    stream: str | None = None
    partition: int | None = None
    start: int | None = None
    end: int | None = None


@dataclass(frozen=True, slots=True)
class Judged:
    """One partition: which input offsets `[start, end)`, how many records were replayed for that, what came of it.

    published, foreign: records of the forecast topic that are forecasts of this partition, and others. seconds: of the
    replay.
    """

    partition: int
    start: int
    end: int
    replayed: int
    published: int
    foreign: int
    seconds: float
    tallies: dict[str, Tally]


Progress = Callable[[int, int, int, int], None]
"""Told of the partition, where the replay began, where it is, and where it will end."""


class Verifier:
    """Computes forecasts again with `settings` and the models of `store`."""

    def __init__(self, broker: Broker, store: ModelStore, settings: PartitionSettings, progress: Progress) -> None:
        self._broker = broker
        self._store = store
        self._settings = settings
        self._progress = progress

    async def run(self, asked: Asked, partitions: int) -> list[Judged]:
        """Judge what is asked for. UsageError where there is no such partition; BrokerError, ConfigError."""
        if asked.partition is not None and asked.partition >= partitions:
            raise UsageError(f"--partition: found {asked.partition}, the input has {partitions}, counted from 0")
        if asked.start is not None and asked.end is not None and asked.start >= asked.end:
            raise UsageError(f"--from {asked.start} is not before --to {asked.end}")
        if not await asyncio.to_thread(self._store.streams):
            raise ConfigError(f"models.url: {self._store.root} holds no streams: name the store of the daemon")
        numbers = range(partitions) if asked.partition is None else [asked.partition]
        return [found for number in numbers if (found := await self._partition(asked, number)) is not None]

    async def _partition(self, asked: Asked, number: int) -> Judged | None:
        """One of the partitions; None where the group has done nothing there."""
        tp = TopicPartition(self._broker.settings.topics.prices, number)
        first, behind = await self._broker.offsets(tp)
        committed = await self._committed(tp)
        if committed is None:
            return None
        end = min(each for each in (asked.end, committed, behind) if each is not None)
        if asked.start is not None and asked.start >= end:
            return Judged(number, asked.start, end, 0, 0, 0, 0.0, {})
        began = time.perf_counter()
        comparison = Comparison(self._settings.codec, f"{tp.topic}-{number}", asked.start or 0, end)
        replay = self._replay(tp, first, asked.stream, await self._unexplained(tp))
        names = await asyncio.to_thread(self._store.streams) if asked.stream is None else [asked.stream]
        begin = min(max(first, asked.start or 0), end)
        start = await asyncio.to_thread(replay.begin, names, begin)
        if replay.has_swaps_ahead():
            await load_history(self._broker, tp, replay)
        replayed = await self._compare(tp, replay, comparison, (start, begin, end))
        tallies = {name: tally for name, tally in comparison.tallies.items() if asked.stream in (None, name)}
        for name, tally in tallies.items():
            tally.sections |= replay.sections.get(name, set())
        seconds = time.perf_counter() - began
        counted = replayed, comparison.published, comparison.foreign
        return Judged(number, asked.start or first, end, *counted, seconds, tallies)

    def _replay(self, tp: TopicPartition, first: int, only: str | None, refused: dict[int, str]) -> Replay:
        def load(stream: str, model_id: str) -> Forecaster:
            return LstmForecaster.from_artifact(self._store.load(stream, model_id))

        def stored_input(stream: str) -> TrainingSet | None:
            data = self._store.load_input(stream)
            return None if data is None else TrainingSet.unpack(data, f"the training input of stream {stream!r}")

        return Replay(
            tp.topic,
            tp.partition,
            self._settings,
            load,
            Swaps(self._store),
            stored_input,
            store=self._store,
            refused=refused,
            only=only,
            first=first,
        )

    async def _unexplained(self, tp: TopicPartition) -> dict[int, str]:
        """Reasons of the dead letters that the input alone does not explain, by offset."""
        letters = TopicPartition(self._broker.settings.topics.dead_letters, tp.partition)
        found = {}
        async for records in self._broker.read(letters, *await self._broker.offsets(letters)):
            for letter in map(DeadLetter.of, records):
                source = (letter.topic, letter.partition, letter.offset)
                if letter.reason in _UNEXPLAINED and source[:2] == (tp.topic, str(tp.partition)):
                    found[int(letter.offset or -1)] = letter.reason
        return found

    async def _compare(
        self, tp: TopicPartition, replay: Replay, comparison: Comparison, bounds: tuple[int, int, int]
    ) -> int:
        """Go through the input; the forecasts that were published follow. Returns how many records were replayed."""
        start, begin, end = bounds
        replayed = 0
        async with contextlib.aclosing(self._forecasts(tp.partition, comparison, begin)) as forecasts:
            published = _Published(forecasts, comparison)
            async for records in self._broker.read(tp, start, end):
                await replay.prepare(records)
                for record in records:
                    _judge(replay, record, comparison, begin)
                replayed += len(records)
                await published.up_to(records[-1].offset)
                self._progress(tp.partition, start, records[-1].offset + 1, end)
                await asyncio.sleep(0)
            await published.up_to(None)
        comparison.finish()
        return replayed

    async def _forecasts(self, number: int, comparison: Comparison, begin: int) -> AsyncGenerator[ConsumerRecord]:
        """Those of one partition, from some before the first whose input is at `begin` or behind."""
        tp = TopicPartition(self._broker.settings.topics.forecasts, number)
        first, _ = await self._broker.offsets(tp)
        # What is committed in the input may yet lack its markers here: those transactions are waited for.
        end = await self._broker.high_watermark(tp)
        if first:
            oldest = await self._first_source(tp, comparison, first, end)
            comparison.expired = comparison.end if oldest is None else oldest
        start = await self._before(tp, comparison, (first, end), begin)
        async for records in self._broker.read(tp, start, end):
            await decoding.prepare(self._settings.codec, records)
            for record in records:
                yield record

    async def _before(self, tp: TopicPartition, comparison: Comparison, bounds: tuple[int, int], begin: int) -> int:
        """An offset of the topic behind which all forecasts of inputs from `begin` on lie, as they are in order."""
        low, high = bounds
        while high - low > _NEAR and begin:
            middle = (low + high) // 2
            source = await self._first_source(tp, comparison, middle, high)
            if source is not None and source < begin:
                low = middle
            else:
                high = middle
        return max(bounds[0], low - _NEAR)  # at least once, some were sent again after later ones

    async def _first_source(self, tp: TopicPartition, comparison: Comparison, start: int, end: int) -> int | None:
        async with contextlib.aclosing(self._broker.read(tp, start, end)) as reading:
            async for records in reading:
                if known := [source for source in map(comparison.source, records) if source is not None]:
                    return known[0]
        return None

    async def _committed(self, tp: TopicPartition) -> int | None:
        """How far the group has come. A daemon that serves has a transaction open for a moment with each batch."""
        deadline = time.monotonic() + self._broker.settings.transaction_timeout
        while True:
            try:
                found = await self._broker.committed(tp)
            except UnstableOffsetError:
                if time.monotonic() > deadline:
                    raise
                await asyncio.sleep(_RETRY_SECONDS)
            else:
                return None if found is None else int(found.offset)


def _judge(replay: Replay, record: ConsumerRecord, comparison: Comparison, begin: int) -> None:
    """Take in one record; from `begin` on its outcome counts."""
    batch = Batch(record.offset)
    replay.process(record, batch)
    if record.offset < begin or replay.only not in (None, replay.stream):
        return
    [(_, step)] = batch.steps
    name = replay.stream
    if step.outcome is UNJUDGED:
        comparison.pass_over(record.offset, name, replay.why[name])
        return
    values = [each.value for each in batch.records if each.topic == replay.settings.forecasts]
    value = values[0] if isinstance(step.outcome, Forecast) else None
    others = replay.others(name)
    comparison.expect(record.offset, name, value, exact=not others)
    if others:
        comparison.tally(name).others.update(others)


class _Published:
    """Gives forecasts to a comparison, none before its input."""

    def __init__(self, forecasts: AsyncIterator[ConsumerRecord], comparison: Comparison) -> None:
        self._forecasts = forecasts
        self._comparison = comparison
        self._held: ConsumerRecord | None = None

    async def up_to(self, offset: int | None) -> None:
        """Give those of inputs up to `offset`, None: all."""
        while True:
            self._held = self._held or await anext(self._forecasts, None)
            if self._held is None:
                return
            source = self._comparison.source(self._held)
            if offset is not None and source is not None and source > offset:
                return
            self._comparison.publish(self._held)
            self._held = None
