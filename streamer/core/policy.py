"""When a training is due."""

from dataclasses import dataclass
from enum import StrEnum


class Reason(StrEnum):
    """Why a training is due."""

    SCHEDULE = "schedule"
    DRIFT = "drift"
    REQUESTED = "requested"
    CHAMPION_LOST = "champion_lost"
    SETTINGS_CHANGED = "settings_changed"
    SWITCHED_TO_DIFFERENCES = "switched_to_differences"


@dataclass(slots=True)
class RetrainPolicy:
    """Due after `first` ticks, then every `every` ticks (0: only on request); and on drift.

    cooldown: ticks after a training came due, or a model began to serve, for which drift is not acted on.
    ticks: accepted so far. due_at: the tick at which the next one is due. calm_until: the tick up to which drift is
    not acted on. wanted: the reason of a training that is due and has not ended yet; it is part of a snapshot, so a
    training lost with the process is asked for again. under_way: that training has its history, so what comes due
    now wants another, `wanted_next`.
    """

    first: int
    every: int
    cooldown: int = 0
    ticks: int = 0
    due_at: int = 0
    calm_until: int = 0
    wanted: str | None = None
    under_way: bool = False
    wanted_next: str | None = None

    def __post_init__(self) -> None:
        self.due_at = self.due_at or self.first

    def tick(self, drifted: bool = False) -> str | None:
        """Count one accepted tick; returns the reason if a training is due with it."""
        self.ticks += 1
        if self.every and self.ticks >= self.due_at:
            self.due_at = self.ticks + self.every
            return self._due(Reason.SCHEDULE)
        if self.every and drifted and self.ticks > self.calm_until:
            return self._due(Reason.DRIFT)
        return None

    def _due(self, reason: Reason) -> str:
        self.settle()
        return self.request(reason)

    def settle(self) -> None:
        """Give what has changed the cool-down to show."""
        self.calm_until = self.ticks + self.cooldown

    def request(self, reason: str) -> str:
        """Ask for a training out of turn; once the one under way has ended, as that one knows nothing of it."""
        if self.under_way:
            self.wanted_next = str(reason)
        else:
            self.wanted = str(reason)
        return str(reason)

    def begun(self) -> None:
        """The training that was wanted has its history."""
        self.under_way = True

    def joined(self) -> None:
        """A training for several streams has this one's history too: what was soon to come due is done with it."""
        self.under_way = True
        if self.every:
            self.due_at = max(self.due_at, self.ticks + self.every)

    def waited(self) -> None:
        """The scheduled training begins only now, as those of other streams came first: the next is due after `every`.

        So streams that began together come due one behind the other from then on.
        """
        if self.wanted == Reason.SCHEDULE:
            self.due_at = max(self.due_at, self.ticks + self.every)

    def ended(self) -> None:
        """The training that was wanted has ended, whatever its outcome."""
        self.wanted, self.wanted_next, self.under_way = self.wanted_next, None, False
