"""Features of each symbol and of its market: what it did last, how far it strayed, what its peers did meanwhile.

One implementation, stepped row by row: the trainer replays the history through it, serving steps it live.

A deviation of a level from its moving average of half-life h is a leaky sum of the level's changes,
`d' = a (d + change)` with `a = 0.5 ** (1 / h)`. So changes are all that is needed, no level is ever subtracted from a
large mean of it, and the deviation of a spread is the difference of two deviations.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from types import EllipsisType

import numpy as np
import numpy.typing as npt

from streamer.core import volatility
from streamer.core.features import CLIP, LEVEL, VARIANCE, WEIGHT, State
from streamer.core.grid import ONE, ZERO, Floats, Row, constant, is_finite
from streamer.core.levels import Bools, Levels, bounded

PEERS = 3
"""So many symbols, the most correlated ones, are compared with each."""

_OWN_LIVES = (1.0, 2.0, 5.0, 15.0, 60.0)  # half-lives in rows: reversals live within minutes
_SPREAD_LIVES = (3.0, 10.0, 40.0, 160.0, 640.0)  # spreads close more slowly
_DECAYS = 0.5 ** (1.0 / np.array(_OWN_LIVES + _SPREAD_LIVES))
_N_OWN = len(_OWN_LIVES)
_PEER_DEVIATIONS = 3  # of a peer's own, the quickest: what it did just now
_NORMED_BY = _N_OWN + 2  # the middle one of a spread's deviations says how far it commonly strays
_SPREAD_DECAY = 0.5 ** (1.0 / 100.0)  # spreads need a faster normaliser than volatility: venues drift apart and back
_SPREAD_KEPT, _SPREAD_NEW = constant(_SPREAD_DECAY), constant(1.0 - _SPREAD_DECAY)
_ACTIVITY_DECAYS = 0.5 ** (1.0 / np.array([10.0, 50.0]))  # recent volatility beside that of 200 prints
# Sigmas: of a split that nobody announced, no more counts as straying, or peers would go on it for hours.
_JUMP = constant(20.0)
_HALF, _FLOOR = constant(0.5), constant(volatility.FLOOR)
_COMMON = 100.0  # changes: below so many in common, a correlation is not trusted in full
_SIGMA_OF_MEDIAN = 1.4826  # of a normal distribution
_LEAST_ACTIVITY = constant(1e-3)  # a symbol that stands still has a logarithm too


def _names() -> Iterator[str]:
    yield from ("change", "stale_change", "change_2", "change_3", "sign", "flat_then", "signed_square")
    yield from (f"deviation_{half_life:g}" for half_life in _OWN_LIVES)
    yield from (f"market_deviation_{half_life:g}" for half_life in _OWN_LIVES)
    for peer in range(PEERS):
        yield from (f"peer{peer}_deviation_{half_life:g}" for half_life in _OWN_LIVES[:_PEER_DEVIATIONS])
    yield from (f"peer{peer}_since" for peer in range(PEERS))
    for peer in range(PEERS):
        yield from (f"peer{peer}_spread_{half_life:g}" for half_life in _SPREAD_LIVES)
    yield "others_since"
    yield from ("activity_10", "activity_50", "age", "gap")


NAMES = tuple(_names())
REGRESSORS = NAMES.index("activity_10")
"""The first so many are centred, and linear experts use them; the rest tells a network how much to trust them."""

_CHANGES, _DEVIATIONS, _ACTIVITY = "features.changes", "features.deviations", "features.activity"
_SPREAD, _MARKET, _ROWS = "features.spread", "features.market", "features.rows"
_AGE, _SINCE, _GAP = "features.age", "features.since", "features.gap"


def _columns(first: str, last: str) -> tuple[EllipsisType, slice]:
    return ..., slice(NAMES.index(first), NAMES.index(last) + 1)


_AT_CHANGES = _columns("change_2", "change_3")
_AT_OWN = _columns("deviation_1", "deviation_60")
_AT_MARKET = _columns("market_deviation_1", "market_deviation_60")
_AT_PEERS = _columns("peer0_deviation_1", f"peer{PEERS - 1}_deviation_5")
_AT_SINCE = _columns("peer0_since", f"peer{PEERS - 1}_since")
_AT_SPREADS = _columns("peer0_spread_3", f"peer{PEERS - 1}_spread_640")
_AT_ACTIVITY = _columns("activity_10", "activity_50")
_AT_CHANGE, _AT_STALE, _AT_SIGN, _AT_FLAT, _AT_SQUARE, _AT_OTHERS, _AT_AGE, _AT_GAP = (
    (..., NAMES.index(name))
    for name in ("change", "stale_change", "sign", "flat_then", "signed_square", "others_since", "age", "gap")
)


@dataclass(frozen=True, eq=False)
class MarketFeatures:
    """See the module. All are in units of volatility and clipped at `CLIP`.

    change: what a change is of each symbol. peers: indices of each symbol's peers, `(n_symbols, PEERS)`; its own
    where it has no further one, which makes that peer's features zero.

    The state holds arrays per symbol: the level last seen and its volatility, the last three `changes`, the
    `deviations`, `activity` (mean squares of scaled changes), `age` (rows since the last price), moves of the peers
    and of all others `since` then; per pair the `spread` mean square; the `market`'s deviations; and `rows` and `gap`
    (blank rows just now).
    """

    change: Levels
    peers: npt.NDArray[np.intp]
    _has_peer: Floats = field(init=False, repr=False)

    def __post_init__(self) -> None:
        own = np.arange(len(self.peers))[:, None]
        object.__setattr__(self, "_has_peer", (self.peers != own).astype(np.float64))

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the features of a symbol."""
        return NAMES

    @property
    def regressors(self) -> int:
        """How many of them, from the first on, a linear expert uses."""
        return REGRESSORS

    def initial(self, n_symbols: int) -> State:
        """State before the first row."""
        return {
            LEVEL: np.full(n_symbols, np.nan),
            VARIANCE: np.zeros(n_symbols),
            WEIGHT: np.zeros(n_symbols),
            _CHANGES: np.zeros((n_symbols, 3)),
            _DEVIATIONS: np.zeros((n_symbols, len(_DECAYS))),
            _ACTIVITY: np.ones((n_symbols, len(_ACTIVITY_DECAYS))),
            _SPREAD: np.zeros((n_symbols, PEERS)),
            _MARKET: np.zeros(_N_OWN),
            _ROWS: np.zeros(1),
            _AGE: np.zeros(n_symbols),
            _SINCE: np.zeros((n_symbols, PEERS + 1)),
            _GAP: np.zeros(1),
        }

    def step(self, state: State, row: Row) -> tuple[State, Floats]:
        """Take in one row; returns the new state and the features, shape `(n_symbols, len(names))`.

        A blank feeds a zero change, and so does the first row of a session: the change across the break is no
        one-step change.
        """
        after, scaled, sigma, seen = self._after(state, row)
        return after, self._features(after, scaled, sigma, seen)

    def _after(self, state: State, row: Row) -> tuple[State, Floats, Floats, Bools | None]:
        """The new state, changes in units of volatility, these units, and which symbols have a change, None: all."""
        level = self.change.level(row.prices)
        moved = level - state[LEVEL]
        printed = seen = None
        if not row.whole or row.is_break or not is_finite(moved):
            printed = np.isfinite(level)
            seen = np.zeros_like(printed) if row.is_break else np.isfinite(moved)
            moved = np.where(seen, moved, 0.0)
        mask = None if seen is None else seen.astype(np.float64)
        variance, weight = volatility.update(state[VARIANCE], state[WEIGHT], moved, mask)
        sigma = volatility.sigma(variance)
        scaled = bounded(moved / sigma, CLIP)
        total, n_seen = np.add.reduce(scaled, -1), scaled.shape[-1] if seen is None else _at_least_one(seen)
        deviations = (state[_DEVIATIONS] + bounded(moved, _JUMP * sigma)[..., None]) * _DECAYS
        strayed = deviations[..., _NORMED_BY, None] - deviations[..., _NORMED_BY].take(self.peers, -1)
        activity = state[_ACTIVITY]
        squares = (scaled * scaled)[..., None]
        shifted = np.empty(state[_CHANGES].shape)
        shifted[..., 0], shifted[..., 1:] = moved, state[_CHANGES][..., :2]
        after = {
            LEVEL: _where(printed, level, state[LEVEL]),
            VARIANCE: variance,
            WEIGHT: weight,
            _CHANGES: _where(seen, shifted, state[_CHANGES]),
            _DEVIATIONS: deviations,
            _ACTIVITY: _where(seen, squares + _ACTIVITY_DECAYS * (activity - squares), activity),
            _SPREAD: _SPREAD_KEPT * state[_SPREAD] + _SPREAD_NEW * strayed * strayed,
            _MARKET: (state[_MARKET].T + total / n_seen).T * _DECAYS[:_N_OWN],
            _ROWS: state[_ROWS] + ONE,
            **self._silence(state, printed, scaled, total),
        }
        return after, scaled, sigma, seen

    def _silence(self, state: State, printed: Bools | None, scaled: Floats, total: Floats) -> dict[str, np.ndarray]:
        """For how long each symbol has had no price, what the others did meanwhile, and for how long none had any."""
        if printed is None:
            age, since, gap = scaled.shape, state[_SINCE].shape, state[_GAP].shape
            return {_AGE: np.zeros(age), _SINCE: np.zeros(since), _GAP: np.zeros(gap)}
        moves = np.empty(state[_SINCE].shape)
        moves[..., :PEERS] = scaled.take(self.peers, -1)
        moves[..., PEERS] = (total - scaled.T).T / max(1, scaled.shape[-1] - 1)
        return {
            _AGE: np.where(printed, 0.0, state[_AGE] + 1.0),
            _SINCE: np.where(printed[..., None], 0.0, state[_SINCE] + moves),
            _GAP: ((state[_GAP].T + ONE) * ~np.logical_or.reduce(printed, -1)).T,
        }

    def _features(self, after: State, scaled: Floats, sigma: Floats, seen: Bools | None) -> Floats:
        sigma, each = sigma[..., None], (*scaled.shape, -1)
        out = np.zeros((*scaled.shape, len(NAMES)))
        changes = after[_CHANGES] / sigma
        last = bounded(changes[..., 0], CLIP)
        out[_AT_CHANGE] = scaled
        if seen is not None:
            out[_AT_STALE] = np.where(seen, 0.0, last)
        out[_AT_CHANGES] = changes[..., 1:]
        out[_AT_SIGN] = np.sign(last)
        if np.count_nonzero(last) < last.size:
            out[_AT_FLAT] = np.where(last == ZERO, changes[..., 1], ZERO)
        out[_AT_SQUARE] = last * np.abs(last)
        own = after[_DEVIATIONS][..., :_N_OWN] / sigma
        out[_AT_OWN] = own
        out[_AT_MARKET] = after[_MARKET][..., None, :]
        peers = own[..., :_PEER_DEVIATIONS].take(self.peers, -2) * self._has_peer[:, :, None]
        out[_AT_PEERS] = peers.reshape(each)
        out[_AT_SPREADS] = self._spreads(after).reshape(each)
        if seen is not None:  # else nothing is silent
            out[_AT_SINCE] = after[_SINCE][..., :PEERS] * self._has_peer
            out[_AT_OTHERS] = after[_SINCE][..., PEERS]
        out = bounded(out, CLIP)
        out[_AT_ACTIVITY] = _HALF * np.log(np.maximum(after[_ACTIVITY], _LEAST_ACTIVITY))
        if seen is not None:
            out[_AT_AGE] = np.log1p(after[_AGE])
            out[_AT_GAP] = np.log1p(after[_GAP])
        return out

    def _spreads(self, after: State) -> Floats:
        """Deviations of the spreads to the peers over what is common for each, `(n, PEERS, len(_SPREAD))`."""
        slow = after[_DEVIATIONS][..., _N_OWN:]
        common = np.maximum(np.sqrt(after[_SPREAD] / _seen_share(after[_ROWS])), _FLOOR)
        spreads: Floats = (slow[..., None, :] - slow.take(self.peers, -2)) / common[..., None]
        return spreads

    @staticmethod
    def scale(state: State) -> Floats:
        """Standard deviation of each symbol's changes, known at the state's row, level units, `(n_symbols,)`."""
        return volatility.sigma(state[VARIANCE])


def _seen_share(rows: Floats) -> Floats:
    """Adam's bias correction after so many rows, `(..., 1)`, to go with `(..., n, PEERS)`."""
    if rows.ndim == 1:
        share: Floats = 1.0 - _SPREAD_DECAY ** rows[0]
        return share
    # The power of an array differs from that of a number in the last bit.
    return np.array([[[1.0 - _SPREAD_DECAY**count]] for (count,) in rows.tolist()])


def _at_least_one(seen: Bools) -> int | npt.NDArray[np.intp]:
    """How many of `(..., n)` are seen, if any."""
    if seen.ndim == 1:
        return max(1, int(np.count_nonzero(seen)))
    count: npt.NDArray[np.intp] = np.maximum(np.add.reduce(seen, -1, np.intp), 1)
    return count


def _where(chosen: Bools | None, new: Floats, old: Floats) -> Floats:
    """`new` for the symbols that are chosen, None: all; `old` for the others. Axes of `chosen` come first."""
    if chosen is None:
        return new
    return np.where(chosen[..., None] if new.ndim > chosen.ndim else chosen, new, old)


def most_correlated(changes: Floats) -> npt.NDArray[np.intp]:
    """Each symbol's peers, `(n, PEERS)`, by the correlation of `changes`, `(rows, n)`, NaN where there is none.

    Scale does not matter, and single large changes little: each is cut at `CLIP` of its symbol's common size.
    """
    n = changes.shape[1]
    seen = np.isfinite(changes)
    known = np.where(seen, changes, 0.0)
    scaled = bounded(known / np.maximum(_common_size(known), volatility.FLOOR), CLIP)
    both = seen.astype(np.float64).T @ seen
    power = np.square(scaled).T @ seen
    product = scaled.T @ scaled
    likeness = np.abs(product) / np.sqrt(np.maximum(power * power.T, volatility.FLOOR))
    # A likeness from few common changes is chance: it counts in proportion.
    likeness *= np.minimum(1.0, both / _COMMON)
    likeness = np.round(likeness, 12)  # equals that differ by the order of a sum alone are equals on every machine
    np.fill_diagonal(likeness, -1.0)
    order = np.argsort(-likeness, axis=1, kind="stable")[:, : min(PEERS, n - 1)]
    own = np.repeat(np.arange(n)[:, None], PEERS - order.shape[1], axis=1)
    return np.concatenate([order, own], axis=1).astype(np.intp)


def _common_size(changes: Floats) -> Floats:
    """Standard deviation of each column as its median change has it, of those that are not zero, `(n,)`.

    A mean square would be that of one bad print, beside which all other changes are nothing.
    """
    sizes = [np.abs(column[column != 0.0]) for column in changes.T]
    return np.array([_SIGMA_OF_MEDIAN * np.median(moved) if len(moved) else 1.0 for moved in sizes])
