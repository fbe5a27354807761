"""Publishes ticks to Kafka at a steady pace: the sending half of `streamer feed`, of the demo and of tests."""

import asyncio
import contextlib
import json
import math
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any, Self

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, UnknownTopicOrPartitionError

from streamer import control
from streamer.codec import format_time
from streamer.core.tick import Tick
from streamer.errors import BrokerError, UsageError

_IN_FLIGHT = 200
"""Ticks sent but not acknowledged at most: about one batch of the producer, fast enough for any replay."""


@dataclass(frozen=True, slots=True)
class Route:
    """Where ticks go. Without `partition` the key chooses one; without both it is partition 0.

    Never several: a stream without a key is a partition, and its ticks have to arrive in order.
    """

    topic: str
    key: bytes | None = None
    partition: int | None = None

    @property
    def fixed_partition(self) -> int | None:
        """The partition, None where the key chooses it."""
        return 0 if self.partition is None and self.key is None else self.partition


class Publisher:
    """An idempotent producer of ticks, as an async context manager.

    bootstrap_servers: host:port, several with commas. timeout: seconds in which the broker has to answer.
    access: more of aiokafka's arguments, such as `service.access` gives for TLS and SASL.
    """

    def __init__(
        self, bootstrap_servers: str, route: Route, timeout: float, access: Mapping[str, Any] | None = None
    ) -> None:
        self._route = route
        self._timeout = timeout
        self._servers = bootstrap_servers
        self._connection = {**(access or {}), "bootstrap_servers": bootstrap_servers}
        self._producer: AIOKafkaProducer
        self._in_flight: deque[asyncio.Future[Any]] = deque()
        self.acknowledged = 0

    async def __aenter__(self) -> Self:
        # Made here, since aiokafka's producer belongs to the loop that runs when it is made.
        self._producer = AIOKafkaProducer(**self._connection, acks="all", enable_idempotence=True)
        try:
            await self._bounded(self._start())
        except BaseException:
            await self._stop()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stop()

    async def publish(
        self,
        ticks: Iterable[Tick],
        rate: float | None,
        stop: asyncio.Event,
        progress: Callable[[int], None] = lambda count: None,
    ) -> int:
        """Send `ticks`, `rate` a second (0: as fast as possible), until they end or `stop` is set.

        rate: None: each when its time has come by the clock. progress: called with the number sent so far. Returns the
        number that the broker acknowledged. Raises `BrokerError`.
        """
        acknowledged_before = self.acknowledged
        sending = asyncio.create_task(self._send_all(ticks, rate, progress))
        stopped = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait({sending, stopped}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopped.cancel()
            if sending.cancel():
                await asyncio.wait({sending})
        if not sending.cancelled():
            sending.result()
        await self._settle(0)
        return self.acknowledged - acknowledged_before

    async def control(self, value: bytes) -> tuple[int, int]:
        """Send the control message `value` (`streamer.control`); returns its partition and offset. `BrokerError`."""
        route = self._route
        record = await self._bounded(
            self._producer.send_and_wait(
                route.topic,
                value=value,
                key=route.key,
                partition=route.fixed_partition,
                headers=[(control.HEADER, control.ADJUST)],
            )
        )
        return record.partition, record.offset

    async def _start(self) -> None:
        await self._producer.start()
        try:
            partitions = await self._producer.partitions_for(self._route.topic)
        except UnknownTopicOrPartitionError:
            raise BrokerError(f"topic {self._route.topic!r} does not exist at {self._servers}") from None
        wanted = self._route.fixed_partition
        if wanted is not None and wanted not in partitions:
            raise UsageError(
                f"topic {self._route.topic!r} has {len(partitions)} partitions, there is no partition {wanted}"
            )

    async def _stop(self) -> None:
        # Batches of an idempotent producer never expire: with the broker away, it would wait for ever.
        with contextlib.suppress(BrokerError):
            await self._bounded(self._producer.stop())

    async def _send_all(self, ticks: Iterable[Tick], rate: float | None, progress: Callable[[int], None]) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        for count, tick in enumerate(ticks):
            # Each tick has its time on one schedule: sleeping between sends would add up all delays.
            if rate is None:
                await asyncio.sleep(tick.time / 1000 - time.time())
            elif rate and (delay := began + count / rate - loop.time()) > 0:
                await asyncio.sleep(delay)
            self._in_flight.append(await self._bounded(self._send(tick)))
            await self._settle(_IN_FLIGHT)
            progress(count + 1)

    async def _send(self, tick: Tick) -> "asyncio.Future[Any]":
        """Queue one tick. Its record is stamped with the clock, not with the tick's time.

        A record stamped in the past is old to the broker: retention would delete a month of shifted or kept
        times within minutes, before the daemon has them read back. And with the clock, a tick that lies ahead
        of it by more than `feed.max_ahead` is refused in a replay as it would be live. Price of it: a search by
        time (`start: TIME`, history read back) finds when ticks were sent, which is never too late a record.
        """
        route = self._route
        future: asyncio.Future[Any] = await self._producer.send(
            route.topic, value=encode_tick(tick), key=route.key, partition=route.fixed_partition
        )
        return future

    async def _settle(self, at_most: int) -> None:
        """Wait until at most so many ticks are not acknowledged."""
        while len(self._in_flight) > at_most:
            # Shielded, or a stop in this moment would cancel the future and the count would be one short.
            await self._bounded(asyncio.shield(self._in_flight[0]))
            self._in_flight.popleft()
            self.acknowledged += 1

    async def _bounded(self, work: Any) -> Any:
        try:
            async with asyncio.timeout(self._timeout):
                return await work
        except TimeoutError:
            raise BrokerError(f"{self._servers} did not answer for {self._timeout:g} s") from None
        except KafkaError as error:
            raise BrokerError(f"{self._servers}: {error!r}") from error


def encode_tick(tick: Tick) -> bytes:
    """The record value of a tick; a blank price is null."""
    prices = {symbol: price if math.isfinite(price) else None for symbol, price in tick.prices.items()}
    return json.dumps({"ts": format_time(tick.time), "prices": prices}, separators=(",", ":")).encode()


def shift_to(now: int, last: int, step: int) -> int:
    """Milliseconds to add so that the time `last` falls into the grid step of `now`: a multiple of `step`.

    Times keep their place on the grid, and none lies ahead of `now` by a step or more.
    """
    return now // step * step - last // step * step


def shifted(ticks: Iterable[Tick], shift: int) -> Iterator[Tick]:
    """`ticks` with their times moved by `shift` milliseconds."""
    return (replace(tick, time=tick.time + shift) for tick in ticks)
