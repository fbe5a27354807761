"""The streams of one partition once more: from their checkpoints, with the swaps that were recorded."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from aiokafka import ConsumerRecord

from streamer.core import checkpoint
from streamer.core.adjustment import Adjustment
from streamer.core.assembly import Assembly
from streamer.core.engine import ForecastEngine
from streamer.core.outcome import PERSISTENCE_MODEL, Dropped, Step, Swap
from streamer.core.tick import Tick
from streamer.errors import ArtifactError, ConfigError, DecodeError, SnapshotError
from streamer.model.kept import Checkpoint
from streamer.model.store import ModelStore
from streamer.service.partition import Batch, Partition, Stream

UNJUDGED = Dropped("unjudged")
"""Outcome of a tick of which only the stream as it was would tell."""

_NOTHING = "there is no checkpoint before it"
_EXPIRED = "the input before it has expired, and there is no checkpoint since"
_NOT_YET = "it is from before the stream was served"


class Swaps(dict[str, list[Swap]]):
    """Recorded swaps by stream, read from the store when a stream is first met."""

    def __init__(self, store: ModelStore) -> None:
        self._store = store

    def __missing__(self, stream: str) -> list[Swap]:
        """ConfigError where they cannot be read."""
        try:
            self[stream] = [Swap(**swap) for swap in self._store.swaps(stream)]
        except (ArtifactError, TypeError) as error:
            raise ConfigError(f"the swaps of stream {stream!r} in {self._store.url} are of no use: {error}") from error
        return self[stream]


@dataclass
class Replay(Partition):
    """Serves nothing: says what became of each record, or that this cannot be said, and why.

    A stream begins with a checkpoint of it, or with its first tick where a checkpoint says that this was it. It ends
    where a swap cannot be repeated, until the next checkpoint. store: holds the checkpoints. refused: reason by offset
    of dead letters that the input does not explain. only: the one stream to judge, None: all. first: offset of the
    oldest input record. stream: name of the last record's stream, empty where it has none. why: a stream cannot be
    judged now.
    """

    store: ModelStore = field(kw_only=True)
    refused: Mapping[int, str] = field(default_factory=dict)
    only: str | None = None
    first: int = 0
    stream: str = ""
    why: dict[str, str] = field(default_factory=dict)
    sections: dict[str, set[str]] = field(default_factory=dict)
    _offset: int = -1
    _places: dict[str, list[Checkpoint]] = field(default_factory=dict)
    _ahead: list[tuple[int, str, Checkpoint]] = field(default_factory=list)
    _passed: dict[str, list[Checkpoint]] = field(default_factory=dict)
    _other: dict[str, tuple[str, ...]] = field(default_factory=dict)

    # --- where it begins --------------------------------------------------------------------------------------------

    def begin(self, names: Sequence[str], offset: int) -> int:
        """Put back the streams `names` as they were at `offset` at the latest; returns from where to replay."""
        starts = [offset]
        for name in names:
            places = self._known(name)
            usable = [place for place in places if self.first <= place.offset <= offset]
            start = next((place.offset for place in reversed(usable) if self._put_back(name, place)), None)
            if start is None:
                births = [p.began for p in places if p.whole and self.first <= p.began < offset]
                start = max(births, default=None)
            starts += [] if start is None else [start]
        start = min(starts)
        self._ahead = [each for each in self._ahead if each[0] >= start]
        return start

    def _known(self, name: str) -> list[Checkpoint]:
        """Checkpoints of a stream in this partition, the oldest first."""
        if name not in self._places:
            wanted = self.only in (None, name)
            self._places[name] = [p for p in self.store.checkpoints(name) if p.partition == self.number and wanted]
            self._ahead += [(p.offset, name, p) for p in self._places[name] if p.offset > self._offset]
            self._ahead.sort(key=lambda each: each[0])
        return self._places[name]

    def has_swaps_ahead(self) -> bool:
        """Whether one of the streams that were put back is to take over a model that may need their history."""
        return any(stream.engine.is_scheduled for stream in self.streams.values())

    # --- records ----------------------------------------------------------------------------------------------------

    def process(self, record: ConsumerRecord, batch: Batch) -> None:
        """As `Partition.process`; UNJUDGED where the outcome cannot be known."""
        self.stream, self._offset = "", record.offset
        while self._ahead and self._ahead[0][0] <= record.offset:
            _, name, place = self._ahead.pop(0)
            self._pass(name, place)
        super().process(record, batch)

    def decode(self, record: ConsumerRecord) -> tuple[str, Tick | Adjustment]:
        """As `Partition.decode`; what was refused for reasons that have gone since is refused again."""
        if record.offset in self.refused:
            raise DecodeError(self.refused[record.offset], "as it was before")
        self.stream, item = super().decode(record)
        return self.stream, item

    def _step(self, name: str, stream: Stream | None, item: Tick | Adjustment) -> tuple[Step, Stream | None]:
        if self.only not in (None, name):
            return Step(UNJUDGED), None
        if stream is None:
            return self._first(name, item)
        try:
            found = super()._step(name, stream, item)
        except (ArtifactError, LookupError) as error:
            if isinstance(error, KeyError | IndexError):
                raise
            return self._again(name, item, f"a swap cannot be repeated: {error}")
        self._passed.pop(name, None)
        return found

    def _again(self, name: str, item: Tick | Adjustment, reason: str) -> tuple[Step, Stream | None]:
        """Go on from a checkpoint that was made since the stream's last record: that of the swap holds its result."""
        del self.streams[name]
        for place in self._passed.pop(name, []):
            if self._put_back(name, place):
                try:
                    return super()._step(name, self.streams[name], item)
                except (ArtifactError, LookupError):
                    del self.streams[name]
        self.why[name] = reason
        return Step(UNJUDGED), None

    def _first(self, name: str, item: Tick | Adjustment) -> tuple[Step, Stream | None]:
        """A record of a stream that is not there: its first, one that begins nothing, or one that nobody can judge."""
        if isinstance(item, Adjustment):
            return super()._step(name, None, item)
        known = self._known(name)
        born = [place for place in known if place.whole and place.began == self._offset]
        if born and self._vouches(name, born[0]):
            self.why.pop(name, None)
            return super()._step(name, None, item)
        engine = ForecastEngine(self.settings.engine)
        tried = Stream(name, engine, assembly=Assembly.before(engine))
        step = tried.process(item)
        if tried.last is None:
            return step, None
        self.why.setdefault(name, self._unknown(known))
        return Step(UNJUDGED), None

    def _unknown(self, known: Sequence[Checkpoint]) -> str:
        if known and self._offset < known[0].began:
            return _NOT_YET
        return _EXPIRED if known and known[0].began < self.first else _NOTHING

    # --- checkpoints ------------------------------------------------------------------------------------------------

    def _pass(self, name: str, place: Checkpoint) -> None:
        """What lies before a checkpoint is done: a stream that is gone goes on from it, one that is there need not."""
        stream = self.streams.get(name)
        if stream is not None and place.offset < stream.held:
            return
        if stream is not None and (stream.began, stream.whole) == (place.began, place.whole):
            self._passed.setdefault(name, []).append(place)
            self._compare_by(name, place)
        else:
            self._put_back(name, place)

    def _put_back(self, name: str, place: Checkpoint) -> bool:
        """Whether the stream is as it was at `place`; else it is none, and `why` says why not."""
        self.streams.pop(name, None)
        try:
            data, extra = self._read(name, place)
            if place.model != PERSISTENCE_MODEL:
                self.models(name, place.model)
            stream = self.restored(name, data)
        except ArtifactError as error:
            self.why[name] = f"model {place.model} cannot be used: {error}"
            return False
        except SnapshotError as error:
            self.why[name] = f"the checkpoint before it is of no use: {error}"
            return False
        self.streams[name] = stream
        self.newest = max(self.newest, int(extra.get("newest", 0)))
        self.why.pop(name, None)
        self._compare_by(name, place)
        return True

    def _vouches(self, name: str, place: Checkpoint) -> bool:
        """Whether the checkpoint, the first since the stream began, is one that we would have made."""
        try:
            self._read(name, place)
        except (ArtifactError, SnapshotError) as error:
            self.why[name] = f"the checkpoint after it is of no use: {error}"
            return False
        self._compare_by(name, place)
        return True

    def _read(self, name: str, place: Checkpoint) -> tuple[bytes, dict[str, Any]]:
        """The snapshot at `place` and what it was stored with. SnapshotError where it is not of our making."""
        data = self.store.load_checkpoint(name, place)
        if data is None:
            raise SnapshotError(f"{place.name} is gone")
        extra, changed = checkpoint.described(self.settings.engine, data)
        if extra.get("owner") != self.settings.owner:
            raise SnapshotError(f"it is of {extra.get('owner')!r}, and we are {self.settings.owner!r}")
        if changed:
            raise SnapshotError(f"it was made under other settings ({', '.join(changed)})")
        if extra.get("next_offset") != place.offset:
            raise SnapshotError(f"{place.name} holds another offset")
        return data, extra

    # --- how to compare ---------------------------------------------------------------------------------------------

    def others(self, name: str) -> tuple[str, ...]:
        """What is other here than where the stream was served; forecasts are the same bit for bit without any."""
        return self._other.get(name, ())

    def _compare_by(self, name: str, place: Checkpoint) -> None:
        """Between two checkpoints the stream may have moved: both say where it was served."""
        places = self._known(name)
        at = places.index(place)
        other: dict[str, None] = {}
        for each in places[at : at + 2]:
            try:
                _, extra = self._read(name, each)
            except (ArtifactError, SnapshotError):
                continue
            made, ours = extra.get("made_by", {}), self.settings.made_by
            other |= dict.fromkeys(_unlike(made.get("environment", {}), ours.get("environment", {})))
            unlike = _unlike(made.get("settings", {}), ours.get("settings", {}))
            self.sections.setdefault(name, set()).update(unlike)
        self._other[name] = tuple(other)


def _unlike(made: Mapping[str, str], ours: Mapping[str, str]) -> list[str]:
    return sorted(name for name in made.keys() | ours.keys() if made.get(name) != ours.get(name))
