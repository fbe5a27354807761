"""One to three daemons of one group behind a proxy, on a broker that can be stopped: what faults are done to."""

import asyncio
import json
import signal
import time
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

from aiokafka.errors import KafkaError

from tests.e2e.feeding import Feed
from tests.e2e.harness import Service
from tests.soak.proxy import Proxy
from tests.support import KafkaBroker, eventually

LARGEST = 3
FENCED = "another process has taken over; joining the group anew"

_SETTLE_SECONDS = 120.0  # beside trainings, on two processors
_LOWEST_PORT, _PORTS = 20_000, 12_000  # below those that outgoing connections are given


class Cluster:
    """A broker of its own and the proxy before it. `bootstrap` is the way past the proxy."""

    def __init__(self, folder: Path, draw: Random) -> None:
        self.broker = KafkaBroker(folder)
        self.bootstrap = ""
        target, self._port = (_LOWEST_PORT + n for n in draw.sample(range(_PORTS), 2))
        self._proxied = (target, self._port)
        self.proxy = Proxy(target, draw)

    async def start(self) -> None:
        """Start both."""
        await self.start_broker()
        await self.proxy.start(self._port)

    async def start_broker(self) -> None:
        """Start the broker on the data it has."""
        self.bootstrap = await asyncio.to_thread(self.broker.start, None, self._proxied)

    async def stop_broker(self) -> None:
        """Stop it in good order and keep its data."""
        await asyncio.to_thread(self.broker.stop, keep_data=True)

    async def stop(self) -> None:
        """End both, and remove the data."""
        await self.proxy.stop()
        await asyncio.to_thread(self.broker.stop)

    @property
    def proxied(self) -> str:
        """The address for daemons."""
        return f"127.0.0.1:{self._port}"


class Fleet:
    """The daemons of a round.

    ended: what those said that ended by themselves, which none may. They are started again, as a supervisor would.
    """

    def __init__(self, cluster: Cluster, service: Service, feed: Feed, *, static: bool, is_live: bool) -> None:
        self.cluster = cluster
        self.feed = feed
        self.static = static
        self.is_live = is_live
        self.ended: list[str] = []
        self.counts: Counter[str] = Counter()
        self.services: list[Service] = [service]  # all that there were
        self.running: list[Service] = []
        self._spare = [service, *(self._sibling() for _ in range(LARGEST - 1))]
        for number, each in enumerate(self._spare if static else []):
            each.settings["kafka"]["instance_id"] = f"instance-{number}"

    def _sibling(self) -> Service:
        sibling = self.services[0].sibling()
        self.services.append(sibling)
        return sibling

    @property
    def session_timeout(self) -> float:
        """Seconds without a heartbeat after which a daemon loses its partitions."""
        return float(self.services[0].settings["kafka"]["session_timeout"].removesuffix("s"))

    # --- the number of daemons ------------------------------------------------------------------------------------

    def grow(self) -> Service:
        """Start one more."""
        service = self._spare.pop(0)
        service.start()
        self.running.append(service)
        return service

    async def shrink(self, service: Service) -> None:
        """Ask one to stop, which ends in order; one that has only just been started may know no signals yet."""
        self.running.remove(service)
        self._spare.append(service)
        had_ended, code = service.has_ended(), await service.terminate()
        if had_ended or (code != 0 and (code != -signal.SIGTERM or service.stderr())):
            self._note(service, code)

    def twin(self, service: Service) -> Service:
        """Start a second process under the same name (`kafka.instance_id`)."""
        twin = self._sibling()
        twin.settings["kafka"]["instance_id"] = service.settings["kafka"]["instance_id"]
        twin.start()
        self.running.append(twin)
        return twin

    def forget(self, service: Service) -> None:
        """One of two twins is gone."""
        self.running.remove(service)

    async def kill_all(self) -> None:
        """SIGKILL to all, paused ones too."""
        for service in self.services:
            if service.was_started():
                await service.kill()
        self.running = []

    # --- how they are ---------------------------------------------------------------------------------------------

    async def settled(self) -> None:
        """Wait until each is ready, and all that had been sent when this was called has its outcome."""
        sent = len(self.feed.sent)
        began = time.monotonic()

        async def has_settled() -> bool:
            self.restart_ended()
            ready = [(await service.get("/readyz"))[0] == 200 for service in self.running]
            return all(ready) and await self._committed() >= sent

        try:
            await eventually(has_settled, timeout=_SETTLE_SECONDS, interval=0.2)
        except AssertionError as error:
            raise AssertionError(f"not settled after {_SETTLE_SECONDS:g} s: {await self._state()}") from error
        self.counts["settled"] += 1
        self.counts["settling_ms"] += round(1000 * (time.monotonic() - began))

    async def _committed(self) -> int:
        try:
            return await self.services[0].committed()
        except (KafkaError, OSError):
            return 0  # the broker has only just come back

    async def _state(self) -> dict[str, Any]:
        ready = {service.name: (await service.get("/readyz"))[1] for service in self.running}
        return {"committed": await self._committed(), "sent": len(self.feed.sent), "ready": ready}

    def restart_ended(self) -> None:
        """Start again those that have ended, and note what they said."""
        for service in self.running:
            if service.has_ended():
                self._note(service, service.code())
                service.start()

    def _note(self, service: Service, code: int | None) -> None:
        said = service.stderr().splitlines()
        self.ended.append(f"{service.name}, run {service.starts}, ended with {code}: {said[-1] if said else 'silent'}")

    def logged(self, event: str) -> int:
        """How often this stands in the logs of all."""
        return sum(record.get("event") == event for record in self._log())

    def _log(self) -> list[dict[str, Any]]:
        paths = (path for service in self.services for path in service.folder.glob("stderr-*"))
        lines = (line for path in paths for line in path.read_text(errors="replace").splitlines())
        return [json.loads(line) for line in lines if line.startswith("{") and line.endswith("}")]
