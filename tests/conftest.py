"""Fixtures for all tests; plain helpers are in `tests.support`."""

import pytest

from tests import support


@pytest.fixture
def free_port() -> int:
    """A TCP port of 127.0.0.1 on which nobody listens."""
    return support.free_port()
