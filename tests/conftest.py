"""Fixtures for all tests; plain helpers are in `tests.support`."""

import signal

import pytest

from tests import support

# A shell that runs the tests in the background lets them, and all that they start, ignore Ctrl-C.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def free_port() -> int:
    """A TCP port of 127.0.0.1 on which nobody listens."""
    return support.free_port()
