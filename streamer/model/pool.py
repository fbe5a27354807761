"""Histories of several streams that learn together, as one model for all of them."""

import json
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from streamer.core.adjustment import Adjustment
from streamer.core.levels import Levels
from streamer.errors import TrainingError
from streamer.model import arrays
from streamer.model.dataset import MIN_ROWS, TrainingSet


@dataclass(frozen=True, slots=True, eq=False)
class Pool:
    """Training sets of one shape by stream; their symbols stand in one order."""

    sets: Mapping[str, TrainingSet]

    @classmethod
    def of(cls, sets: Mapping[str, TrainingSet]) -> "Pool":
        """The usable sets that have the shape of the first one, in the order of its symbols; TrainingError.

        A set of another shape, or with too little in it, is left out: only the first one has to be usable.
        """
        (name, first), *others = sets.items()
        usable = first.usable()
        found = {name: usable.ordered(usable.symbols)}
        for other, training_set in others:
            if fits(training_set, found[name]):
                found[other] = training_set.usable().ordered(found[name].symbols)
        return cls(found)

    def __len__(self) -> int:
        return len(self.sets)

    @property
    def rows(self) -> int:
        """Of all histories."""
        return sum(map(len, self.sets.values()))

    def pack(self) -> bytes:
        """An `.npz` archive without pickle: the histories one behind the other."""
        first, *_ = sets = tuple(self.sets.values())
        adjustments = [[asdict(each) for each in one.adjustments] for one in sets]
        return arrays.pack(
            {
                "streams": np.array(json.dumps(list(self.sets))),
                "lengths": np.array([len(one) for one in sets]),
                "symbols": np.asarray(first.symbols),
                "targets": np.asarray(first.targets),
                "is_log": first.change.is_log,
                "step": np.asarray(first.step),
                "times": np.concatenate([one.times for one in sets]),
                "breaks": np.concatenate([one.breaks for one in sets]),
                "prices": np.concatenate([one.prices for one in sets]),
                "adjustments": np.array(json.dumps(adjustments)),
            }
        )

    @classmethod
    def unpack(cls, data: bytes, where: object) -> "Pool":
        """What `pack` made; raises TrainingError, which names `where` it was."""
        try:
            return cls(dict(_sets(arrays.unpack(data))))
        except (ValueError, KeyError, TypeError) as error:
            raise TrainingError(f"{where} is no pool of histories ({error}): hand them over anew") from error

    def save(self, path: Path) -> None:
        """Write what `load` reads."""
        path.write_bytes(self.pack())

    @classmethod
    def load(cls, path: Path) -> "Pool":
        """Read what `save` wrote, or a single training set as a pool of one without a name; raises TrainingError."""
        try:
            data = path.read_bytes()
        except OSError as error:
            raise TrainingError(f"{path} holds no histories ({error}): hand them over anew") from error
        if arrays.holds(data, "streams"):
            return cls.unpack(data, path)
        return cls({"": TrainingSet.unpack(data, path)})


def shape(training_set: TrainingSet) -> Hashable:
    """What streams have in common that can have one model: symbols, targets, their changes, and the step."""
    return tuple(_traits(training_set).values())


def difference(training_set: TrainingSet, other: TrainingSet) -> str | None:
    """In what their shapes differ, None where they do not."""
    theirs = _traits(other)
    return next((name for name, mine in _traits(training_set).items() if mine != theirs[name]), None)


def _traits(training_set: TrainingSet) -> dict[str, Hashable]:
    changes = zip(training_set.symbols, training_set.change.is_log.tolist(), strict=True)
    return {
        "columns": frozenset(training_set.symbols),
        "targets": frozenset(training_set.targets),
        "steps": training_set.step,
        "kinds of change": frozenset(changes),
    }


def fits(training_set: TrainingSet, first: TrainingSet) -> bool:
    """Whether it can be learned from together with `first`; what has no price in either does not count."""
    try:
        return shape(training_set.usable()) == shape(first.usable())
    except TrainingError:
        return False


def rows_each(streams: int, most: int, history: int) -> int:
    """Rows that each of so many streams gives, with `most` in all and `history` of one at most, the ring at least."""
    return max(MIN_ROWS, min(history, most // streams))


def _sets(found: Mapping[str, np.ndarray]) -> Iterator[tuple[str, TrainingSet]]:
    bounds = np.cumsum(found["lengths"].astype(np.intp))[:-1]
    parts = zip(*(np.split(found[name], bounds) for name in ("times", "breaks", "prices")), strict=True)
    adjustments = json.loads(str(found["adjustments"]))
    common = TrainingSet(
        tuple(found["symbols"].astype(str).tolist()),
        tuple(found["targets"].astype(str).tolist()),
        Levels(found["is_log"].astype(np.bool_)),
        int(found["step"]),
        np.empty(0, np.int64),
        np.empty(0, np.bool_),
        np.empty((0, len(found["symbols"]))),
    )
    for name, (times, breaks, prices), own in zip(json.loads(str(found["streams"])), parts, adjustments, strict=True):
        yield (
            name,
            replace(
                common,
                times=times.astype(np.int64),
                breaks=breaks.astype(np.bool_),
                prices=prices.astype(np.float64),
                adjustments=tuple([Adjustment(**each) for each in own]),
            ),
        )
