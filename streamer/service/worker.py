"""One input partition, from assignment to revocation: restore, then fetch, process, commit, again and again."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError, NoOffsetForPartitionError, OffsetOutOfRangeError

from streamer.core.catchup import CatchUp
from streamer.core.outcome import PERSISTENCE_MODEL, Swap
from streamer.errors import ArtifactError, BrokerError, StreamerError
from streamer.model.kept import Checkpoint
from streamer.service import restore
from streamer.service.broker import Broker
from streamer.service.burst import process_all
from streamer.service.fetched import Fetched
from streamer.service.history import load_history
from streamer.service.partition import Batch, Partition, Stream
from streamer.service.sink import Sink
from streamer.service.waiting import set_within

log = structlog.get_logger(__name__)

_FETCH_MS = 500
_SLICE = 4  # ticks that a model catches up in between two looks at the clock
_SLICE_SECONDS = 0.005  # that a model catches up for at a time, beside the path; then as long again for all else
_HISTORY_SECONDS = 5.0  # between two attempts to read it back
_RETRY_SECONDS = (0.1, 0.5, 1.0, 2.0, 5.0)


class Observer(Protocol):
    """Told of what has become visible, never of what may still be undone."""

    def progress(self) -> None:
        """The worker's loop came round."""

    def restored(self, worker: "PartitionWorker", seconds: float) -> None:
        """The partition's streams are as they were, and it begins to serve."""

    def interrupted(self, worker: "PartitionWorker") -> None:
        """It serves no longer, until it is restored."""

    def committed(
        self, worker: "PartitionWorker", batch: Batch, engine_seconds: list[float], seconds: float, lag: int | None
    ) -> None:
        """A batch: the seconds that each tick took in the engine, those from fetch to commit, records still unread."""

    def kept(self, stream: Stream, place: Checkpoint, snapshot: bytes) -> None:
        """A snapshot is a checkpoint, to be kept beside the models."""

    def swapped(self, worker: "PartitionWorker", stream: Stream, swap: Swap) -> None:
        """A model has begun to serve."""

    def wants_training(self, worker: "PartitionWorker", stream: Stream, reason: str) -> None:
        """A training is due, or still is."""


@dataclass(frozen=True, slots=True, eq=False)
class _Exchange:
    """A model that waits for its turn between two ticks.

    ready: None is persistence. reverts: the model in service that is never to serve again. done: for who waits.
    """

    stream: Stream
    ready: CatchUp | None
    reverts: str | None = None
    done: asyncio.Future[Swap] | None = None

    def settle(self, swap: Swap) -> None:
        if self.done is not None and not self.done.done():
            self.done.set_result(swap)

    def refuse(self, reason: str) -> None:
        if self.done is None:
            log.warning("model not swapped in", stream=self.stream.name, reason=reason)
        elif not self.done.done():
            self.done.set_exception(StreamerError(f"stream {self.stream.name!r}: {reason}"))


@dataclass(frozen=True, slots=True, eq=False)
class _Renewal:
    """Other settings that wait for their turn between two ticks: what makes the partition anew, and for who waits."""

    new_partition: Callable[[], Partition]
    done: asyncio.Event


class PartitionWorker:
    """Owns one partition until `stop`. Its engines are changed by its own loop only, so nothing is locked."""

    def __init__(
        self,
        tp: TopicPartition,
        broker: Broker,
        consumer: AIOKafkaConsumer,
        new_partition: Callable[[], Partition],
        observer: Observer,
    ) -> None:
        self.tp = tp
        self.partition = new_partition()
        self._new_partition = new_partition
        self._broker = broker
        self._consumer = consumer
        self._observer = observer
        self._sink: Sink
        self._position = 0
        self._ready: list[_Exchange] = []
        self._renewal: _Renewal | None = None
        self._stopped = asyncio.Event()
        self._attempt = 0  # sessions in a row that committed nothing
        self._fetch_timeout: asyncio.Timeout | None = None

    def __str__(self) -> str:
        return f"{self.tp.topic}-{self.tp.partition}"

    async def run(self) -> None:
        """Serve until `stop`; a broker that is away is waited for. FencedError: another owner has taken over."""
        try:
            await self._sessions()
        finally:
            if self._renewal is not None:
                self._renewal.done.set()  # whoever has the partition next has the other settings

    async def _sessions(self) -> None:
        while not self._stopped.is_set():
            try:
                await self._session()
                self._renew()
            except (BrokerError, KafkaError) as error:
                self._observer.progress()  # a broker that is away is no reason to restart this process
                self._observer.interrupted(self)
                delay = _RETRY_SECONDS[min(self._attempt, len(_RETRY_SECONDS) - 1)]
                self._attempt += 1
                reason = await self._broker.refusal() or str(error)
                log.warning("partition begins anew", partition=str(self), error=reason, in_seconds=delay)
                # Whether the last transaction became visible is open: only what the broker holds is true.
                self.partition = self._new_partition()
                await set_within(self._stopped, delay)

    async def take_over(self, new_partition: Callable[[], Partition]) -> None:
        """Let the streams be saved between two ticks, and put back in what `new_partition` makes, as a restart would.

        Returns once they are saved, or others have the partition. Until then a session that ends begins anew as it was:
        no tick that went one way may be replayed in the other.
        """
        renewal = self._renewal = _Renewal(new_partition, asyncio.Event())
        self._interrupt_fetch()
        await renewal.done.wait()

    def _renew(self) -> None:
        """All is saved and committed: go on in a new partition, unless the end was asked for."""
        if self._renewal is None or self._stopped.is_set():
            return
        self._new_partition = self._renewal.new_partition
        self._renewal.done.set()
        self._renewal = None
        self._observer.interrupted(self)
        self.partition = self._new_partition()

    def stop(self) -> None:
        """Ask for the end: the batch in hand is committed, and a last snapshot."""
        self._stopped.set()
        self._interrupt_fetch()

    async def install(self, stream: Stream, model_id: str) -> None:
        """Load a model and catch it up beside the path; the loop swaps it in between two ticks. ArtifactError."""
        self._exchange(_Exchange(stream, await self._caught_up(stream, model_id)))

    async def revert(self, stream: Stream) -> Swap:
        """Go back to the model that served before, or to persistence, once and for all; returns when that is visible.

        StreamerError where no model serves, or where the partition begins anew meanwhile.
        """
        unwanted = stream.engine.model_id
        if unwanted == PERSISTENCE_MODEL:
            raise StreamerError(f"stream {stream.name!r} is served by {unwanted}: there is nothing to revert")
        done: asyncio.Future[Swap] = asyncio.get_running_loop().create_future()
        self._exchange(_Exchange(stream, await self._earlier(stream), unwanted, done))
        return await done

    async def _earlier(self, stream: Stream) -> CatchUp | None:
        """The nearest model of before that can be had, caught up; None: persistence."""
        for model_id in stream.engine.earlier_models():
            try:
                return await self._caught_up(stream, model_id)
            except (ArtifactError, LookupError) as error:
                log.warning("model passed over", stream=stream.name, model=model_id, reason=str(error))
        return None

    async def _caught_up(self, stream: Stream, model_id: str) -> CatchUp:
        model = await asyncio.to_thread(self.partition.models, stream.name, model_id)
        ready = stream.engine.catch_up(model)
        left, rest = ready.left, 1.0
        while True:
            began = time.perf_counter()
            while time.perf_counter() - began < _SLICE_SECONDS:
                if ready.advance(_SLICE):
                    return ready
            await asyncio.sleep(rest * (time.perf_counter() - began))
            if ready.left >= left:
                rest = 0.0  # the stream outruns it: a turn for all else has to do
            left = ready.left

    def _exchange(self, exchange: _Exchange) -> None:
        self._ready.append(exchange)
        self._interrupt_fetch()

    def _interrupt_fetch(self) -> None:
        if self._fetch_timeout is not None:
            self._fetch_timeout.reschedule(asyncio.get_running_loop().time())

    async def _session(self) -> None:
        """From one start of the producer, which fences the owner before, to its end."""
        began = time.monotonic()
        await self._broker.check_topics()  # the last session may have ended because one is gone, or takes less
        self.partition.largest_dead_letter = self._broker.largest_dead_letter
        self._sink = self._broker.sink(self.tp, self._consumer)
        history: asyncio.Task[None] | None = None
        try:
            await self._sink.start()
            self._position = await restore.restore(
                self._broker, self._consumer, self._sink, self.tp, self.partition, self._observer.progress
            )
            self._observer.restored(self, time.monotonic() - began)
            await self._replace_lost()
            begun = Batch(self._position)
            self.partition.save_new(begun)
            if begun.saved:
                await self._commit(begun)
            history = asyncio.create_task(self._load_history())
            await self._serve(history)
        finally:
            if history is not None:
                history.cancel()
            for exchange in self._ready:
                exchange.refuse(f"partition {self} was left or begins anew, ask again")
            self._ready = []
            await self._sink.stop()

    async def _load_history(self) -> None:
        """Beside the path. While the broker does not answer, serving goes on, and trainings wait."""
        while True:
            try:
                return await load_history(self._broker, self.tp, self.partition)
            except (BrokerError, KafkaError, OSError) as error:
                log.warning("the history cannot be read back yet", partition=str(self), reason=str(error))
                await asyncio.sleep(_HISTORY_SECONDS)

    async def _replace_lost(self) -> None:
        """Where the model in service could not be loaded, one of before serves, or persistence, until the next."""
        for stream in self.partition.streams.values():
            if stream.engine.lost_model and self.partition.schedules is None:
                self._observer.progress()
                self._ready.append(_Exchange(stream, await self._earlier(stream)))

    async def _serve(self, history: asyncio.Task[None]) -> None:
        fetched: Fetched | None = None
        while not self._is_to_end:
            self._observer.progress()
            if history.done():
                history.result()  # or what nobody expected would be lost, and trainings would wait for ever
            await self._swap_ready()
            if fetched is None or fetched.is_done:
                fetched = await self._fetch()
            if fetched is not None:
                await self._process(fetched)
            self._ask_for_trainings()
        last = Batch(self._position)
        self.partition.save_due(last, everything=True)
        if last.saved:
            await self._commit(last)

    @property
    def _is_to_end(self) -> bool:
        """Whether this session is to end, with all that it holds saved."""
        return self._stopped.is_set() or self._renewal is not None

    async def _swap_ready(self) -> None:
        """Swap in the models that have caught up. The snapshot is visible before the first forecast."""
        while self._ready:
            exchange = self._ready[0]
            obstacle = self._obstacle(exchange)
            if obstacle is None:
                await self._swap(exchange)
            else:
                exchange.refuse(f"{obstacle}, ask again")
            del self._ready[0]

    def _obstacle(self, exchange: _Exchange) -> str | None:
        """What came between, if anything; a training that it makes vain is asked for again in its time."""
        stream, ready = exchange.stream, exchange.ready
        if exchange.done is not None and exchange.done.done():
            return "nobody waits for it any more"
        if self.partition.streams.get(stream.name) is not stream:
            return "the stream was restored meanwhile"
        if exchange.reverts not in (None, stream.engine.model_id):
            return f"model {stream.engine.model_id} has taken over meanwhile"
        if ready is not None and ready.serving.model.id in stream.engine.reverted:
            return f"model {ready.serving.model.id} was reverted meanwhile"
        try:
            return None if ready is None or ready.advance(len(stream.engine.history)) else "ticks are left"
        except LookupError as error:
            return str(error)

    async def _swap(self, exchange: _Exchange) -> None:
        stream, engine = exchange.stream, exchange.stream.engine
        if exchange.reverts is None:
            swap = engine.swap(exchange.ready)
        else:
            swap = engine.revert(exchange.reverts, exchange.ready)
        batch = Batch(self._position)
        self.partition.save(stream, batch, keep=True)
        await self._commit(batch)
        self._observer.swapped(self, stream, swap)
        exchange.settle(swap)

    async def _fetch(self) -> Fetched | None:
        """Records, ready to be decoded, as soon as there are any; None after a while without, or when interrupted.

        There is always a fetch in flight: without one the coordinator would believe this member stuck.
        """
        try:
            async with asyncio.timeout(None) as self._fetch_timeout:
                if self._is_to_end or self._ready:
                    return None
                most = self._broker.settings.max_poll_records
                found = await self._consumer.getmany(self.tp, timeout_ms=_FETCH_MS, max_records=most)
        except TimeoutError:
            return None
        except OffsetOutOfRangeError:
            await self._cross_gap()
            return None
        except NoOffsetForPartitionError:
            return None  # said before the restore set the position
        finally:
            self._fetch_timeout = None
        if not (records := found.get(self.tp)):
            return None
        fetched = Fetched(records, time.monotonic())
        await self.partition.prepare(records)
        return fetched

    async def _cross_gap(self) -> None:
        """Retention has overtaken us: go on at the oldest record. Beyond the end, only the operator knows.

        A position that is there after all is kept: a leader that had just taken over may not have known it yet.
        """
        first, end = await self._broker.offsets(self.tp)
        if self._position > end:
            raise restore.made_anew(self.tp, end, self._position)
        if self._position < first:
            log.warning("records expired unread", partition=str(self), lost=first - self._position)
            self._position = first
        self._consumer.seek(self.tp, self._position)

    async def _process(self, fetched: Fetched) -> None:
        batch = Batch(self._position)
        await self._sink.open()
        engine_seconds = await fetched.batch(
            lambda records: process_all(self.partition, records, batch), lambda: self._is_to_end or bool(self._ready)
        )
        self.partition.save_due(batch)
        await self._commit(batch)
        seconds = time.monotonic() - fetched.at
        highwater = self._consumer.highwater(self.tp)
        lag = None if highwater is None else max(0, highwater - batch.next_offset)
        self._observer.committed(self, batch, engine_seconds, seconds, lag)

    async def _commit(self, batch: Batch) -> None:
        offset = restore.offset_to_commit(batch.next_offset, self.partition.replay_from(batch))
        await self._sink.commit(batch.records, (self.tp, offset))
        self._position = batch.next_offset
        self._attempt = 0
        self.partition.committed(batch)
        for stream, place, snapshot in batch.kept:
            self._observer.kept(stream, place, snapshot)

    def _ask_for_trainings(self) -> None:
        if self.partition.schedules is not None:
            return  # the swaps of an earlier run replace them
        for stream in self.partition.streams.values():
            if stream.history_complete and stream.engine.policy.wanted:
                self._observer.wants_training(self, stream, stream.engine.policy.wanted)
