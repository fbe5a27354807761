"""What a command tells whoever waits for it: notes and progress, on standard error alone.

Bars and colours are for a terminal that can show them; `rich` heeds NO_COLOR and TERM=dumb itself. Elsewhere progress
is a line now and then, so that a log of it stays short.
"""

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol, TextIO

LINE_SECONDS = 5.0
"""Between two lines of progress where there is no terminal."""


class Advance(Protocol):
    """Told how much is done."""

    def __call__(self, done: int, text: str | None = None, total: int | None = None) -> None:
        """So much is done; `text` and `total` take the place of what they were before."""


def is_live(stream: TextIO) -> bool:
    """Whether what was written to `stream` can be written over: a terminal that is not dumb."""
    return stream.isatty() and os.environ.get("TERM", "").lower() not in ("", "dumb", "unknown")


def say(text: str) -> None:
    """A line that is no part of the output."""
    print(f"streamer: {text}", file=sys.stderr, flush=True)


@contextmanager
def progress(text: str, total: int | None, *, quiet: bool = False) -> Iterator[Advance]:
    """A bar with the time left on a terminal, a line now and then elsewhere; nothing where `quiet`.

    total: None while it is not known.
    """
    if quiet:
        yield lambda done, text=None, total=None: None
        return
    if not is_live(sys.stderr):
        yield _Lines(text, total)
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(text, total=total)

        def advance(done: int, text: str | None = None, total: int | None = None) -> None:
            bar.update(task, completed=done, description=text, total=total)

        yield advance


@contextmanager
def waiting(text: str) -> Iterator[None]:
    """A spinner on a terminal, nothing elsewhere: for work whose length nobody knows."""
    if not is_live(sys.stderr):
        yield
        return
    from rich.console import Console
    from rich.markup import escape

    with Console(stderr=True).status(escape(text)):
        yield


class _Lines:
    def __init__(self, text: str, total: int | None) -> None:
        self._text = text
        self._total = total
        self._said_at = time.monotonic()

    def __call__(self, done: int, text: str | None = None, total: int | None = None) -> None:
        self._text = self._text if text is None else text
        self._total = self._total if total is None else total
        if time.monotonic() - self._said_at >= LINE_SECONDS:
            self._said_at = time.monotonic()
            say(f"{self._text}: {done}{'' if self._total is None else f' of {self._total}'}")
