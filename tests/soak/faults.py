"""What is done to the daemons while they are fed. Each fault takes seconds, and its moments are drawn."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from random import Random

from tests.e2e.harness import Service, holds_uncommitted
from tests.soak.fleet import FENCED, LARGEST, Fleet
from tests.soak.proxy import Fault
from tests.soak.ticks import PARTITIONS
from tests.support import eventually

_MOMENT = 1.5  # seconds within which something is about to happen
_TRIES = 8  # to find a transaction open
_TRAINING_SECONDS = 10.0
_TWIN_SECONDS = 90.0


class Faults:
    """Does them, one after the other.

    fencings: for each zombie that woke up, how often somebody was fenced until all was well. twin_fencings: the same
    for zombies that found another process under their name.
    """

    def __init__(self, fleet: Fleet, draw: Random) -> None:
        self._fleet = fleet
        self._draw = draw
        self.fencings: list[int] = []
        self.twin_fencings: list[int] = []

    async def do(self, kind: str) -> None:
        """Do one fault of `KINDS`, and now and then wait until all is well again before the next."""
        await KINDS[kind](self)
        self._fleet.counts[kind] += 1
        self._fleet.restart_ended()
        if self._draw.random() < 0.3:
            await self._fleet.settled()

    def _one(self) -> Service:
        return self._draw.choice(self._fleet.running)

    async def _moment(self, seconds: float = _MOMENT) -> None:
        await asyncio.sleep(self._draw.uniform(0.0, seconds))

    # --- SIGKILL --------------------------------------------------------------------------------------------------

    async def kill(self) -> None:
        """At any moment of its life, or where it hurts."""
        service = self._one()
        where = self._draw.choice([self._anywhere, self._anywhere, self._restoring, self._committing, self._training])
        await where(service)
        await service.kill()
        service.start()

    async def _anywhere(self, service: Service) -> None:
        await self._moment()

    async def _restoring(self, service: Service) -> None:
        assigned = partial(_has_said, service, "partitions assigned")
        if await _within(_MOMENT + 5 * self._fleet.session_timeout, assigned):
            await self._moment(0.2)

    async def _committing(self, service: Service) -> None:
        """Frozen again and again until it is caught with a transaction open, if it can be."""
        await _within(_MOMENT + 5 * self._fleet.session_timeout, partial(_has_said, service, "partition serves"))
        forecasts, bootstrap = service.topic("forecasts"), self._fleet.cluster.bootstrap
        for number in range(_TRIES):
            if service.has_ended():
                return
            service.pause()
            partition = number % PARTITIONS
            if await asyncio.to_thread(holds_uncommitted, bootstrap, forecasts, partition):
                self._fleet.counts["killed in a transaction"] += 1
                return
            service.resume()
            await self._moment(0.02)

    async def _training(self, service: Service) -> None:
        if self._fleet.is_live and await _within(_TRAINING_SECONDS, service.children):
            self._fleet.counts["killed in a training"] += 1
        await self._moment()

    # --- SIGSTOP --------------------------------------------------------------------------------------------------

    async def zombie(self) -> None:
        """Frozen for longer than its session; it wakes up when others have its partitions, or nobody."""
        fleet = self._fleet
        if len(fleet.running) == 1 and self._draw.random() < 0.7:
            fleet.grow()
            await fleet.settled()
        service = self._one()
        await _within(_MOMENT + 5 * fleet.session_timeout, partial(_has_said, service, "partition serves"))
        if service.has_ended():
            return
        before = fleet.logged(FENCED)
        service.pause()
        await asyncio.sleep(fleet.session_timeout * self._draw.uniform(1.2, 3.0))
        service.resume()
        await fleet.settled()
        self.fencings.append(fleet.logged(FENCED) - before)

    async def twin(self) -> None:
        """Frozen, and replaced under the same name; then it wakes up. One of the two must end and say so."""
        fleet = self._fleet
        await fleet.settled()
        first = self._one()
        before = fleet.logged(FENCED)
        first.pause()
        second = fleet.twin(first)
        await _within(_MOMENT + 5 * fleet.session_timeout, partial(_has_said, second, "partition serves"))
        first.resume()
        pair = (first, second)
        await _within(_TWIN_SECONDS, lambda: any(each.has_ended() for each in pair))
        for each in pair:
            if each.has_ended() and await each.exited() == 3 and "kafka.instance_id" in each.stderr():
                fleet.forget(each)
                break
        else:
            fleet.ended.append(f"neither of two processes named {first.settings['kafka']['instance_id']} gave way")
            fleet.forget(second)
            await second.kill()
        await fleet.settled()
        self.twin_fencings.append(fleet.logged(FENCED) - before)

    # --- the group ------------------------------------------------------------------------------------------------

    async def rebalance(self) -> None:
        """One daemon more, or one less in good order, between one and three."""
        fleet = self._fleet
        grows = len(fleet.running) == 1 or (len(fleet.running) < LARGEST and self._draw.random() < 0.5)
        if grows:
            service = fleet.grow()
            if self._draw.random() < 0.7:
                await _within(_MOMENT + 5 * fleet.session_timeout, partial(_has_said, service, "partitions assigned"))
        else:
            await fleet.shrink(self._one())
        await self._moment()

    # --- the broker and the way to it -----------------------------------------------------------------------------

    async def broker(self) -> None:
        """Stopped in good order, and started on the same data."""
        await self._fleet.cluster.stop_broker()
        await self._moment(2 * self._fleet.session_timeout)
        await self._fleet.cluster.start_broker()

    async def network(self) -> None:
        """Connections, all of them or a half, that are slow, stand still, lose one direction, or are reset."""
        proxy = self._fleet.cluster.proxy
        fault, share = self._draw.choice(list(Fault)), self._draw.choice([0.5, 1.0])
        self._fleet.counts[f"network {'reset' if fault is Fault.NONE else fault}"] += 1
        if fault is Fault.NONE:
            proxy.reset(share)
            return
        proxy.fault(fault, share)
        await asyncio.sleep(self._draw.uniform(0.2, 3.0) * self._fleet.session_timeout)
        proxy.heal()


KINDS: dict[str, Callable[[Faults], Awaitable[None]]] = {
    "kill": Faults.kill,
    "zombie": Faults.zombie,
    "twin": Faults.twin,
    "rebalance": Faults.rebalance,
    "broker": Faults.broker,
    "network": Faults.network,
}


def _has_said(service: Service, event: str) -> bool:
    return service.has_ended() or bool(service.events(event))


async def _within(seconds: float, condition: Callable[[], object]) -> bool:
    """Whether that came about in time; a fault is done in either case."""
    try:
        await eventually(condition, timeout=seconds)
    except AssertionError:
        return False
    return True
