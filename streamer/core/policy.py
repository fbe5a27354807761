"""When a training is due."""

from dataclasses import dataclass


@dataclass(slots=True)
class RetrainPolicy:
    """Due after `first` ticks, then every `every` ticks (0: only on request).

    ticks: accepted so far. due_at: the tick at which the next one is due. wanted: the reason of a training that
    is due and has not ended yet; it is part of a snapshot, so a training lost with the process is asked for again.
    """

    first: int
    every: int
    ticks: int = 0
    due_at: int = 0
    wanted: str | None = None

    def __post_init__(self) -> None:
        self.due_at = self.due_at or self.first

    def tick(self) -> str | None:
        """Count one accepted tick; returns the reason if a training is due with it."""
        self.ticks += 1
        if not self.every or self.ticks < self.due_at:
            return None
        self.due_at = self.ticks + self.every
        return self.request("schedule")

    def request(self, reason: str) -> str:
        """Ask for a training out of turn."""
        self.wanted = reason
        return reason

    def ended(self) -> None:
        """The training that was wanted has ended, whatever its outcome."""
        self.wanted = None
