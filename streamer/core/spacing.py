"""A feed that keeps another spacing than the configured step is a mistake worth a warning."""

from dataclasses import dataclass

_RUN = 30  # equal spacings in a row before it is said: half an hour of minutes, no coincidence


@dataclass(slots=True)
class SpacingWatch:
    """Notices ticks that come in equal spacings other than `step` (ms). Says so once."""

    step: int
    _last: int | None = None
    _spacing: int = 0
    _run: int = 0
    _said: bool = False

    def observe(self, time: int) -> int | None:
        """Take in the time of a tick as sent (ms); returns the spacing that the feed seems to keep, once."""
        spacing = 0 if self._last is None else time - self._last
        self._last = time
        self._run = self._run + 1 if spacing == self._spacing else 1
        self._spacing = spacing
        if self._said or spacing <= 0 or spacing == self.step or self._run < _RUN:
            return None
        self._said = True
        return spacing
