"""Programs run on a terminal: a pseudo-terminal, whose other side the test reads."""

import contextlib
import fcntl
import os
import re
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator, Mapping

from tests.support import CHECKOUT

_STEERING = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")


class Terminal:
    """`streamer` with these arguments, on a terminal of that size (columns, rows). `text`: all it wrote so far."""

    def __init__(self, *arguments: str, size: tuple[int, int] = (100, 30), environment: Mapping[str, str] = {}) -> None:
        ours, its = os.openpty()
        fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", size[1], size[0], 0, 0))
        inherited = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "FORCE_COLOR", "COLUMNS", "LINES")}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "streamer", *arguments],
            cwd=CHECKOUT,
            env={**inherited, "TERM": "xterm-256color", **environment},
            stdin=its,
            stdout=its,
            stderr=its,
            start_new_session=True,
        )
        os.close(its)
        self._ours = ours
        self.text = ""

    @property
    def plain(self) -> str:
        """The text without what steers the terminal."""
        return _STEERING.sub("", self.text)

    def until(self, condition: Callable[[str], object], timeout: float = 60.0) -> str:
        """Read until `condition` holds of the plain text; AssertionError where it ends or takes too long before."""
        deadline = time.monotonic() + timeout
        while not condition(self.plain):
            assert time.monotonic() < deadline, f"not within {timeout} s: {self.text[-2000:]!r}"
            assert self._read(0.2), f"it ended: {self.text[-2000:]!r}"
        return self.plain

    def ended(self, timeout: float = 60.0) -> int:
        """Read to the end; returns the exit code."""
        deadline = time.monotonic() + timeout
        while self._read(0.2):
            assert time.monotonic() < deadline, f"still runs after {timeout} s: {self.text[-2000:]!r}"
        return self.process.wait(timeout)

    def _read(self, seconds: float) -> bool:
        """Whether there may be more to read."""
        if not select.select([self._ours], [], [], seconds)[0]:
            return True
        with contextlib.suppress(OSError):  # how Linux says that nobody holds the other side any more
            data = os.read(self._ours, 65536)
            self.text += data.decode(errors="replace")
            return bool(data)
        return False

    def close(self) -> None:
        """End the process, whatever it does."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self._ours)


@contextlib.contextmanager
def terminal(*arguments: str, **options: object) -> Iterator[Terminal]:
    """A `Terminal` that ends with the block; options: its own."""
    made = Terminal(*arguments, **options)  # type: ignore[arg-type]  # passed on as they are
    try:
        yield made
    finally:
        made.close()
