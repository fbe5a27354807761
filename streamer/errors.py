"""Errors that say whose fault they are, and the exit codes of the `streamer` command."""

from enum import IntEnum


class ExitCode(IntEnum):
    """What the process tells its supervisor. `UNMENDABLE` asks it not to restart for ever."""

    STOPPED = 0
    FAILURE = 1
    USAGE = 2
    UNMENDABLE = 3


class StreamerError(Exception):
    """Base of every error that a user may see: its text is one line that names the thing and the remedy."""

    exit_code = ExitCode.FAILURE

    @property
    def details(self) -> dict[str, object]:
        """What a program may want of it beside its text, as JSON values."""
        return {}


class ConfigError(StreamerError):
    """The operator's: a configuration, an address or a topic that a restart cannot mend."""

    exit_code = ExitCode.UNMENDABLE


class UsageError(StreamerError):
    """The caller's: arguments or a file of the command line."""

    exit_code = ExitCode.USAGE


class DecodeError(StreamerError):
    """The sender's: a message that is no tick. `reason` is one of a small, fixed set (it becomes a metric label)."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


class SnapshotError(StreamerError):
    """A snapshot that cannot be read: damaged, foreign, or of a newer format."""


class ArtifactError(StreamerError):
    """A model on disk that cannot be used: damaged, foreign, or of a newer format."""


class TrainingError(StreamerError):
    """A training that gave no model: too little data, a crash, a limit."""


class BrokerError(StreamerError):
    """The broker is away or refuses for now; a later try may succeed."""
