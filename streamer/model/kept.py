"""Where the store keeps a snapshot of a stream's engine, from which its forecasts can be computed again."""

import re
from dataclasses import dataclass
from typing import Self

_NAME = re.compile(r"(\d{1,9})-(\d{1,19})-(from|on)(\d{1,19})-([\w.-]{1,100})\.snapshot", re.ASCII)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """One of them, as its file's name says it.

    partition: of the input. offset: that follows what it holds. began: input offset from which on the stream is one
    that a replay can go through. whole: whether its first tick is there, so that it can be computed from nothing; else
    it went on from there on what was held before. model: id of the model in service, or "persistence".
    """

    partition: int
    offset: int
    began: int
    whole: bool
    model: str

    @property
    def name(self) -> str:
        """Of its file."""
        how = "from" if self.whole else "on"
        return f"{self.partition}-{self.offset}-{how}{self.began}-{self.model}.snapshot"

    @classmethod
    def named(cls, name: str) -> Self | None:
        """What `name` says; None where it is no name of a checkpoint."""
        if (found := _NAME.fullmatch(name)) is None:
            return None
        partition, offset, how, began, model = found.groups()
        return cls(int(partition), int(offset), int(began), how == "from", model)
