"""What streams learn from, brought back after a restart: from the log, and beyond it from the last training's input.

Snapshots hold no more than the ring. Serving needs no more; trainings wait for the rest.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import structlog
from aiokafka import TopicPartition

from streamer.core.adjustment import KEPT, Adjustment, brought_up, since
from streamer.core.assembly import Assembly, OpenStep, following, usable
from streamer.core.buffer import TickBuffer
from streamer.core.engine import ForecastEngine
from streamer.core.grid import Floats, Placement, Position, Verdict
from streamer.core.tick import Tick
from streamer.errors import ArtifactError, DecodeError, TrainingError
from streamer.model.dataset import TrainingSet
from streamer.service.broker import Broker
from streamer.service.partition import Partition, Stream

log = structlog.get_logger(__name__)


async def load_history(broker: Broker, tp: TopicPartition, partition: Partition) -> None:
    """Read back the ticks that the streams held before their ring; BrokerError or KafkaError where that fails."""
    behind = {name: stream for name, stream in partition.streams.items() if not stream.history_complete}
    if not behind:
        return
    await _read_history(broker, tp, partition, behind)
    for name, stream in behind.items():
        await _reach_back(partition, name, stream.engine)
        stream.history_complete = True


async def _reach_back(partition: Partition, name: str, engine: ForecastEngine) -> None:
    """Put what the last training learned from before what the log still has."""
    wanted = min(engine.policy.ticks, engine.history.capacity)
    if len(engine.history) >= wanted:
        return
    try:
        stored = await asyncio.to_thread(partition.stored_input, name)
        added = 0 if stored is None else prepend(engine, stored)
    except (ArtifactError, TrainingError) as error:
        log.warning("the input of the last training cannot be read", stream=name, reason=str(error))
        added = 0
    if added:
        log.info("history goes back beyond the log", stream=name, ticks=len(engine.history), stored=added)
    if len(engine.history) < wanted:
        log.warning(
            "the log is too short to learn from as much as before", stream=name, lost=wanted - len(engine.history)
        )


def prepend(engine: ForecastEngine, stored: TrainingSet) -> int:
    """Put the ticks of `stored` that are older than the engine's history before it; returns how many.

    They end where its first tick stands among them; none of them may be taken twice. Between those that end before it
    and that tick others are missing: as in the stream, that may be a session break.
    """
    history = engine.history
    later = since(engine.adjustments, stored.adjusted)
    if not len(history) or not len(stored) or stored.step != engine.settings.step or len(later) == KEPT:
        return 0
    first, before = int(history.times[0]), len(history)
    same = np.flatnonzero(stored.times == first)
    end = int(same[-1]) if len(same) else len(stored) if stored.times[-1] < first else 0
    if end and engine.grid.is_break(int(stored.times[end - 1]), first):
        history.breaks[0] = True
    prices = np.full((end, len(engine.symbols)), np.nan)
    columns = dict(zip(stored.symbols, stored.prices[:end].T, strict=True))
    for symbol, column in brought_up(columns, later).items():
        if symbol in engine.index:
            prices[:, engine.index[symbol]] = column
    history.prepend(stored.times[:end], stored.breaks[:end], engine.readable(prices))
    return len(history) - before


async def _read_history(broker: Broker, tp: TopicPartition, partition: Partition, behind: dict[str, Stream]) -> None:
    end = max(stream.restored for stream in behind.values())
    start = await broker.warm_offset(tp, end)
    ticks = {name: _OldTicks(stream, is_whole=start == 0) for name, stream in behind.items()}
    async for records in broker.read(tp, start, end):
        await partition.prepare(records)
        for record in records:
            try:
                name, item = partition.decode(record)
            except DecodeError:
                continue
            # Of the adjustments the engine knows which were taken.
            if name in ticks and record.offset < behind[name].restored and isinstance(item, Tick):
                ticks[name].take(item, record.offset)
        await asyncio.sleep(0)
    for old in ticks.values():
        old.hand_over()


class _OldTicks:
    """Accepted ticks of one stream from before the snapshot that it was restored from.

    The stream goes on meanwhile: further snapshots and new symbols come, others leave, and adjustments are made. The
    buffer follows: it has the engine's columns, and prices as they are now. is_whole: whether they are read from the
    first on; else the reading may begin within a step, of which only a part would be seen.
    """

    def __init__(self, stream: Stream, *, is_whole: bool) -> None:
        self._engine = stream.engine
        # What the snapshot held is in the history already.
        self._known = stream.restored_ticks
        self._position = Position()
        self._symbols, self._adjusted = self._engine.symbols, self._engine.adjusted
        self._assembly = stream.assembly
        self._step = OpenStep.under(self._engine.settings, self._engine.grid)
        self._is_partial = not is_whole
        self._buffer = TickBuffer(self._engine.settings.history, len(self._symbols))

    def take(self, tick: Tick, offset: int) -> None:
        self._follow()
        adjustments = self._engine.adjustments
        later = since(adjustments, offset)
        if len(later) == KEPT:
            return  # some that came later yet may be forgotten
        if later:
            tick = replace(tick, prices=self._as_now(tick, later), listed=False)
        if self._assembly is not None:
            if partial := self._held(tick, self._assembly):
                self._step.take(tick, partial, self._close)
            return
        prices = self._engine.prices(tick)
        placement = self._engine.grid.place(self._position, tick.time, tick.record_time)
        if np.isnan(prices).all() or placement.verdict is Verdict.AHEAD:
            return
        self._append(placement, prices)

    def _close(self, step: Position, prices: Mapping[str, float]) -> None:
        placement = following(self._engine.grid, self._position, step)
        if self._is_partial:
            self._position, self._is_partial = placement.position, False
            return
        self._append(placement, self._engine.prices(Tick(placement.time, prices)))

    def _append(self, placement: Placement, prices: Floats) -> None:
        self._position = placement.position
        if placement.verdict is Verdict.ACCEPTED:
            self._buffer.append(placement.time, placement.is_break, prices)

    def _held(self, tick: Tick, assembly: Assembly) -> dict[str, float]:
        """The usable prices of `tick`, but of symbols that the stream did not take in: more than it may have."""
        known = (self._engine.index, assembly.step.prints)
        return {s: p for s, p in usable(self._engine, tick).items() if any(s in each for each in known)}

    def _as_now(self, tick: Tick, later: Sequence[Adjustment]) -> Mapping[str, float]:
        """Prices of before some adjustments, by the present names. In a list its places say which symbol is meant."""
        if not tick.listed:
            return brought_up(tick.prices, later)
        return {symbol: price * _ratio(symbol, later) for symbol, price in self._engine.by_name(tick).items()}

    def _follow(self) -> None:
        for each in since(self._engine.adjustments, self._adjusted):
            self._adjusted = each.number
            if each.symbol in self._symbols:
                self._buffer.scale(self._symbols.index(each.symbol), each.ratio)
            self._step.adjust(each)
            self._symbols = each.of_names(self._symbols)
        if self._symbols != self._engine.symbols:
            place = {symbol: column for column, symbol in enumerate(self._symbols)}
            columns = [place.get(symbol, -1) for symbol in self._engine.symbols]
            self._buffer, self._symbols = self._buffer.take(np.array(columns, np.intp)), self._engine.symbols

    def hand_over(self) -> None:
        self._follow()
        older = slice(0, max(0, len(self._buffer) - self._known))
        buffer = self._buffer
        self._engine.history.prepend(buffer.times[older], buffer.breaks[older], buffer.prices[older])


def _ratio(symbol: str, adjustments: Sequence[Adjustment]) -> float:
    """What a price of before `adjustments` is multiplied by, of the symbol that has the name `symbol` after them."""
    ratio = 1.0
    for each in reversed(adjustments):
        if each.name == symbol:
            ratio, symbol = ratio * each.ratio, each.symbol
    return ratio
