"""Whether to be fenced is in the nature of things, or another process runs under our own name."""

from typing import Final

_OFTEN: Final = 3
_WITHIN: Final = 300.0
"""Two processes with a tick a minute fence each other at every tick, so that each is fenced every two minutes."""

_LOSSES: Final = 5
_SESSIONS: Final = 2


class Takeovers:
    """How often another process has taken a partition over from this one.

    A member that is late is fenced as a matter of course: its partitions have gone to others. Only static membership
    (`kafka.instance_id`) lets two processes own a partition at a time, each fencing the other for ever; the broker
    tells neither. is_static: whether there is such a name. session_timeout: seconds.
    """

    def __init__(self, session_timeout: float, *, is_static: bool) -> None:
        self._session_timeout = session_timeout
        self._is_static = is_static
        self._stood_still = False
        self._times: list[float] = []
        self._losses: list[float] = []

    def lagged(self, seconds: float) -> None:
        """The event loop came round so much later than it should: longer than a session, and the group has moved on."""
        self._stood_still = self._stood_still or seconds > self._session_timeout

    def displaced(self, now: float) -> None:
        """The group knows us no longer, at `now` (s).

        For it has heard nothing from us for a session, or because another process has joined under our name. That
        happens several times a session, as each joins again at once; the first does not.
        """
        since = now - _SESSIONS * self._session_timeout
        self._losses = [*(at for at in self._losses if at > since), now]

    @property
    def is_displaced(self) -> bool:
        """Whether another process takes our place in the group again and again."""
        return self._is_static and len(self._losses) > _LOSSES

    def are_endless(self, now: float) -> bool:
        """Note that another process has taken over, at `now` (s); True if it is one under our own name."""
        if self.is_displaced:
            return True
        stood_still, self._stood_still = self._stood_still, False
        if stood_still or not self._is_static:
            return False
        self._times = [*(at for at in self._times if now - at < _WITHIN), now]
        return len(self._times) >= _OFTEN
