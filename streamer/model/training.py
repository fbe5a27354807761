"""Fitting by truncated back-propagation through time (Williams and Peng 1990) on lanes of history.

The state is carried from chunk to chunk, a target stands at every step, and no row is copied into windows. Several
histories may be learned from together: a lane is a piece of one of them.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from streamer.errors import TrainingError
from streamer.model import network
from streamer.model.network import Weights
from streamer.model.spec import FitSpec, GateSpec, NetworkSpec, Shape

Progress = Callable[[int, int, float, float], None]
"""Called with step, budget in steps, loss since the last call, and loss on the stop slice (NaN in a refit)."""

_HUBER = 3.0  # sigmas: beyond, the loss is linear, so that rare jumps do not steer the fit
_AVERAGING = 0.99  # decay of the averaged weights: a memory of some hundred steps
_EVALUATIONS = 40  # on the stop slice, over the whole budget
_WARM_UP = 0.1  # share of the budget in which the learning rate rises
_CLIP_NORM = 1.0
_WINDOW = 100  # rows: after so many a state from zero is as good as one carried all along (measured)
_WINDOWS = 256  # of the stop slices at most, evenly spread: more would tell no more, and take longer than the fit
_SEQUENCES = 2048  # evaluated at once: a bound on memory


@dataclass(frozen=True, slots=True)
class Slices:
    """The history in time order: fit `[0, fit_end)`, stop `[fit_end, stop_end)`, gate from `stop_end` on."""

    fit_end: int
    stop_end: int

    @classmethod
    def of(cls, rows: int, gate: GateSpec) -> "Slices":
        """Split so many rows; raises TrainingError where a slice would be empty."""
        stop_end = rows - max(1, round(rows * gate.fraction))
        fit_end = stop_end - max(2, round(rows * gate.stop_fraction))
        if fit_end < 2:
            raise TrainingError(f"{rows} rows are too few to split into fit, stop and gate slice: wait for more")
        return cls(fit_end, stop_end)


@dataclass(frozen=True, slots=True, eq=False)
class Series:
    """What is learned from: x `(T, rows, inputs)`; y, mask (1.0 where y counts) `(T, rows, outputs)`."""

    x: npt.NDArray[np.float32]
    y: npt.NDArray[np.float32]
    mask: npt.NDArray[np.float32]

    def until(self, end: int) -> "Series":
        """The rows before `end`, without the last target, which lies at `end` and so in the next slice."""
        mask = self.mask[:end].copy()
        mask[-1] = 0.0
        return Series(self.x[:end], self.y[:end], mask)


@dataclass(frozen=True, slots=True, eq=False)
class Track:
    """One history: all of it, and how it is split."""

    series: Series
    slices: Slices


def use_threads(threads: int) -> None:
    """Make TensorFlow of this process deterministic, and keep it to so many threads. Before anything else."""
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)
    tf.config.experimental.enable_op_determinism()


@dataclass(frozen=True, slots=True, eq=False)
class Fitted:
    """Averaged weights, after how many steps, of a schedule of how many."""

    weights: Weights
    steps: int
    budget: int


def train(
    tracks: Sequence[Track],
    spec: NetworkSpec,
    shape: Shape,
    fit: FitSpec,
    initial: Weights | None = None,
    progress: Progress | None = None,
) -> Fitted:
    """Fit on the fit slices, stop by the stop slices; returns the averaged weights that were best there.

    initial: weights to start from. The same arguments give the same weights, bit for bit, on one machine.
    Raises TrainingError where there is nothing to learn from, or the loss is no number.
    """
    learned = [track.series.until(track.slices.fit_end) for track in tracks]
    stopping = [track.series.until(track.slices.stop_end) for track in tracks]
    for part, track in zip(stopping, tracks, strict=True):
        part.mask[: track.slices.fit_end] = 0.0
    for name, parts in (("fit", learned), ("stop", stopping)):
        if not any(part.mask.any() for part in parts):
            raise TrainingError(f"no target has two prices in a row in the {name} slice: wait for more history")
    learned = _long_enough(learned)
    lanes = _Lanes.of([len(part.x) for part in learned], fit)
    budget = min(fit.steps, fit.epochs * lanes.chunks) if fit.epochs else fit.steps
    fitter = _fresh(spec, shape, fit, lanes, budget)
    if initial is not None:
        fitter.start_from(initial)
    slices = [track.slices for track in tracks]
    return _fit(fitter, _Stopping(fitter.averaged, stopping, slices), learned, fit, budget, progress)


def refit(
    tracks: Sequence[Track],
    spec: NetworkSpec,
    shape: Shape,
    fit: FitSpec,
    judged: Fitted,
    progress: Progress | None = None,
) -> Weights:
    """Fit on all rows, in as many steps as were best when some were kept back, by the same schedule."""
    learned = _long_enough([track.series.until(len(track.series.x)) for track in tracks])
    fitter = _fresh(spec, shape, fit, _Lanes.of([len(part.x) for part in learned], fit), judged.budget)
    losses = []
    every = max(1, judged.steps // _EVALUATIONS)
    for step, chunk in zip(range(1, judged.steps + 1), fitter.chunks(learned, fit.seed), strict=False):
        losses.append(fitter.step(*chunk))
        if progress is not None and (step % every == 0 or step == judged.steps):
            progress(step, judged.steps, float(np.mean(losses)), math.nan)
            losses.clear()
    return fitter.averaged_weights()


def _long_enough(learned: Sequence[Series]) -> list[Series]:
    """Those to learn from: as many, and as long, as have most rows if all are cut to the shortest of them.

    Lanes go on side by side: beside one short history all of them would be as short.
    """
    lengths = sorted([len(part.x) for part in learned], reverse=True)
    most = max(range(len(lengths)), key=lambda index: (index + 1) * lengths[index])
    return [part for part in learned if len(part.x) >= lengths[most]]


@dataclass(frozen=True, slots=True)
class _Lanes:
    """How histories are laid out for a fit.

    together: histories side by side. pieces: of each of these, one behind the other. length: rows of a chunk. chunks:
    of an epoch.
    """

    together: int
    pieces: int
    length: int
    chunks: int

    @classmethod
    def of(cls, rows: Sequence[int], fit: FitSpec) -> "_Lanes":
        """Of histories with so many rows: fewer and shorter lanes where there is little."""
        shortest = min(rows)
        length = min(fit.sequence, shortest // 2)
        together = min(fit.lanes, len(rows))
        pieces = min(fit.lanes // together, max(1, shortest // (2 * length)))
        return cls(together, pieces, length, max(1, len(rows) * shortest // (together * pieces) // length))

    @property
    def number(self) -> int:
        """All of them."""
        return self.together * self.pieces


def _fresh(spec: NetworkSpec, shape: Shape, fit: FitSpec, lanes: _Lanes, budget: int) -> "Fitter":
    """A network as its seed has it, and the schedule of `budget` steps before it."""
    keras.backend.clear_session()
    keras.utils.set_random_seed(fit.seed)
    return Fitter(spec, shape, replace(fit, steps=budget), lanes.number, lanes.length)


def _fit(
    fitter: "Fitter",
    stopping: "_Stopping",
    learned: Sequence[Series],
    fit: FitSpec,
    budget: int,
    progress: Progress | None,
) -> Fitted:
    every = max(1, budget // _EVALUATIONS)
    best, best_loss, best_step, since = fitter.averaged_weights(), stopping.loss(), 0, 0
    losses = []
    for step, chunk in zip(range(1, budget + 1), fitter.chunks(learned, fit.seed), strict=False):
        losses.append(fitter.step(*chunk))
        if step % every and step < budget:
            continue
        loss, stop_loss = float(np.mean(losses)), stopping.loss()
        losses.clear()
        if not (math.isfinite(loss) and math.isfinite(stop_loss)):
            raise TrainingError(f"the loss is no number after {step} steps: lower the learning rate")
        if progress is not None:
            progress(step, budget, loss, stop_loss)
        if stop_loss < best_loss:
            best, best_loss, best_step, since = fitter.averaged_weights(), stop_loss, step, 0
        elif (since := since + 1) >= fit.patience:
            break
    return Fitted(best, best_step, budget)


class Fitter:
    """The network being fitted, its optimizer, and the running average of its weights."""

    def __init__(self, spec: NetworkSpec, shape: Shape, fit: FitSpec, lanes: int, length: int) -> None:
        self._lanes, self._length = lanes, length
        self._model = network.stateful_model(spec, shape, lanes, length, apart=True)
        self.averaged = network.window_model(spec, shape)
        warm_up = max(1, round(fit.steps * _WARM_UP))
        rate = keras.optimizers.schedules.CosineDecay(
            fit.learning_rate / 25.0,
            max(1, fit.steps - warm_up),
            warmup_target=fit.learning_rate,
            warmup_steps=warm_up,
        )
        self._optimizer = keras.optimizers.AdamW(rate, beta_2=fit.beta_2, global_clipnorm=_CLIP_NORM)
        self._optimizer.build(self._model.trainable_variables)
        self._steps = tf.Variable(0.0)
        self._step = tf.function(self._train_step)
        self.start_from(network.get_weights(self._model))

    def start_from(self, weights: Weights) -> None:
        """Go on from `weights`, as the average too."""
        network.set_weights(self._model, weights)
        network.set_weights(self.averaged, weights)

    def averaged_weights(self) -> Weights:
        """Copies of the averaged weights."""
        return network.get_weights(self.averaged)

    def chunks(self, learned: Sequence[Series], seed: int) -> Iterator[tuple[npt.NDArray[np.float32], ...]]:
        """Yield chunks of all lanes, pass after pass; each starts at another row, from zero state."""
        random = np.random.default_rng(seed)
        length, rows = self._length, min(len(series.x) for series in learned)
        together = min(self._lanes, len(learned))
        pieces = self._lanes // together
        slack = min(length, rows - pieces * length)
        for chosen in _turns(learned, together, random):
            start = int(random.integers(slack + 1))
            lane = (rows - start) // pieces
            # Of a history longer than the others, another part each time.
            offsets = [start + int(random.integers(len(series.x) - rows + 1)) for series in chosen]
            self._reset()
            for begin in range(0, lane - length + 1, length):
                starts = begin + lane * np.arange(pieces)
                yield _chunk(chosen, [offset + starts for offset in offsets], length)

    def step(self, *chunk: npt.NDArray[np.float32]) -> float:
        """Learn from one chunk; returns its loss before."""
        return float(self._step(*chunk))

    def _train_step(self, x: Any, y: Any, mask: Any) -> Any:
        with tf.GradientTape() as tape:
            # Each member learns by itself: members that share their errors would be one network.
            loss = huber(self._model(x, training=True), y[..., None], mask[..., None])
        variables = self._model.trainable_variables
        self._optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))
        self._steps.assign_add(1.0)
        # The first steps' weights are forgotten sooner, or they would weigh on the average for the whole fit.
        decay = tf.minimum(_AVERAGING, (1.0 + self._steps) / (10.0 + self._steps))
        for average, variable in zip(self.averaged.trainable_variables, variables, strict=True):
            average.assign(average + (1.0 - decay) * (variable - average))
        return loss

    def _reset(self) -> None:
        for layer in self._model.layers:
            if isinstance(layer, keras.layers.LSTM):
                layer.reset_state()


class _Stopping:
    """Loss on the stop slices, in windows side by side, each with rows before it to warm the state up."""

    def __init__(self, model: keras.Model, parts: Sequence[Series], slices: Sequence[Slices]) -> None:
        length = min(2 * _WINDOW, *(each.stop_end for each in slices))
        places = [(index, start) for index, each in enumerate(slices) for start in window_starts(each, length)]
        chosen = [places[place] for place in _spread(len(places), _WINDOWS)]
        cut = [window(parts[index], slices[index], start, length) for index, start in chosen]
        x, y, mask = (np.concatenate(same) for same in zip(*cut, strict=True))
        split = [np.split(each, range(_SEQUENCES, len(x), _SEQUENCES)) for each in (x, y, mask)]
        counted = max(1.0, mask.sum())
        self._batches = [(*batch, float(batch[2].sum() / counted)) for batch in zip(*split, strict=True)]
        self._loss = tf.function(lambda x, y, mask: huber(model(x, training=False), y, mask))

    def loss(self) -> float:
        return float(sum(float(self._loss(x, y, mask)) * share for x, y, mask, share in self._batches))


def _spread(number: int, most: int) -> npt.NDArray[np.intp]:
    """At most `most` of so many, evenly spread."""
    return np.unique(np.linspace(0, number - 1, min(number, most)).round().astype(np.intp))


def window_starts(slices: Slices, length: int) -> Sequence[int]:
    """Where the windows of `length` rows begin in which a stop slice is scored, each row in one of them."""
    return range(slices.fit_end, slices.stop_end, min(_WINDOW, length))


def window(part: Series, slices: Slices, start: int, length: int) -> tuple[npt.NDArray[np.float32], ...]:
    """x, y and mask of the window that is scored from `start` on; rows before that only warm the state up."""
    begin = max(min(start + min(_WINDOW, length), slices.stop_end) - length, 0)
    mask = windows(part.mask, [begin], length)
    mask[:, : start - begin] = 0.0
    return windows(part.x, [begin], length), windows(part.y, [begin], length), mask


def _turns(learned: Sequence[Series], together: int, random: np.random.Generator) -> Iterator[Sequence[Series]]:
    """Yield the histories of pass after pass, without end; where they are more than fit, all have their turn."""
    if together == len(learned):
        while True:
            yield learned
    waiting: list[int] = []
    while True:
        if len(set(waiting)) < together:
            waiting += random.permutation(len(learned)).tolist()
        chosen = list(dict.fromkeys(waiting))[:together]  # none twice in one pass: it would be the same rows
        yield [learned[index] for index in chosen]
        for index in chosen:
            waiting.remove(index)


def _chunk(
    chosen: Sequence[Series], starts: Sequence[npt.NDArray[np.intp]], length: int
) -> tuple[npt.NDArray[np.float32], ...]:
    """x, y and mask of the lanes that begin at `starts` of each history."""
    cut = [
        [windows(part, begin, length) for part in (series.x, series.y, series.mask)]
        for series, begin in zip(chosen, starts, strict=True)
    ]
    return tuple(np.concatenate(same) if len(chosen) > 1 else same[0] for same in zip(*cut, strict=True))


def windows(series: npt.NDArray[np.float32], starts: Any, length: int) -> npt.NDArray[np.float32]:
    """Cut `(T, rows, k)` into a batch `(len(starts) * rows, length, k)`, the rows of one start together."""
    cut = series[np.asarray(starts)[:, None] + np.arange(length)]
    return np.ascontiguousarray(cut.swapaxes(1, 2)).reshape(-1, length, series.shape[2])


def huber(predicted: Any, y: Any, mask: Any) -> Any:
    """Mean Huber loss over the cells where `mask` is 1; of several members, where `y` has an axis of 1 for them."""
    error = tf.abs(predicted - y)
    mask = tf.broadcast_to(mask, tf.shape(error))
    loss = tf.where(error < _HUBER, 0.5 * error * error, _HUBER * (error - 0.5 * _HUBER))
    return tf.reduce_sum(loss * mask) / tf.maximum(tf.reduce_sum(mask), 1.0)


def require_finite(weights: Weights) -> None:
    """Raise TrainingError where a weight is no number."""
    for name, values in weights.items():
        if not np.isfinite(values).all():
            raise TrainingError(f"the fit gave weights that are no numbers ({name}): lower the learning rate")
