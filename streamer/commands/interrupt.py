"""Signals that end a command in good order."""

import asyncio
import os
import signal
import sys

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
