"""Linear experts: sums of known functions of the features, whose coefficients the trainer has fitted."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from streamer.core.grid import Floats, constant

OWN, ADDITIVE, VECTOR, READOUT = "own", "additive", "vector", "readout"
NAMES = (OWN, ADDITIVE, VECTOR, READOUT)
"""Of a symbol's own features; of these, bent too; of them and all others' changes; of all that and hidden state."""

_BENDS = 2  # tanh(x) and tanh(2 x): small moves revert more than a line says, large ones less
_BENT = constant(2.0)
_OTHERS_SHARE = constant(10.0**-0.5)  # the ridge penalty is 10 times as heavy on the many changes of the others
_MOST_OTHERS = 64  # symbols: beyond, the changes of all others are more noise than news, and cost their square


@dataclass(frozen=True, slots=True)
class Layout:
    """Which columns of a basis are what: `regressors`, each bent twice, `hidden` units, `others`' changes."""

    regressors: int
    hidden: int
    others: int

    @classmethod
    def of(cls, regressors: int, hidden: int, n_symbols: int) -> "Layout":
        """Layout for so many regressors, hidden units and symbols."""
        return cls(regressors, hidden, n_symbols if n_symbols <= _MOST_OTHERS else 0)

    @property
    def width(self) -> int:
        """Number of columns."""
        return (1 + _BENDS) * self.regressors + self.hidden + self.others

    def columns(self, expert: str) -> np.ndarray:
        """Mask `(width,)` of the columns that the expert uses."""
        bent, hidden = self.regressors * (1 + _BENDS), self.regressors * (1 + _BENDS) + self.hidden
        mask = np.zeros(self.width, np.bool_)
        mask[: self.regressors] = True
        if expert in (ADDITIVE, READOUT):
            mask[:bent] = True
        if expert == READOUT:
            mask[bent:hidden] = True
        if expert in (VECTOR, READOUT):
            mask[hidden:] = True
        return mask

    def basis(self, features: Floats, changes: Floats, hidden: Floats, columns: np.ndarray) -> Floats:
        """The basis of each target, `(..., m, width)`.

        features, hidden: of each target, `(..., m, F)` and `(..., m, units)`. changes: of all symbols, `(..., n)`.
        columns: of the targets among the symbols, `(m,)`.
        """
        width = self.regressors
        basis = np.empty((*features.shape[:-1], self.width))
        own = basis[..., :width]
        own[...] = features[..., :width]
        np.tanh(own, out=basis[..., width : 2 * width])
        np.tanh(_BENT * own, out=basis[..., 2 * width : 3 * width])
        others = self.width - self.others
        basis[..., others - self.hidden : others] = hidden
        if self.others:
            basis[..., others:] = (changes * _OTHERS_SHARE)[..., None, :]
            basis[..., _numbers(len(columns)), others + columns] = 0.0
        return basis


@dataclass(frozen=True, slots=True, eq=False)
class Experts:
    """coefficients: `(m, len(NAMES), layout.width)`."""

    layout: Layout
    coefficients: Floats

    def predict(self, basis: Floats) -> Floats:
        """Next changes in units of volatility, `(len(NAMES), ..., m)`, from a basis `(..., m, width)`."""
        predicted: Floats = (self.coefficients @ basis[..., None])[..., 0].T.swapaxes(1, -1)
        return predicted


@lru_cache(64)
def _numbers(n: int) -> npt.NDArray[np.intp]:
    return np.arange(n)
