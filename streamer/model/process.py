"""What a training process does to itself so that serving does not notice it."""

import ctypes
import os
import resource
import signal
import sys
import threading

_PR_SET_PDEATHSIG = 1


def limit_memory(size: int) -> None:
    """Within `size` bytes of data: a limit of address space kills TensorFlow's import."""
    resource.setrlimit(resource.RLIMIT_DATA, (size, size))


def step_back() -> None:
    """Step back behind serving, and end with the parent.

    On Linux by `SCHED_IDLE`: beside a fit at nice 19 a tick's p99 was 74 ms, beside one under SCHED_IDLE 29 ms.
    """
    if sys.platform == "linux":
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    else:
        os.nice(19)
    end_with_parent()


def end_with_parent() -> None:
    """Leave nothing running behind: on Linux by the parent's death signal, everywhere at the end of stdin."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    threading.Thread(target=_end_with_stdin, daemon=True).start()


def _end_with_stdin() -> None:
    """The parent holds the other end of stdin open for as long as it lives, and writes nothing."""
    while os.read(0, 1024):
        pass
    os._exit(1)
