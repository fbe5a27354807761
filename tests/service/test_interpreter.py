"""What the daemon sets of Python itself."""

import subprocess
import sys

from tests.support import CHECKOUT

_SETTLED = """
import gc, sys
from streamer.commands import run
from streamer.service import daemon, interpreter

class Daemon:
    def __init__(self, *_, **__): ...
    def ask_for_reload(self): ...
    async def run(self):
        print(gc.get_freeze_count() > 10_000, gc.get_threshold()[0], sys.getswitchinterval())

daemon.Daemon = Daemon
sys.exit(run.handle(type("Arguments", (), {"config": None, "schedule": None})))
"""


def test_threads_give_way_soon_and_what_was_imported_is_no_matter_of_the_collector() -> None:
    """By default a tick may wait for 5 ms at each of its system calls while a scrape is rendered."""
    environment = {"STREAMER_KAFKA__BOOTSTRAP_SERVERS": "127.0.0.1:9", "PYTHONPATH": str(CHECKOUT)}
    done = subprocess.run([sys.executable, "-c", _SETTLED], capture_output=True, text=True, env=environment, check=True)
    assert done.stdout.split() == ["True", "10000", "0.0005"]
