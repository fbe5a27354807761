"""The mix of experts that is served, and the guard against false skill. Constant memory, all of it in the state.

Mix: ML-Poly of P. Gaillard, G. Stoltz, T. van Erven, "A second-order bound with excess losses", COLT 2014, on the
linearised squared loss, with slowly discounted regrets. Beside the experts it may choose persistence (no change) and
the plain mean of the experts, which is hard to beat while there is little to learn from. Regrets of all symbols count
for each, its own most: thin symbols learn from the others which expert to trust.

Guard: the mix is multiplied by `c / v`, the slope of what came on what was said, less one standard error: what cannot
be told from luck is not served. A forecast without skill so becomes persistence by itself. Experts that a penalty has
made timid may be stretched a little.
"""

from functools import lru_cache

import numpy as np

from streamer.core.features import State
from streamer.core.grid import ONE, ZERO, Floats, constant
from streamer.core.levels import bounded

EXTRA = ("persistence", "mean")
"""What the mix may choose beside the experts, before them in all arrays."""

_DISCOUNT = constant(0.9995)  # of regrets, per scored forecast: half of a day of minutes
_PRIOR = 3.0  # regret that each begins with: weights stay near equal until some dozen forecasts have spoken
_SHARING = 0.5  # weight of another symbol's regret
_LOSS_CLIP = 5.0  # sigmas: one jump must not decide
_PROPOSAL_CLIP = 3.0  # sigmas: no expert is right to expect more
_GUARD_DECAY = constant(0.5 ** (1.0 / 8000.0))
_GUARD_SHARING = 0.3
_GUARD_CLIP = 10.0  # sigmas: on thin shares rare large moves carry the gain
_ERROR_CLIP = 3.0  # sigmas: the standard error is that of common moves
_STANDARD_ERRORS = constant(1.0)
_STRETCH = constant(1.25)  # at most
_LEAST_POWER, _TWO = constant(1e-12), constant(2.0)
_MOST_OTHERS = 10.0  # symbols: of more, each counts for less, or a thousand others would drown a symbol's own voice

REGRETS, PROPOSALS, MIXED, SCALE = "mix.regrets", "mix.proposals", "mix.mixed", "mix.scale"
"""Of each expert: sum of its regrets and of their squares, `(2, experts, m)`; what each proposed last, `(experts, m)`;
what was made of it, `(m,)`, and the unit of it in level units, `(m,)`."""

EVIDENCE = "mix.evidence"
"""For the guard: sums of what came times what was said, of the squares of what was said, and of the first once more,
squared, `(3, m)`."""

Arrays = dict[str, np.ndarray]
"""The last axis is that of the `m` targets. Streams that are stepped side by side have theirs before it, and each comes
out as it would alone, bit for bit."""


def initial(n_experts: int, n_targets: int) -> Arrays:
    """Nothing is known of any expert."""
    shape = (len(EXTRA) + n_experts, n_targets)
    return {
        REGRETS: np.stack([np.full(shape, _PRIOR), np.zeros(shape)]),
        PROPOSALS: np.zeros(shape),
        MIXED: np.zeros(n_targets),
        EVIDENCE: np.zeros((3, n_targets)),
        SCALE: np.zeros(n_targets),
    }


def learn(state: State, change: Floats, seen: np.ndarray | None) -> Arrays:
    """Hear what came of the last proposals.

    change: of each target's level, in units of the volatility known when it was forecast, `(m,)`. seen: where it was
    seen, `(m,)`, None: everywhere.
    """
    said = state[MIXED]
    discount, decay = _DISCOUNT, _GUARD_DECAY
    error = said - bounded(change, _LOSS_CLIP)
    if seen is not None:
        if not np.count_nonzero(seen):
            return {name: state[name] for name in (REGRETS, PROPOSALS, MIXED, EVIDENCE, SCALE)}
        change = np.where(seen, change, 0.0)
        error = np.where(seen, error, 0.0)
        discount = np.where(seen, _DISCOUNT, ONE)
        if seen.ndim > 1:  # a stream of which nothing was seen does not change for the others' sake
            decay = np.where(seen.any(-1, keepdims=True), _GUARD_DECAY, ONE)
    regrets = np.empty(state[REGRETS].shape)
    np.multiply(_TWO * error, said - state[PROPOSALS], out=regrets[0])
    np.multiply(regrets[0], regrets[0], out=regrets[1])
    if seen is not None:
        said = np.where(seen, said, 0.0)
    agreement = _shared(said * bounded(change, _ERROR_CLIP), _GUARD_SHARING)
    evidence = np.empty(state[EVIDENCE].shape)
    np.multiply(said, bounded(change, _GUARD_CLIP), out=evidence[0])
    np.multiply(said, said, out=evidence[1])
    np.multiply(agreement, agreement, out=evidence[2])
    return {
        REGRETS: discount * state[REGRETS] + regrets,
        PROPOSALS: state[PROPOSALS],
        MIXED: state[MIXED],
        EVIDENCE: decay * state[EVIDENCE] + evidence,
        SCALE: state[SCALE],
    }


def propose(state: State, predictions: Floats, scale: Floats) -> tuple[Arrays, Floats]:
    """Mix the experts' `predictions`, `(n_experts, m)`, in units of volatility; returns the state and what to serve.

    scale: one unit in level units, known now, `(m,)`; kept for `learn`.
    """
    proposals = np.empty(state[PROPOSALS].shape)
    proposals[0] = 0.0
    proposals[1] = np.add.reduce(predictions, 0) / len(predictions)
    proposals[2:] = predictions
    proposals = bounded(proposals, _PROPOSAL_CLIP)
    mixed = np.add.reduce(weights(state) * proposals, 0)
    after = {
        REGRETS: state[REGRETS],
        PROPOSALS: proposals,
        MIXED: mixed,
        EVIDENCE: state[EVIDENCE],
        SCALE: scale,
    }
    return after, mixed * guard(state)


def weights(state: State) -> Floats:
    """Weight of each of `EXTRA` and the experts, `(len(EXTRA) + n_experts, m)`; they add up to 1 per target."""
    regret, squares = _shared(state[REGRETS], _SHARING)
    positive = np.maximum(regret, ZERO) / (ONE + squares)
    total = np.add.reduce(positive, 0)
    if np.count_nonzero(total > ZERO) == total.size:
        shares: Floats = positive / total
        return shares
    # Where no expert has a positive regret, the mix does as well as any: it stays with what is safest.
    none = np.zeros(positive.shape)
    none[0] = 1.0
    return np.where(total > 0.0, positive / np.where(total > 0.0, total, 1.0), none)


def guard(state: State) -> Floats:
    """Factor from 0, persistence, to 1.25 by which the mix of each target is multiplied, `(m,)`."""
    evidence = state[EVIDENCE]
    gain, power = _shared(evidence[:2], _GUARD_SHARING)
    sure = gain - _STANDARD_ERRORS * np.sqrt(evidence[2])
    factor: Floats = np.minimum(np.maximum(sure, ZERO) / np.maximum(power, _LEAST_POWER), _STRETCH)
    return factor


def _shared(values: Floats, share: float) -> Floats:
    """Each target's value plus `share` of each other target's."""
    own, other = _shares(share, values.shape[-1] - 1)
    # A method `sum` takes half as long again.
    shared: Floats = values * own + other * np.add.reduce(values, -1, keepdims=True)
    return shared


@lru_cache(64)
def _shares(share: float, others: int) -> tuple[Floats, Floats]:
    """Weight of a target's own value, and of each of so many others'."""
    if others > _MOST_OTHERS:
        share *= _MOST_OTHERS / others
    return constant(1.0 - share), constant(share)
