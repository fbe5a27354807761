"""When a feed sleeps: the quarters of the hours of the week in which it has been silent before."""

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

_QUARTER = 900_000  # ms: markets open and close on the quarter of an hour
_WEEK = 7 * 24 * 4  # quarters
_KEPT = 4  # weeks without a tick before a quarter that had ticks is believed to sleep: a holiday is no habit


@dataclass(frozen=True, slots=True, eq=False)
class Rhythm:
    """Learned of event times alone: a value, which `after` replaces.

    left: for each quarter of the week, how many more weeks without ticks until it sleeps, `(672,)`; 0: asleep. One that
    never came yet sleeps after the first. reached: the newest quarter since the epoch that counts in `left`.
    """

    left: npt.NDArray[np.int8]
    reached: int | None = None

    @classmethod
    def initial(cls) -> "Rhythm":
        """Nothing is known yet: every quarter is awake."""
        return cls(np.ones(_WEEK, np.int8))

    def is_awake(self, time: int) -> bool:
        """Whether ticks have come at this time (ms) of the week."""
        return bool(self.left[time // _QUARTER % _WEEK])

    def after(self, previous: int | None, time: int, step: int) -> "Rhythm":
        """Take in a tick at `time` that follows the one at `previous` (ms); the feed's step is `step` ms.

        Between them the feed was awake if they are a step, or no more than a quarter of an hour, apart. A tick alone
        wakes nothing: the one that is stamped at the close begins no new quarter.
        """
        if previous is None:
            return self
        if time <= previous:  # time has restarted: what had been reached was perhaps a bad clock's
            return replace(self, reached=None)
        awake = time - previous <= max(step, _QUARTER)
        first, last = previous // _QUARTER, (time - 1) // _QUARTER
        reached = first - 1 if self.reached is None else self.reached
        if awake and last <= reached:
            return self
        left = self.left.copy()
        asleep_until = first if awake else time // _QUARTER
        _pass(left, reached + 1, asleep_until)
        if awake:
            left[np.arange(max(first, last + 1 - _WEEK), last + 1) % _WEEK] = _KEPT
        return Rhythm(left, max(reached, last if awake else asleep_until - 1))


def _pass(left: npt.NDArray[np.int8], start: int, end: int) -> None:
    """Count one silence of the quarters from `start` to before `end`: one of many weeks is an outage, and no habit."""
    silent = np.arange(max(start, end - _WEEK), end) % _WEEK
    left[silent] = np.maximum(left[silent] - 1, 0)
