"""Whom a training is for: the stream that wants it, or all streams of this process that can have one model."""

import asyncio
import math
import time
from collections import defaultdict
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache

import structlog

from streamer.core.engine import ForecastEngine
from streamer.core.forecaster import Forecaster
from streamer.core.policy import Reason
from streamer.errors import ArtifactError
from streamer.model.dataset import MIN_ROWS, TrainingSet
from streamer.model.pool import fits, rows_each
from streamer.model.shared import PRIMED, adopted
from streamer.model.store import ModelStore
from streamer.service.partition import Stream
from streamer.service.trainer import Collected
from streamer.service.worker import PartitionWorker

log = structlog.get_logger(__name__)

Owned = Callable[[], Mapping[str, tuple[PartitionWorker, Stream]]]
"""Gives the streams of our partitions, by name."""

_DRIFTED = 0.25  # share of the streams that have to see a drift before the model that they share is trained anew
_LOOK_SECONDS = 1.0  # between two looks at who has drifted: those who have ask again with every batch


@dataclass(frozen=True, slots=True)
class Sharing:
    """Whether streams that can have one model do; pool, history: ticks that such a training sees at most."""

    is_global: bool
    pool: int
    history: int


@dataclass(frozen=True, slots=True, eq=False)
class Alone:
    """Implements `trainer.Learner` for one stream."""

    worker: PartitionWorker
    stream: Stream

    async def collect(self, waited: bool) -> Mapping[str, Collected]:
        """Its history, and what serves it."""
        engine = self.stream.engine
        if waited:
            engine.policy.waited()
        if self.worker.partition.streams.get(self.stream.name) is not self.stream:
            return {}
        engine.policy.begun()
        return {self.stream.name: Collected(TrainingSet.of(engine), _champion(engine))}

    def reverted(self, stream: str, model_id: str) -> bool:
        """Whether it was reverted."""
        return model_id in self.stream.engine.reverted

    async def install(self, stream: str, model_id: str) -> None:
        """Put a model into service."""
        await self.worker.install(self.stream, model_id)

    def ended(self) -> None:
        """What came due meanwhile is due now."""
        self.stream.engine.policy.ended()


@dataclass(slots=True, eq=False)
class SharedDrift:
    """Which streams' drift calls for a training of all that can have one model with them; that of a few does not.

    clock: seconds.
    """

    owned: Owned
    clock: Callable[[], float] = time.monotonic
    _called: frozenset[str] = frozenset()
    _until: float = -math.inf

    def calls(self, stream: str) -> bool:
        """As it was at most `_LOOK_SECONDS` ago."""
        if (now := self.clock()) >= self._until:
            self._called, self._until = self._found(), now + _LOOK_SECONDS
        return stream in self._called

    def _found(self) -> frozenset[str]:
        kin: defaultdict[Hashable, dict[str, bool]] = defaultdict(dict)
        for name, (_, stream) in self.owned().items():
            kin[_shape(stream.engine)][name] = stream.engine.policy.wanted == Reason.DRIFT
        enough = [each for each in kin.values() if sum(each.values()) >= _DRIFTED * len(each)]
        return frozenset(name for each in enough for name, has_drifted in each.items() if has_drifted)


@dataclass(slots=True, eq=False)
class Together:
    """Implements `trainer.Learner` for all streams that can have one model with `asker`.

    A stream that has none yet takes over that of one which has. store: of the models. members: those that the training
    has the history of. done: those of them that are due no more with it, as they are now.
    """

    asker: Stream
    owned: Owned
    store: ModelStore
    sharing: Sharing
    members: dict[str, Stream] = field(default_factory=dict)
    done: dict[str, Stream] = field(default_factory=dict)

    def kin(self) -> dict[str, Stream]:
        """The streams of the asker's shape, itself first; empty where it is not ours any more."""
        owned, wanted = self.owned(), _shape(self.asker.engine)
        if self.asker.name not in owned or owned[self.asker.name][1] is not self.asker:
            return {}
        others = {name: stream for name, (_, stream) in owned.items() if _shape(stream.engine) == wanted}
        return {self.asker.name: self.asker} | others

    async def collect(self, waited: bool) -> Mapping[str, Collected]:
        """Their histories and what serves them; nothing where the asker takes over a model, or wants none any more.

        Between two of them all else goes on: each history is whole, though the one may be a tick longer.
        """
        kin, wanted = self.kin(), self.asker.engine.policy.wanted
        if not kin or wanted is None or (wanted != Reason.REQUESTED and await self._adopts(kin)):
            return {}
        ready = {name: each for name, each in kin.items() if each is self.asker or _is_ready(each)}
        most = rows_each(len(ready), self.sharing.pool, self.sharing.history)
        collected: dict[str, Collected] = {}
        for name, stream in ready.items():
            if name in (owned := self.owned()) and owned[name][1] is stream:
                history = TrainingSet.of(stream.engine, most)
                # Whom the training leaves out has not had one: it stays due.
                if stream is self.asker or (collected and fits(history, collected[self.asker.name].history)):
                    self.members[name] = stream
                    if not self._has_one_for(stream):
                        self._done_with(name, stream)
                    collected[name] = Collected(history, _champion(stream.engine))
                await asyncio.sleep(0)
        return collected

    def _has_one_for(self, stream: Stream) -> bool:
        """Whether a stream can take over the asker's model, and has to be able to where the new one is rejected."""
        engine = stream.engine
        return self.asker.engine.serving is not None and engine.serving is None and not engine.reverted

    def _done_with(self, name: str, stream: Stream) -> None:
        stream.engine.policy.joined()
        self.done[name] = stream

    async def _adopts(self, kin: Mapping[str, Stream]) -> bool:
        """Whether the asker, which has no model yet, has taken over the newest one of the others."""
        engine = self.asker.engine
        served = [(each, each.engine.serving.model) for each in kin.values() if each.engine.serving is not None]
        # An operator who went back to persistence wants none of theirs either: it is the same network.
        if engine.serving is not None or engine.reverted or not served:
            return False
        donor, theirs = max(served, key=lambda each: each[0].engine.swaps[-1].after)
        # Of a short history half: its oldest rows are let go while the model catches up.
        history = TrainingSet.of(engine, 1 + min(PRIMED, engine.history.capacity // 2))
        self.members[self.asker.name] = self.done[self.asker.name] = self.asker
        try:
            model = await asyncio.to_thread(self._adopted, donor.name, theirs, history)
            if model in engine.reverted:
                return False
            await self.install(self.asker.name, model)
        except (ArtifactError, LookupError) as error:
            log.warning("model not taken over, one is trained", stream=self.asker.name, reason=str(error))
            return False
        log.info("model taken over", stream=self.asker.name, model=model, of=donor.name)
        return True

    def _adopted(self, donor: str, theirs: Forecaster, history: TrainingSet) -> str:
        """Store the donor's model as one of the asker's; returns its id."""
        own = adopted(self.store.load(donor, theirs.id), theirs, history, donor)
        self.store.save(self.asker.name, own)
        return own.id

    def reverted(self, stream: str, model_id: str) -> bool:
        """Whether that stream's operator has reverted it."""
        return stream in self.members and model_id in self.members[stream].engine.reverted

    async def install(self, stream: str, model_id: str) -> None:
        """Put a stream's model into service; LookupError where it is not ours any more, or has other settings."""
        owned, collected = self.owned(), self.members[stream]
        if stream not in owned:
            raise LookupError("another process has the stream by now")
        worker, found = owned[stream]
        # Restored meanwhile it is still the one that the model was made for, unless a reload has changed its shape.
        if found is not collected and found.engine.settings != collected.engine.settings:
            raise LookupError("the stream has other settings by now")
        await worker.install(found, model_id)
        if self.done.get(stream) is not found:
            self._done_with(stream, found)

    def ended(self) -> None:
        """What came due meanwhile is due now."""
        for stream in self.done.values():
            stream.engine.policy.ended()


def _champion(engine: ForecastEngine) -> str | None:
    return engine.serving.model.id if engine.serving else None


def _shape(engine: ForecastEngine) -> Hashable:
    """What streams of one process have in common that can have one model, as far as the engine knows."""
    return _changes(engine.symbols, engine.market.levels.is_log.tobytes())


@lru_cache(256)
def _changes(symbols: tuple[str, ...], is_log: bytes) -> Hashable:
    """Made once for all streams that have the same symbols, in the order in which they have them."""
    return frozenset(zip(symbols, is_log, strict=True))


def _is_ready(stream: Stream) -> bool:
    return stream.history_complete and len(stream.engine.history) >= MIN_ROWS
