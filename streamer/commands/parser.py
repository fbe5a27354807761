"""argparse with a hint: what an unknown command, option or choice was perhaps meant to be."""

import argparse
import difflib
import re
from collections.abc import Iterable
from typing import Any, NoReturn

_CHOICE = re.compile(r"invalid choice: '?(?P<found>[^' ]*)'? \(choose from (?P<known>.*)\)")

_CUTOFF = 0.7  # of difflib's ratio: tial is tail, but ksh is not zsh


class Parser(argparse.ArgumentParser):
    """Its subparsers are of the same kind, and refuse what they do not know themselves, with their own usage."""

    def parse_known_args(self, *args: Any, **named: Any) -> tuple[Any, list[str]]:
        """Parse all of them: nothing is left over."""
        known, unknown = super().parse_known_args(*args, **named)
        if unknown:
            options = [name for action in self._actions for name in action.option_strings]
            self.error(f"unrecognized arguments: {' '.join(unknown)}{_hint(unknown[0].partition('=')[0], options)}")
        return known, unknown

    def error(self, message: str) -> NoReturn:
        """Exit code 2, with usage, the error, and what was perhaps meant."""
        if match := _CHOICE.search(message):
            message += _hint(match["found"], re.findall(r"[\w.-]+", match["known"]))
        super().error(message)


def examples_of(command: str, epilog: str) -> str:
    """The examples of one action, of those in the epilog of its command."""
    lines = [line for line in epilog.splitlines() if f"streamer {command}" in line]
    return "\n".join(["examples:", *lines]) + "\n"


def _hint(found: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(found, list(known), n=1, cutoff=_CUTOFF)
    return f"; did you mean {close[0]}?" if close else ""
