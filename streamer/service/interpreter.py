"""Settings of Python itself for a process that serves."""

import gc
import sys
from typing import Final

_SWITCH_SECONDS: Final = 0.0005
"""After so long a thread gives way to another that waits. By default that is 5 ms, which the event loop may wait after
each of its calls to the system while a scrape is rendered: one tick has a dozen, and took up to 180 ms."""

_YOUNG_OBJECTS: Final = 10_000
"""Objects that are new before the collector of cycles looks through them, by default 700: a batch of a thousand ticks
makes ten thousand, none of which is in a cycle."""


def settle() -> None:
    """Once all is imported, and before anything is served."""
    gc.freeze()  # modules, classes and functions stay: a full collection has 80,000 objects less to look at, some 20 ms
    gc.set_threshold(_YOUNG_OBJECTS, *gc.get_threshold()[1:])
    sys.setswitchinterval(_SWITCH_SECONDS)
