"""Whom a training is for: the stream that wants it, or all streams of this process that can have one model."""

import asyncio
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field

import structlog

from streamer.core.engine import ForecastEngine
from streamer.core.policy import Reason
from streamer.errors import ArtifactError
from streamer.model.dataset import MIN_ROWS, TrainingSet
from streamer.model.pool import rows_each
from streamer.model.shared import adopted
from streamer.model.store import ModelStore
from streamer.service.partition import Stream
from streamer.service.trainer import Collected
from streamer.service.worker import PartitionWorker

log = structlog.get_logger(__name__)

Owned = Callable[[], Mapping[str, tuple[PartitionWorker, Stream]]]
"""Gives the streams of our partitions, by name."""

_DRIFTED = 0.25  # share of the streams that have to see a drift before the model that they share is trained anew


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
class Together:
    """Implements `trainer.Learner` for all streams that can have one model with `asker`.

    A stream that has none yet takes over that of one which has. store: of the models. members: those that the training
    has the history of.
    """

    asker: Stream
    owned: Owned
    store: ModelStore
    sharing: Sharing
    members: dict[str, Stream] = field(default_factory=dict)

    def kin(self) -> dict[str, Stream]:
        """The streams of the asker's shape, itself first; empty where it is not ours any more."""
        owned, wanted = self.owned(), _shape(self.asker.engine)
        if self.asker.name not in owned or owned[self.asker.name][1] is not self.asker:
            return {}
        others = {name: stream for name, (_, stream) in owned.items() if _shape(stream.engine) == wanted}
        return {self.asker.name: self.asker} | others

    def is_called_for(self, reason: str) -> bool:
        """Whether a training has to be; one stream's drift does not call for one of all."""
        if reason != Reason.DRIFT:
            return True
        kin = self.kin().values()
        return sum(stream.engine.policy.wanted == Reason.DRIFT for stream in kin) >= _DRIFTED * len(kin)

    async def collect(self, waited: bool) -> Mapping[str, Collected]:
        """Their histories and what serves them; nothing where the asker takes over a model, or wants none any more.

        Between two of them all else goes on: each history is whole, though the one may be a tick longer.
        """
        kin, wanted = self.kin(), self.asker.engine.policy.wanted
        if not kin or wanted is None or (wanted != Reason.REQUESTED and await self._adopts(kin)):
            return {}
        ready = {name: each for name, each in kin.items() if each is self.asker or _is_ready(each)}
        most = rows_each(len(ready), self.sharing.pool, self.sharing.history)
        collected = {}
        for name, stream in ready.items():
            if name in (owned := self.owned()) and owned[name][1] is stream:
                stream.engine.policy.joined()
                self.members[name] = stream
                collected[name] = Collected(TrainingSet.of(stream.engine, most), _champion(stream.engine))
                await asyncio.sleep(0)
        return collected

    async def _adopts(self, kin: Mapping[str, Stream]) -> bool:
        """Whether the asker, which has no model yet, has taken over the newest one of the others."""
        engine = self.asker.engine
        served = [each for each in kin.values() if each.engine.serving is not None]
        if engine.serving is not None or not served:
            return False
        donor = max(served, key=lambda each: each.engine.swaps[-1].after)
        history = TrainingSet.of(engine)
        try:
            model = await asyncio.to_thread(self._adopted, donor.name, donor.engine.model_id, history)
            if model in engine.reverted:
                return False
            await self.install(self.asker.name, model)
        except (ArtifactError, LookupError) as error:
            log.warning("model not taken over, one is trained", stream=self.asker.name, reason=str(error))
            return False
        log.info("model taken over", stream=self.asker.name, model=model, of=donor.name)
        self.members = {self.asker.name: self.asker}
        return True

    def _adopted(self, donor: str, model_id: str, history: TrainingSet) -> str:
        """Store the donor's model as one of the asker's; returns its id."""
        own = adopted(self.store.load(donor, model_id), history, donor)
        self.store.save(self.asker.name, own)
        return own.id

    def reverted(self, stream: str, model_id: str) -> bool:
        """Whether that stream's operator has reverted it."""
        return stream in self.members and model_id in self.members[stream].engine.reverted

    async def install(self, stream: str, model_id: str) -> None:
        """Put a stream's model into service; LookupError where it is not ours any more."""
        owned = self.owned()
        if stream not in owned:
            raise LookupError("another process has the stream by now")
        worker, found = owned[stream]
        await worker.install(found, model_id)

    def ended(self) -> None:
        """What came due meanwhile is due now."""
        for stream in self.members.values():
            stream.engine.policy.ended()


def _champion(engine: ForecastEngine) -> str | None:
    return engine.serving.model.id if engine.serving else None


def _shape(engine: ForecastEngine) -> Hashable:
    """What streams of one process have in common that can have one model, as far as the engine knows."""
    return frozenset(zip(engine.symbols, engine.market.levels.is_log.tolist(), strict=True))


def _is_ready(stream: Stream) -> bool:
    return stream.history_complete and len(stream.engine.history) >= MIN_ROWS
