"""What streams learn from, brought back after a restart: from the log, and beyond it from the last training's input.

Snapshots hold no more than the ring. Serving needs no more; trainings wait for the rest.
"""

import asyncio

import numpy as np
import structlog
from aiokafka import TopicPartition

from streamer.core.buffer import TickBuffer
from streamer.core.engine import ForecastEngine
from streamer.core.grid import Position, Verdict
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
    and that tick others are missing: as in the stream, more than `max_gap` steps of that are a session break.
    """
    history, settings = engine.history, engine.settings
    if not len(history) or not len(stored) or stored.step != settings.step:
        return 0
    first, before = int(history.times[0]), len(history)
    same = np.flatnonzero(stored.times == first)
    end = int(same[-1]) if len(same) else len(stored) if stored.times[-1] < first else 0
    if end and first - int(stored.times[end - 1]) > (settings.max_gap + 1) * settings.step:
        history.breaks[0] = True
    prices = np.full((end, len(engine.symbols)), np.nan)
    for column, symbol in enumerate(stored.symbols):
        if symbol in engine.index:
            prices[:, engine.index[symbol]] = stored.prices[:end, column]
    history.prepend(stored.times[:end], stored.breaks[:end], engine.readable(prices))
    return len(history) - before


async def _read_history(broker: Broker, tp: TopicPartition, partition: Partition, behind: dict[str, Stream]) -> None:
    end = max(stream.restored for stream in behind.values())
    ticks = {name: _OldTicks(stream) for name, stream in behind.items()}
    async for records in broker.read(tp, await broker.warm_offset(tp, end), end):
        await partition.prepare(records)
        for record in records:
            try:
                name, tick = partition.decode(record)
            except DecodeError:
                continue
            if name in ticks and record.offset < behind[name].restored:
                ticks[name].take(tick)
        await asyncio.sleep(0)
    for old in ticks.values():
        old.hand_over()


class _OldTicks:
    """Accepted ticks of one stream from before the snapshot that it was restored from.

    The stream goes on meanwhile: further snapshots and new symbols come.
    """

    def __init__(self, stream: Stream) -> None:
        self._engine = stream.engine
        # What the snapshot held is in the history already.
        self._known = stream.restored_ticks
        self._position = Position()
        self._buffer = TickBuffer(self._engine.settings.history, len(self._engine.symbols))

    def take(self, tick: Tick) -> None:
        prices = self._engine.prices(tick)
        placement = self._engine.grid.place(self._position, tick.time, tick.record_time)
        if np.isnan(prices).all() or placement.verdict is Verdict.AHEAD:
            return
        self._position = placement.position
        self._widen()
        if placement.verdict is Verdict.ACCEPTED:
            self._buffer.append(placement.time, placement.is_break, prices)

    def _widen(self) -> None:
        width = len(self._engine.symbols)
        if self._buffer.prices.shape[1] < width:
            self._buffer = self._buffer.widened(width)

    def hand_over(self) -> None:
        self._widen()
        older = slice(0, max(0, len(self._buffer) - self._known))
        buffer = self._buffer
        self._engine.history.prepend(buffer.times[older], buffer.breaks[older], buffer.prices[older])
