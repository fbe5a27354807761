"""The daemon: start up, serve, shut down, in that order. The composition root."""

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError
from prometheus_client import CollectorRegistry

from streamer.core.forecaster import Forecaster
from streamer.core.outcome import PERSISTENCE_MODEL, Swap
from streamer.errors import ArtifactError, BrokerError, ConfigError, StreamerError
from streamer.model.dataset import TrainingSet
from streamer.model.shared import Loader
from streamer.model.store import ModelStore
from streamer.service import fitting, joining, logs, wiring
from streamer.service.broker import Broker, stop_consumer
from streamer.service.events import Events
from streamer.service.group import Group, is_nameless
from streamer.service.health import Health, watch_loop_lag
from streamer.service.http import HttpServer
from streamer.service.joining import StuckJoinError
from streamer.service.live_view import LiveView
from streamer.service.metrics import Metrics, RetrainOutcome
from streamer.service.partition import Partition, PartitionSettings, Stream
from streamer.service.reloading import Reloading
from streamer.service.sink import FencedError
from streamer.service.sse import Channel
from streamer.service.starting import start_codec
from streamer.service.takeovers import Takeovers
from streamer.service.trainer import Account, Trainer, TrainerSettings
from streamer.service.waiting import set_within
from streamer.service.worker import PartitionWorker
from streamer.settings import Settings
from streamer.settings.types import Reload

log = structlog.get_logger(__name__)

_STALL_SECONDS = 60.0  # a worker's loop comes round twice a second: without any for so long, the process is stuck
_STUCK_SECONDS, _STUCK_SESSIONS = 120.0, 5.0  # a rebalance waits a session for each member that is slow
_IDLE_SECONDS = 1.0
_BROKER_SECONDS = 5.0  # less than the ten after which probes commonly ask again
_REJOIN_SECONDS = 1.0
_REVERT_SECONDS = 60.0  # a broker that is away for longer is the news that an operator needs first
_TAKE_OVER_SECONDS = 60.0  # as above
_REVOKE_SHARE = 0.5  # of the session timeout; the rest is for the rejoin itself


class Daemon:
    """One process of the group. Whoever wants it to end sets `stop`: a signal, a test, the demo.

    schedule: URL of a model store whose recorded swaps replace training. load: reads the settings anew, for a reload;
    without, there is none.
    """

    def __init__(
        self,
        settings: Settings,
        stop: asyncio.Event,
        schedule: str | None = None,
        registry: CollectorRegistry | None = None,
        load: Callable[[], Settings] | None = None,
    ) -> None:
        self._settings = settings
        self._stop = stop
        self.metrics = Metrics(registry or CollectorRegistry())
        self.health = Health(_STALL_SECONDS)
        self.metrics.ready.set_function(lambda: float(self.health.readiness().ok))
        self._partitions = wiring.partition_settings(settings)
        self._store = wiring.model_store(settings, schedule)
        self._loader = Loader()
        self._scheduled = schedule is not None
        self._broker = Broker(settings.kafka, wiring.input_span(settings))
        self._trainer = Trainer(_trainer_settings(settings), self._store, self._trained)
        self._events = Events(
            self.metrics,
            self.health,
            self._store,
            self._trainer,
            self._owned,
            wiring.sharing(settings),
            wiring.known_after(settings),
        )
        self._reloading = Reloading(settings, load, self._take_over, self.metrics)
        reload = {} if load is None else {"reload": self._reloading.reload}
        self._takeovers = Takeovers(settings.kafka.session_timeout, is_static=settings.kafka.instance_id is not None)
        self._was_member = False
        self._stop_by: float | None = None
        self._group: Group | None = None
        self._background: list[asyncio.Task[None]] = []
        view = self._view = LiveView(self._events.live, self.health, self._trainer.busy_with)
        self._http = HttpServer(
            settings.http.host,
            settings.http.port,
            self.metrics,
            self.health,
            settings.http.token,
            {"retrain": self._retrain, "revert": self._revert, **reload},
            {"streams": self._streams, "stream": view.stream, "overview": view.overview},
            {"events": Channel(view.events)},
        )

    async def run(self) -> None:
        """Start up, serve until `stop` is set, shut down. StreamerError says why it could not."""
        port = await self._http.start()
        log.info("live page, metrics and health", url=f"http://{self._settings.http.host}:{port}")
        self._events.left()
        self._background = [
            asyncio.create_task(self._trainer.run()),
            asyncio.create_task(watch_loop_lag(self.metrics.event_loop_lag)),
            asyncio.create_task(self._idle_progress()),
        ]
        try:
            await asyncio.to_thread(_work_out_sessions, self._partitions)
            await self._broker.connect(self._stop)
            if not self._stop.is_set():
                await self._broker.check_topics()
                await self._start_codecs(self._partitions, self._settings.kafka.startup_timeout)
                self._background.append(asyncio.create_task(self._watch_broker()))
                self._background.append(asyncio.create_task(self._reloading.run()))
                await self._serve()
        finally:
            for task in self._background:
                task.cancel()
            await asyncio.gather(*self._background, return_exceptions=True)
            await self._shut_down()

    async def _start_codecs(self, used: PartitionSettings, limit: float) -> None:
        """What they need is there before the first record, within `limit` seconds. RegistryError, ConfigError."""
        if used.decoder is not None:
            await start_codec(used.decoder.codec, None, limit, self._stop)
        await start_codec(used.codec, used.forecasts, limit, self._stop)

    # --- serve ----------------------------------------------------------------------------------------------------

    async def _serve(self) -> None:
        """One membership after the other: a member that was fenced rejoins, it never goes on on its own belief."""
        stuck = False
        while not self._stop.is_set():
            try:
                await self._membership()
            except StuckJoinError as error:
                if stuck and not (self._group and self._group.was_joined):
                    raise
                stuck = True
                log.warning("joining the group anew", reason=str(error))
            except FencedError as error:
                if self._takeovers.are_endless(time.monotonic()):
                    raise ConfigError(
                        f"another process with kafka.group_id {self._settings.kafka.group_id!r} and the same "
                        "kafka.instance_id takes over again and again: stop it, or give each process its own "
                        "instance_id"
                    ) from error
                log.warning("another process has taken over; joining the group anew", reason=str(error))
            except BrokerError as error:
                if not self._was_member:
                    raise
                log.warning("the group cannot be joined anew yet", reason=str(error))
                await set_within(self._stop, _REJOIN_SECONDS)

    async def _membership(self) -> None:
        """From joining the group to leaving it."""
        revoke_timeout = self._settings.kafka.session_timeout * _REVOKE_SHARE
        group = Group(self._new_worker, self._events, self._takeovers, revoke_timeout)
        consumer = group.consumer = self._broker.group_consumer(group)
        self._group = group
        try:
            await consumer.start()
            self._was_member = True
            await self._until_stopped(group)
        except KafkaError as error:
            reason = f"the group {self._settings.kafka.group_id!r} refuses: {error!r}"
            if self._settings.kafka.instance_id is not None and is_nameless(error):
                raise FencedError(reason) from error
            raise BrokerError(reason) from error
        finally:
            self._events.left()
            await self._leave(group, consumer)

    async def _until_stopped(self, group: Group) -> None:
        """Return when asked to stop; raise what a worker or a background task raised."""
        limit = max(_STUCK_SECONDS, _STUCK_SESSIONS * self._settings.kafka.session_timeout)
        watching = asyncio.create_task(joining.watch(lambda: group.is_joining, self._broker.answers, limit))
        attending = asyncio.create_task(group.attend())
        events = (asyncio.create_task(event.wait()) for event in (self._stop, group.failed))
        waits = [watching, attending, *events]
        try:
            await asyncio.wait([*waits, *self._background], return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
        if group.failure is not None:
            raise group.failure
        for task in (attending, watching, *self._background):
            if task.done():
                task.result()

    async def _leave(self, group: Group, consumer: AIOKafkaConsumer) -> None:
        """Within the deadline, whatever the broker does: what is not committed then, the next owner does again."""
        limit = self._seconds_left()
        try:
            async with asyncio.timeout(limit):
                await group.leave()
                await stop_consumer(consumer)
        except TimeoutError:
            log.error("left without the broker's answer", seconds=round(limit, 1))

    def _new_worker(self, tp: TopicPartition, consumer: AIOKafkaConsumer) -> PartitionWorker:
        return PartitionWorker(tp, self._broker, consumer, self._partition_maker(tp), self._events)

    def _partition_maker(self, tp: TopicPartition) -> Callable[[], Partition]:
        """Makes partitions with the settings of now, whatever is taken over later."""
        settings, schedules = self._partitions, _Schedules(self._store) if self._scheduled else None
        return lambda: Partition(tp.topic, tp.partition, settings, self._load, schedules, self._stored_input)

    def _load(self, stream: str, model_id: str) -> Forecaster:
        return self._loader(self._store.load(stream, model_id))

    def _stored_input(self, stream: str) -> TrainingSet | None:
        data = self._store.load_input(stream)
        return None if data is None else TrainingSet.unpack(data, f"the training input of stream {stream!r}")

    async def _idle_progress(self) -> None:
        """A member without partitions, or one that waits for its broker, is alive as long as its loop turns."""
        while True:
            if self._group is None or not self._group.workers:
                self.health.progress()
            due = time.monotonic() + _IDLE_SECONDS
            await asyncio.sleep(_IDLE_SECONDS)
            self._takeovers.lagged(time.monotonic() - due)

    async def _watch_broker(self) -> None:
        """Not ready while the broker is away: with no tick under way, nothing else would notice."""
        while True:
            answers = await self._broker.answers()
            self.health.set("broker", answers, "answers" if answers else "away")
            await asyncio.sleep(_BROKER_SECONDS)

    # --- reload ---------------------------------------------------------------------------------------------------

    def ask_for_reload(self) -> None:
        """Have the configuration read anew, and taken over if it can be; the log says what came of it."""
        self._reloading.ask()

    async def _take_over(self, settings: Settings, kinds: frozenset[Reload]) -> Sequence[str]:
        """What may refuse them comes first; then they count, here at once and in each partition between two ticks."""
        renews = not kinds.isdisjoint({Reload.STREAMS, Reload.ANEW})
        if renews:
            partitions = await asyncio.to_thread(wiring.partition_settings, settings)
            if partitions.engine.sessions is not self._partitions.engine.sessions:
                await asyncio.to_thread(_work_out_sessions, partitions)
            await self._start_codecs(partitions, 0.0)
            self._partitions = partitions
        self._settings = settings
        logs.configure(settings.log.level, settings.log.format)
        self._http.accept_token(settings.http.token)
        self._store.keep = settings.models.keep
        self._broker.input_span = wiring.input_span(settings)
        self._trainer.settings = _trainer_settings(settings)
        self._events.take_over(wiring.sharing(settings), wiring.known_after(settings))
        return await self._renewed() if renews else ()

    async def _renewed(self) -> Sequence[str]:
        """Have all partitions taken up the settings; returns those that are still to, as the broker is away."""
        workers = self._group.workers if self._group else ()
        tasks = {
            asyncio.create_task(worker.take_over(self._partition_maker(worker.tp))): str(worker) for worker in workers
        }
        if not tasks:
            return ()
        _, late = await asyncio.wait(tasks, timeout=_TAKE_OVER_SECONDS)
        for task in late:
            task.cancel()
        return sorted(tasks[task] for task in late)

    # --- training -------------------------------------------------------------------------------------------------

    def _trained(self, ended: Mapping[str, tuple[RetrainOutcome, Account]], seconds: float) -> None:
        self._events.trained(ended, seconds)

    def _owned(self) -> dict[str, tuple[PartitionWorker, Stream]]:
        """The streams of our partitions, by name."""
        workers = self._group.workers if self._group else ()
        return {name: (worker, stream) for worker in workers for name, stream in worker.partition.streams.items()}

    def _streams(self) -> Mapping[str, Any]:
        """Which model serves each stream, which were reverted, whether one is being trained, and how its feed is."""
        return {
            name: {
                "model": stream.engine.model_id,
                "reverted": list(stream.engine.reverted),
                "training": self._trainer.busy_with(name),
                **self._view.brief(name),
            }
            for name, (_, stream) in sorted(self._owned().items())
        }

    async def _retrain(self, stream: str | None) -> Mapping[str, Any]:
        """Ask for a training of one stream, or of all; KeyError where there is no such stream."""
        self._refuse_on_schedule()
        owned = self._owned()
        asked = owned if stream is None else {stream: owned[stream]}
        begun = {name: self._events.ask_for_training(each) for name, (_, each) in sorted(asked.items())}
        return {
            "requested": [name for name, is_new in begun.items() if is_new],
            "skipped": [name for name, is_new in begun.items() if not is_new],  # one is queued or running
        }

    async def _revert(self, stream: str | None) -> Mapping[str, Any]:
        """Go back to the model of before, in one stream; KeyError where there is no such stream."""
        self._refuse_on_schedule()
        owned = self._owned()
        if stream is None and len(owned) != 1:
            raise StreamerError(f"there are {len(owned)} streams: name the one whose model is to be reverted")
        worker, found = owned[next(iter(owned)) if stream is None else stream]
        unwanted = found.engine.model_id
        try:
            async with asyncio.timeout(_REVERT_SECONDS):
                swap = await worker.revert(found)
        except TimeoutError:
            raise StreamerError(
                f"stream {found.name!r}: no answer within {_REVERT_SECONDS:g} s, look for the model that serves"
            ) from None
        log.info("model reverted", stream=found.name, model=unwanted, serves=swap.model)
        return {"stream": found.name, "reverted": unwanted, "model": swap.model}

    def _refuse_on_schedule(self) -> None:
        if self._scheduled:
            raise StreamerError("this daemon repeats the swaps of an earlier run: run it without --schedule")

    # --- shut down ------------------------------------------------------------------------------------------------

    async def _shut_down(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._seconds_left()):
                await self._events.errands()
                await self._broker.close()
        await self._http.stop(self._seconds_left())
        log.info("stopped")

    def _seconds_left(self) -> float:
        """Of `daemon.shutdown_timeout`, which all steps of a stop share, but for a second that each may have."""
        limit = self._settings.daemon.shutdown_timeout
        if not self._stop.is_set():
            return limit  # to join the group anew takes what it takes
        now = time.monotonic()
        self._stop_by = self._stop_by or now + limit
        return max(1.0, self._stop_by - now)


class _Schedules(dict[str, list[Swap]]):
    """Recorded swaps by stream, read from the store when a stream is first met."""

    def __init__(self, store: ModelStore) -> None:
        self._store = store

    def __missing__(self, stream: str) -> list[Swap]:
        """ConfigError where they cannot be repeated: found with the first tick, and not in the middle of the stream."""
        try:
            self[stream] = [Swap(**swap) for swap in self._store.swaps(stream)]
            for model in {swap.model for swap in self[stream]} - {PERSISTENCE_MODEL}:
                self._store.load(stream, model)
        except (ArtifactError, TypeError) as error:
            raise ConfigError(
                f"the schedule of stream {stream!r} in {self._store.url} is of no use: {error}"
            ) from error
        if not self[stream]:
            log.warning("no swaps are recorded, persistence serves", stream=stream, schedule=self._store.url)
        return self[stream]


def _work_out_sessions(settings: PartitionSettings) -> None:
    """The hours of the present year, before they are asked for between two ticks: an exchange's take 0.2 s."""
    engine = settings.engine
    if engine.sessions is not None:
        engine.sessions.stretch(int(time.time() * 1000), engine.step)


def _trainer_settings(settings: Settings) -> TrainerSettings:
    limits = settings.retrain
    return TrainerSettings(fitting.configuration(settings), limits.time_limit, limits.memory_limit)
