"""The history that a training learns from, and its replay through the features."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from streamer.core import volatility
from streamer.core.adjustment import NEVER, Adjustment
from streamer.core.buffer import TickBuffer
from streamer.core.engine import ForecastEngine
from streamer.core.features import LEVEL, FeatureMap, State
from streamer.core.grid import Floats, Row
from streamer.core.levels import Levels
from streamer.errors import TrainingError
from streamer.model import arrays

MIN_ROWS = 100  # the ring: nothing shorter is ever forecast from
TARGET_CLIP = 8.0  # sigmas: large rare moves carry the gain on thin symbols, so no tighter

Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Replay:
    """A history as the network meets it, on the grid: T rows, n symbols, m targets, F features.

    x: features `(T, n, F)`, float32. y: next change of level over the scale known at t, `(T, m)`, float32.
    mask: where y is to be learned, `(T, m)`. states: of the features, after the rows that were asked for.
    """

    x: npt.NDArray[np.float32]
    y: npt.NDArray[np.float32]
    mask: Bools
    states: Mapping[int, State] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class TrainingSet:
    """Ticks of one stream, oldest first.

    symbols: columns of `prices`. targets: those to forecast. change: what it is of each symbol. step: ms.
    times: grid times (ms), `(rows,)`. breaks: true where a session begins, `(rows,)`. prices: NaN where blank,
    `(rows, n)`. adjustments: that the prices have been brought up by, as far as they are kept.
    """

    symbols: tuple[str, ...]
    targets: tuple[str, ...]
    change: Levels
    step: int
    times: npt.NDArray[np.int64]
    breaks: Bools
    prices: Floats
    adjustments: tuple[Adjustment, ...] = ()

    def __post_init__(self) -> None:
        rows = len(self.times)
        n = len(self.symbols)
        if self.prices.shape != (rows, n) or self.breaks.shape != (rows,) or self.change.is_log.shape != (n,):
            raise ValueError(f"shapes do not fit: {rows} times, prices {self.prices.shape}")
        if not set(self.targets) <= set(self.symbols):
            raise ValueError("targets must be among the symbols")

    def __len__(self) -> int:
        return len(self.times)

    @classmethod
    def of(cls, engine: ForecastEngine, most: int | None = None) -> "TrainingSet":
        """A copy of what an engine holds to learn from; of its newest `most` rows."""
        history = engine.history
        newest = slice(0 if most is None else max(0, len(history) - most), None)
        prices = history.prices[newest].copy()
        return cls(
            symbols=engine.symbols,
            targets=tuple(filter(engine.settings.is_target, engine.symbols)),
            change=engine.market.levels.seeing(prices),  # read back after a restart, it may hold what was never seen
            step=engine.settings.step,
            times=history.times[newest].copy(),
            breaks=history.breaks[newest].copy(),
            prices=prices,
            adjustments=engine.adjustments,
        )

    @property
    def adjusted(self) -> int:
        """Number of the last adjustment that it had."""
        return self.adjustments[-1].number if self.adjustments else NEVER

    def pack(self) -> bytes:
        """An `.npz` archive without pickle."""
        fields = {name: np.asarray(getattr(self, name)) for name in _FIELDS}
        adjustments = json.dumps([asdict(each) for each in self.adjustments])
        return arrays.pack({**fields, "is_log": self.change.is_log, "adjustments": np.array(adjustments)})

    @classmethod
    def unpack(cls, data: bytes, where: object) -> "TrainingSet":
        """What `pack` made; raises TrainingError, which names `where` it was."""
        try:
            found = arrays.unpack(data)
            return cls(
                tuple(found["symbols"].astype(str).tolist()),
                tuple(found["targets"].astype(str).tolist()),
                Levels(found["is_log"].astype(np.bool_)),
                int(found["step"]),
                found["times"].astype(np.int64),
                found["breaks"].astype(np.bool_),
                found["prices"].astype(np.float64),
                _adjustments(found),
            )
        except (ValueError, KeyError, TypeError) as error:
            raise TrainingError(f"{where} is no training set ({error}): hand the history over anew") from error

    def save(self, path: Path) -> None:
        """Write what `load` reads."""
        path.write_bytes(self.pack())

    @classmethod
    def load(cls, path: Path) -> "TrainingSet":
        """Read what `save` wrote; raises TrainingError."""
        try:
            return cls.unpack(path.read_bytes(), path)
        except OSError as error:
            raise TrainingError(f"{path} is no training set ({error}): hand the history over anew") from error

    def usable(self) -> "TrainingSet":
        """The set less the symbols that have no price; raises TrainingError where too little is left."""
        priced: Bools = np.asarray(np.isfinite(self.prices).any(axis=0))
        symbols = tuple(name for name, has in zip(self.symbols, priced.tolist(), strict=True) if has)
        targets = tuple(name for name in self.targets if name in symbols)
        if len(self) < MIN_ROWS:
            raise TrainingError(
                f"{len(self)} rows of history are too few, at least {MIN_ROWS} are needed: wait for more"
            )
        if not targets:
            raise TrainingError(f"no target has a price in {len(self)} rows: check feed.targets")
        if symbols == self.symbols:
            return self
        change, prices = self.change.take(priced), self.prices[:, priced]
        return replace(self, symbols=symbols, targets=targets, change=change, prices=prices)

    def ordered(self, symbols: tuple[str, ...]) -> "TrainingSet":
        """The same with its symbols in this order, and its targets in theirs."""
        if (symbols, [symbol for symbol in symbols if symbol in self.targets]) == (self.symbols, list(self.targets)):
            return self
        columns = np.array([self.symbols.index(symbol) for symbol in symbols], np.intp)
        targets = tuple([symbol for symbol in symbols if symbol in self.targets])
        return replace(
            self,
            symbols=symbols,
            targets=targets,
            change=self.change.take(columns),
            prices=np.ascontiguousarray(self.prices[:, columns]),
        )

    def rows(self, symbols: Sequence[str] | None = None, change: Levels | None = None) -> Iterator[Row]:
        """Yield the rows of the grid, blank ones where steps are missing, with the prices of `symbols`.

        A symbol that the set does not have is blank, and so is a price that `change` cannot use.
        """
        wanted = self.symbols if symbols is None else tuple(symbols)
        prices = np.full((len(self), len(wanted)), np.nan)
        position = {name: column for column, name in enumerate(self.symbols)}
        for column, name in enumerate(wanted):
            if name in position:
                prices[:, column] = self.prices[:, position[name]]
        buffer = TickBuffer(max(1, len(self)), len(wanted))
        buffer.prepend(self.times, self.breaks, prices if change is None else change.usable(prices))
        return buffer.rows(self.step)

    def columns(self) -> npt.NDArray[np.intp]:
        """Indices of the targets among the symbols, `(m,)`."""
        return np.array([self.symbols.index(target) for target in self.targets], np.intp)

    def changes(self) -> Floats:
        """Changes of level from row to row of the grid, `(T, n)`; NaN where either has no price, or at a break."""
        rows = list(self.rows())
        level = self.change.level(np.array([row.prices for row in rows]))
        changes = np.full(level.shape, np.nan)
        changes[1:] = level[1:] - level[:-1]
        changes[np.array([row.is_break for row in rows])] = np.nan
        return changes

    def replay(self, features: FeatureMap, keep: Iterable[int] = ()) -> Replay:
        """Step the features over all rows of the grid, as serving does, and find each row's target.

        keep: rows of the grid after which the features' state is wanted.
        """
        rows = list(self.rows())
        columns = self.columns()
        wanted, states = set(keep), {}
        x = np.empty((len(rows), len(self.symbols), len(features.names)), np.float32)
        level, scale, sees = (np.empty((len(rows), len(columns))) for _ in range(3))
        state = features.initial(len(self.symbols))
        for index, row in enumerate(rows):
            state, x[index] = features.step(state, row)
            if index in wanted:
                states[index] = state
            level[index] = state[LEVEL][columns]
            scale[index] = features.scale(state)[columns]
            sees[index] = np.isfinite(row.prices[columns])
        own = sees.astype(np.bool_) & ~np.array([row.is_break for row in rows])[:, None]
        y, mask = _targets(level, scale, own)
        return Replay(x, y, mask, states)


def _adjustments(found: Mapping[str, np.ndarray]) -> tuple[Adjustment, ...]:
    """Older sets have none."""
    if "adjustments" not in found:
        return ()
    return tuple([Adjustment(**each) for each in json.loads(str(found["adjustments"]))])


_FIELDS = ("symbols", "targets", "step", "times", "breaks", "prices")


def _targets(level: Floats, scale: Floats, own: Bools) -> tuple[npt.NDArray[np.float32], Bools]:
    """Next change over scale, and where it counts, both `(T, m)`.

    own: where a symbol has a price of its own in a row that begins no session.
    """
    mask = np.zeros(level.shape, np.bool_)
    # Before a symbol first moved its scale is a mere floor: any move would be a target at the clip.
    mask[:-1] = own[1:] & np.isfinite(level[:-1]) & (scale[:-1] > volatility.FLOOR)
    moved = np.zeros(level.shape)
    np.subtract(level[1:], level[:-1], out=moved[:-1], where=mask[:-1])
    return np.clip(moved / scale, -TARGET_CLIP, TARGET_CLIP).astype(np.float32), mask
