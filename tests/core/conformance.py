"""What every forecaster has to keep, whatever is inside: `check_forecaster(model)`."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from streamer.core import snapshot
from streamer.core.features import State
from streamer.core.forecaster import MODELLED, Forecaster
from streamer.core.grid import Floats, Row, is_whole

_STEP = 60_000


def check_forecaster(model: Forecaster) -> None:
    """Raise AssertionError where `model` breaks a rule of `core.forecaster.Forecaster`."""
    _check_names(model)
    _check_states(model)
    _check_steps(model)
    _check_states_take_turns(model)
    _check_streams_side_by_side(model)


def _check_names(model: Forecaster) -> None:
    assert model.id
    assert model.targets, "it forecasts nothing"
    assert set(model.targets) <= set(model.symbols), "targets are symbols"
    assert len(set(model.symbols)) == len(model.symbols), "a symbol is read once"
    assert len(set(model.targets)) == len(model.targets), "a symbol is forecast once"


def _check_states(model: Forecaster) -> None:
    initial = model.initial_state()
    assert _bits(initial) == _bits(model.initial_state()), "it always begins alike"
    assert _layout(model.trained_state()) == _layout(initial), "both beginnings have one layout"
    for state in (initial, model.trained_state()):
        _, restored = snapshot.unpack(snapshot.pack({}, state))
        assert _bits(restored) == _bits(state), "a snapshot holds its state"


def _check_steps(model: Forecaster) -> None:
    """Shapes, finite answers, untouched inputs, same input same answer: on every kind of row."""
    for beginning in (model.initial_state(), model.trained_state()):
        state = beginning
        layout = _layout(state)
        for row in _rows(len(model.symbols)):
            before, prices = _bits(state), row.prices.tobytes()
            after, changes = model.step(state, row)
            again, same = model.step(state, row)
            assert (_bits(state), row.prices.tobytes()) == (before, prices), "inputs are left alone"
            assert _bits(again) == _bits(after), "the same row on the same state gives the same state"
            assert changes.shape == (len(MODELLED), len(model.targets))
            assert changes.dtype == np.float64
            assert changes.tobytes() == same.tobytes(), "and the same forecast"
            told, same = model.step(state, replace(row, whole=is_whole(row.prices)))
            assert (_bits(told), same.tobytes()) == (_bits(after), changes.tobytes()), (
                "known to be whole, it is no other"
            )
            assert np.isfinite(changes).all(), f"a forecast that is no number, at {row}"
            shares = np.array(list(model.shares(after).values()))
            assert shares.shape[1:] == (len(model.targets),)
            assert (shares.sum(axis=0) > 1.0 - 1e-9).all(), "shares add up to 1, or more where the mix is stretched"
            assert (shares >= 0.0).all()
            assert _layout(after) == layout, "a state keeps its layout"
            state = after


def _check_states_take_turns(model: Forecaster) -> None:
    """A state is a value: two that take turns on one model do not know of each other."""
    rows = list(_rows(len(model.symbols)))
    alone = [_bits(state) for state in _states(model, rows)]
    forward, backward = model.initial_state(), model.initial_state()
    for row, other, expected in zip(rows, reversed(rows), alone, strict=True):
        forward, _ = model.step(forward, row)
        kept = _bits(forward)
        backward, _ = model.step(backward, other)
        assert _bits(forward) == kept == expected


def _check_streams_side_by_side(model: Forecaster) -> None:
    """Many streams at once, each somewhere else: they come out as each does alone."""
    rows = list(_rows(len(model.symbols)))
    states = [model.initial_state(), model.trained_state(), *_states(model, rows)]
    for some in (rows, [row for row in rows if not row.is_break], [row for row in rows if is_whole(row.prices)]):
        told = [replace(row, whole=is_whole(row.prices)) for row in some]
        for first in (0, 9):
            turned = states[first : first + len(told)]
            kept = [_bits(state) for state in turned]
            found = model.step_all(turned, told[: len(turned)])
            assert kept == [_bits(state) for state in turned], "inputs are left alone"
            again = model.step_all([state for state, _ in found], told[: len(turned)])
            for state, row, once, twice in zip(turned, told, found, again, strict=False):
                for (after, changes), before in ((once, state), (twice, once[0])):
                    alone, same = model.step(before, row)
                    assert snapshot.pack({}, after) == snapshot.pack({}, alone), "the state that it has alone"
                    assert changes.tobytes() == same.tobytes(), "and the forecast"


def _states(model: Forecaster, rows: list[Row]) -> Iterator[State]:
    state = model.initial_state()
    for row in rows:
        state, _ = model.step(state, row)
        yield state


def _rows(n_symbols: int) -> Iterator[Row]:
    """Rows of every kind: blank from the first, usual, partly blank, all blank, a break, a bad print, a still one."""
    rng = np.random.default_rng(7)
    prices = 100.0 + np.cumsum(rng.normal(scale=0.1, size=(60, n_symbols)), axis=0)
    prices[0] = np.nan
    prices[1, 0] = np.nan
    prices[10:13] = np.nan
    prices[20, -1] = np.nan
    prices[30] *= 100.0
    prices[40:44] = prices[40]
    for i, row in enumerate(prices):
        yield Row(i * _STEP, _read_only(row), is_break=i in (1, 25))


def _read_only(row: Floats) -> Floats:
    row.setflags(write=False)
    return row


def _layout(state: State) -> dict[str, tuple[tuple[int, ...], str]]:
    return {name: (array.shape, array.dtype.str) for name, array in state.items()}


def _bits(state: State) -> dict[str, bytes]:
    return {name: array.tobytes() for name, array in state.items()}
