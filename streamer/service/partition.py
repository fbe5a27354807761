"""The streams of one input partition: records in, output records and measurements out. No I/O."""

import traceback
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import structlog
from aiokafka import ConsumerRecord

from streamer import control
from streamer.codec import DecodeLimits, DecodeReason
from streamer.codecs import Codec
from streamer.codecs.json_text import JsonCodec
from streamer.core import checkpoint
from streamer.core.adjustment import INVALID, Adjustment
from streamer.core.assembly import Assembly
from streamer.core.engine import ForecastEngine
from streamer.core.forecaster import Forecaster
from streamer.core.outcome import Forecast, Rejected, Step, Swap
from streamer.core.settings import EngineSettings
from streamer.core.tick import Tick
from streamer.decoding import Decoder
from streamer.errors import BrokerError, ConfigError, DecodeError, StreamerError
from streamer.mapping import RecordMapping
from streamer.model.dataset import TrainingSet
from streamer.model.kept import Checkpoint
from streamer.service.records import LARGEST_DEAD_LETTER, NEXT_OFFSET, OutputRecord, dead_letter_record, forecast_record

log = structlog.get_logger(__name__)

_DAY = 86_400_000  # ms
_ERRORS_IN_A_ROW = 3  # one is a strange tick; three are a fault of ours that a restart by the supervisor may mend


Decoded = tuple[str, Tick | Adjustment] | Exception
"""Name of the stream of a record and what is in it, or why there is nothing."""


@dataclass(frozen=True, slots=True)
class PartitionSettings:
    """What a partition needs of the settings.

    snapshot_every: ticks of a stream between its snapshots. expire: ms without a tick after which a stream is dropped,
    0: never. decoder: of the feed's records, None: as the default has them. codec: of the forecasts. made_by: processor
    and package versions, and what of the settings forecasts depend on, as snapshots name them.
    """

    engine: EngineSettings
    limits: DecodeLimits
    streams: int
    key_bytes: int
    snapshot_every: int
    forecasts: str
    dead_letters: str
    state: str
    owner: str
    expire: int = 0
    decoder: Decoder | None = None
    codec: Codec = field(default_factory=JsonCodec)
    made_by: Mapping[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class Stream:
    """One stream and what its snapshots need.

    held: offset up to which (exclusive) its records are in the last snapshot. unsaved: the first record taken in since
    that snapshot, None if there is none. ticks: how many since. seen: the partition's `newest` at its last tick.
    restored: `held` of the snapshot that it was put back from, and stays so; restored_ticks: in the ring of that one.
    assembly: what merges its ticks, None where each is a whole vector. began, whole: as a checkpoint of it says them,
    -1: not known yet. kept: day of its newest tick at its last checkpoint, None: one is due.
    """

    name: str
    engine: ForecastEngine
    held: int = 0
    unsaved: "Replay | None" = None
    ticks: int = 0
    seen: int = 0
    restored: int = 0
    restored_ticks: int = 0
    history_complete: bool = False
    assembly: Assembly | None = None
    began: int = -1
    whole: bool = True
    kept: int | None = None

    def begin_anew(self, offset: int) -> None:
        """From `offset` on it is another than the log says: on a part of what it was, or without what came before."""
        self.began, self.whole, self.kept = offset, False, None

    @property
    def day(self) -> int:
        """Of its newest tick, in days since the Unix epoch."""
        return (self.last or 0) // _DAY

    @property
    def last(self) -> int | None:
        """Grid time of its newest tick, ms, though its step may be open; None before the first."""
        return (self.engine.position if self.assembly is None else self.assembly.step.position).last

    def process(self, tick: Tick) -> Step:
        """Take in one tick and say what became of it."""
        return self.engine.process(tick) if self.assembly is None else self.assembly.process(tick)

    def adjust(self, adjustment: Adjustment) -> Step:
        """Bring what is held of a symbol to the prices or the name that it has from now on."""
        return self.engine.adjust(adjustment) if self.assembly is None else self.assembly.adjust(adjustment)


@dataclass(frozen=True, slots=True, order=True)
class Replay:
    """Where a new owner begins to replay: the offset, and the partition's `newest` there."""

    offset: int
    newest: int = 0


@dataclass(slots=True)
class Batch:
    """What came of some records: all of it becomes visible at once, with the offset after them.

    expired: names of the streams that were dropped; one may be back. lacked_schema: whether a message was refused whose
    schema the registry may have later. kept: those of the snapshots that are checkpoints too.
    """

    next_offset: int
    records: list[OutputRecord] = field(default_factory=list)
    steps: list[tuple[Stream | None, Step]] = field(default_factory=list)
    saved: list[Stream] = field(default_factory=list)
    expired: list[str] = field(default_factory=list)
    lacked_schema: bool = False
    kept: list[tuple[Stream, Checkpoint, bytes]] = field(default_factory=list)


@dataclass
class Partition:
    """Engines of the streams of one partition, by name.

    models: gives the model of an id, by stream. schedules: recorded swaps by stream, which replace training. inputs:
    gives what a stream's last training learned from. newest: the largest timestamp of a tick's record so far, ms. It is
    the only clock: a stream's idleness is a matter of the log alone, the same in a replay, however the records came in
    batches. largest_dead_letter: bytes.
    """

    topic: str
    number: int
    settings: PartitionSettings
    models: Callable[[str, str], Forecaster]
    schedules: Mapping[str, list[Swap]] | None = None
    inputs: Callable[[str], TrainingSet | None] | None = None
    streams: dict[str, Stream] = field(default_factory=dict)
    newest: int = 0
    largest_dead_letter: int = LARGEST_DEAD_LETTER
    _errors: int = 0
    _none_expires_before: int = 0
    decoder: Decoder = field(init=False)

    def __post_init__(self) -> None:
        """Make the decoder of the default, where no other is given."""
        given, symbols = self.settings, self.settings.engine.symbols
        self.decoder = given.decoder or Decoder(JsonCodec(), RecordMapping(), given.limits, symbols, given.key_bytes)

    @property
    def name(self) -> str:
        """Name of the stream of records without a key."""
        return f"{self.topic}-{self.number}"

    def process(self, record: ConsumerRecord, batch: Batch) -> None:
        """Take in one record; its outcome goes to `batch`.

        Raises only when errors of ours come in a row, or when the forecast cannot be encoded: StreamerError.
        """
        self.take(record, self.decoded(record), batch)

    def decoded(self, record: ConsumerRecord) -> Decoded:
        """What `decode` gives, or what it raises for reasons of the record's own."""
        try:
            return self.decode(record)
        except (BrokerError, ConfigError):
            raise  # the registry's, or the operator's, whatever the tick
        except Exception as error:
            return error

    def take(self, record: ConsumerRecord, decoded: Decoded, batch: Batch) -> None:
        """`process` a record that is decoded."""
        batch.next_offset = record.offset + 1
        stream: Stream | None = None
        try:
            if isinstance(decoded, Exception):
                raise decoded
            name, item = decoded
            self._drop_expired(record.timestamp, batch)
            stream = self.streams.get(name)
            if stream is not None:
                if record.offset < stream.held:
                    return  # a replay that began for another stream's sake: this one holds the record already
                stream.seen = max(stream.seen, self.newest)
            step, stream = self._step(name, stream, item)
            if stream is not None and stream.began < 0 and not stream.held:
                stream.began = record.offset
        except DecodeError as error:
            step = Step(Rejected(error.reason, error.detail))
        except (BrokerError, ConfigError):
            raise  # the registry's, or the operator's, whatever the tick
        except Exception as error:
            step = self._failed(record, error)
        else:
            self._errors = 0
        self._emit(record, stream, step, batch)

    async def prepare(self, records: Iterable[ConsumerRecord]) -> None:
        """Have what decodes `records` fetched: comes before `process` and `decode`. RegistryError."""
        await self.decoder.prepare(records)

    def decode(self, record: ConsumerRecord) -> tuple[str, Tick | Adjustment]:
        """Name of the stream of a record, and its tick or what it says of a symbol; DecodeError where it has none."""
        if record.headers and (what := control.asked(record.headers)) is not None:
            name = self.decoder.stream_by_key(record)
            return name or self.name, control.decode(what, record.value, record.offset, self.settings.limits)
        name, tick = self.decoder.decode(record)
        return name or self.name, tick

    def _drop_expired(self, timestamp: int, batch: Batch) -> None:
        """Drop the streams that have had no tick for `expire`, with the record of `timestamp`, ms, counted in.

        One that comes back begins anew. Most calls end at once: no stream can expire before the one longest idle.
        """
        self.newest = max(self.newest, timestamp)
        expire = self.settings.expire
        if not expire or self.newest < self._none_expires_before:
            return
        for name in [name for name, stream in self.streams.items() if self.newest - stream.seen >= expire]:
            del self.streams[name]
            batch.records.append(OutputRecord(self.settings.state, name.encode(), None))
            batch.expired.append(name)
        self._none_expires_before = expire + min((s.seen for s in self.streams.values()), default=self.newest)

    def _step(self, name: str, stream: Stream | None, item: Tick | Adjustment) -> tuple[Step, Stream | None]:
        """A stream begins with its first accepted tick: rubbish under new keys leaves nothing behind."""
        if isinstance(item, Adjustment):
            if stream is None:
                return Step(Rejected(INVALID, f"there is no stream {name!r}")), None
            return stream.adjust(item), stream
        if stream is not None:
            return stream.process(item), stream
        if len(self.streams) >= self.settings.streams:
            return Step(Rejected("too_many_streams", f"limits.streams allows {self.settings.streams}")), None
        engine = self.engine(name)
        stream = Stream(name, engine, seen=self.newest, history_complete=True, assembly=Assembly.before(engine))
        step = stream.process(item)
        if stream.last is None:
            return step, None
        self.streams[name] = stream
        return step, stream

    def engine(self, name: str) -> ForecastEngine:
        """A new engine for the stream `name`."""
        return ForecastEngine(self.settings.engine, self._schedule(name), self._loader(name))

    def _schedule(self, name: str) -> list[Swap] | None:
        return None if self.schedules is None else self.schedules[name]

    def _loader(self, name: str) -> Callable[[str], Forecaster]:
        return lambda model_id: self.models(name, model_id)

    def stored_input(self, name: str) -> TrainingSet | None:
        """What the last training of the stream learned from, None if not known. ArtifactError, TrainingError."""
        return None if self.inputs is None else self.inputs(name)

    def _failed(self, record: ConsumerRecord, error: Exception) -> Step:
        """An unexpected exception: the engine is as it was before the tick, which goes to the dead letters."""
        self._errors += 1
        log.error(
            "unexpected error on one tick",
            topic=self.topic,
            partition=self.number,
            offset=record.offset,
            exc_info=error,
        )
        if self._errors >= _ERRORS_IN_A_ROW:
            raise StreamerError(
                f"{self._errors} ticks in a row failed, the last at {self.topic}-{self.number} offset "
                f"{record.offset}: {error!r}"
            ) from error
        detail = " ".join(traceback.format_exception_only(error)[-1].split())
        return Step(Rejected("error", detail, "".join(traceback.format_exception(error))))

    def _emit(self, record: ConsumerRecord, stream: Stream | None, step: Step, batch: Batch) -> None:
        outcome = step.outcome
        if isinstance(outcome, Forecast):
            assert stream is not None
            batch.records.append(self._encoded(outcome, stream.name, record))
            stream.ticks += 1
        elif isinstance(outcome, Rejected):
            letters = self.settings.dead_letters
            batch.records.append(dead_letter_record(letters, record, outcome, self.largest_dead_letter))
            batch.lacked_schema = batch.lacked_schema or outcome.reason == DecodeReason.UNKNOWN_SCHEMA
        if stream is not None and stream.unsaved is None:
            stream.unsaved = Replay(record.offset, self.newest)
        batch.steps.append((stream, step))

    def _encoded(self, forecast: Forecast, stream: str, record: ConsumerRecord) -> OutputRecord:
        try:
            return forecast_record(self.settings.forecasts, forecast, stream, record, self.settings.codec)
        except (BrokerError, ConfigError):
            raise
        except Exception as error:  # a codec of the user's: without it a forecast would be lost, and nobody told
            raise StreamerError(
                f"output.codec: the forecast of {self.topic}-{self.number} offset {record.offset} cannot be encoded: "
                f"{' '.join(repr(error).split())[:300]}"
            ) from error

    def save_due(self, batch: Batch, *, everything: bool = False) -> None:
        """Add the snapshots that are due to `batch`: those of new streams, of long unsaved ones, or of all.

        Of all also where a stream was dropped: a replay that began before would lack it, and below `limits.streams`
        take in one that was refused for its sake. And where a schema was lacking: once the registry has it, a replay
        that began before would make a tick of what is a dead letter.
        """
        everything = everything or bool(batch.expired) or batch.lacked_schema
        touched = dict.fromkeys(stream.name for stream, _ in batch.steps if stream is not None)
        for stream in self.streams.values() if everything else filter(None, map(self.streams.get, touched)):
            fresh = stream.held == 0
            if stream.unsaved is not None and (everything or fresh or stream.ticks >= self.settings.snapshot_every):
                self.save(stream, batch)

    def save_new(self, batch: Batch) -> None:
        """Add snapshots of the streams that the log alone does not explain from here on: a replay goes on from them."""
        for stream in self.streams.values():
            if not stream.whole and stream.kept is None and stream.began == batch.next_offset:
                self.save(stream, batch)

    def save(self, stream: Stream, batch: Batch, *, keep: bool = False) -> None:
        """Add a snapshot of `stream` as it stands to `batch`.

        The first of a day of its ticks' time is a checkpoint too, and the first since it was restored, and with `keep`.
        """
        extra = {
            "next_offset": batch.next_offset,
            "owner": self.settings.owner,
            "seen": stream.seen,
            "newest": self.newest,
            "began": stream.began,
            "whole": stream.whole,
            "made_by": self.settings.made_by,
        }
        value = checkpoint.save(stream.engine, extra, stream.assembly)
        if (keep or stream.kept != stream.day) and self.schedules is None and stream.began >= 0:
            place = Checkpoint(self.number, batch.next_offset, stream.began, stream.whole, stream.engine.model_id)
            batch.kept.append((stream, place, value))
        header = (NEXT_OFFSET, str(batch.next_offset).encode())
        batch.records.append(OutputRecord(self.settings.state, stream.name.encode(), value, (header,)))
        batch.saved.append(stream)

    def committed(self, batch: Batch) -> None:
        """`batch` is visible: its snapshots are what a new owner will start from."""
        for stream in batch.saved:
            stream.held, stream.unsaved, stream.ticks = batch.next_offset, None, 0
        for stream, _, _ in batch.kept:
            stream.kept = stream.day

    def replay_from(self, batch: Batch) -> Replay:
        """From where a new owner must replay, once `batch` is committed."""
        saved = {stream.name for stream in batch.saved}
        unsaved = (s.unsaved for s in self.streams.values() if s.unsaved is not None and s.name not in saved)
        return min(unsaved, default=Replay(batch.next_offset, self.newest))

    def restored(self, name: str, snapshot: bytes) -> Stream:
        """The stream of a snapshot; loads the model that it names. Changes nothing: to be called in a thread.

        SnapshotError where it cannot be used; ConfigError where it is not ours to use.
        """
        restored = checkpoint.restore(self.settings.engine, snapshot, self._loader(name), self._schedule(name))
        for notice in restored.notices:
            log.warning(notice, stream=name)
        if restored.extra.get("owner") != self.settings.owner:
            raise ConfigError(
                f"topic {self.settings.state!r} holds the state of {restored.extra.get('owner')!r}, this daemon is "
                f"{self.settings.owner!r}: give each group and input topic its own kafka.topics.state"
            )
        held = int(restored.extra["next_offset"])
        # A snapshot from before there was `seen` counts as of its last tick's time: older than it is by no more than
        # `feed.max_ahead`, if the feed is not a replay.
        seen = int(restored.extra.get("seen", restored.engine.position.last or 0))
        ticks = len(restored.engine.history)
        # What could not be kept, a replay from before it would have; and older snapshots do not say where they began.
        began = -1 if restored.notices else int(restored.extra.get("began", -1))
        return Stream(
            name,
            restored.engine,
            held,
            seen=seen,
            restored=held,
            restored_ticks=ticks,
            assembly=restored.assembly,
            began=began,
            whole=bool(restored.extra.get("whole", False)),
        )
