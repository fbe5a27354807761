"""What gave each key of the settings, for the messages of those who find out later that its value is of no use."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from streamer.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Origins:
    """By path: file and line, variable, or override. Settings that have come by other ways are no others: all equal.

    otherwise: for a key that nothing has given, empty where all was made in Python.
    """

    given: Mapping[tuple[str | int, ...], str] = field(default_factory=dict, compare=False)
    otherwise: str = field(default="", compare=False)

    def of(self, where: tuple[str | int, ...]) -> str:
        """What gave the key, or a key inside it, or its section."""
        inside = [by for at, by in self.given.items() if at[: len(where)] == where]
        around = [self.given.get(where[:length]) for length in range(len(where), 0, -1)]
        return next((by for by in (*around[:1], *inside, *around) if by), self.otherwise)

    @contextmanager
    def located(self) -> Iterator[None]:
        """Have a ConfigError that begins with its key, `input.codec: ...`, say first what gave it."""
        try:
            yield
        except ConfigError as error:
            origin = self.of(tuple(str(error).partition(":")[0].split(".")))
            raise ConfigError(f"{origin}: {error}" if origin else str(error)) from error
