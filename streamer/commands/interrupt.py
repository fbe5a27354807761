"""Signals that end a command in good order, and the one that asks the daemon for a reload."""

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from streamer.errors import ExitCode


def stop_on_signals(stop: asyncio.Event) -> None:
    """Set `stop` on SIGTERM and Ctrl-C; a second Ctrl-C ends the process at once. For the running loop."""

    def asked(number: int) -> None:
        if stop.is_set() and number == signal.SIGINT:
            print("streamer: stopped at once", file=sys.stderr)
            os._exit(ExitCode.FAILURE)
        stop.set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, asked, number)


def ignore_hangups() -> None:
    """Let SIGHUP, whose default is to end the process, do nothing."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)


@contextmanager
def on_hangup(asked: Callable[[], None]) -> Iterator[None]:
    """Call `asked` in the running loop at each SIGHUP; after the block it does nothing.

    Not `add_signal_handler`: the end of its loop would bring the default back, and one that comes late end the process.
    """
    loop = asyncio.get_running_loop()
    signal.signal(signal.SIGHUP, lambda *_: loop.call_soon_threadsafe(asked))
    try:
        yield
    finally:
        ignore_hangups()
