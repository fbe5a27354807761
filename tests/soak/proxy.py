"""A TCP proxy on loopback between the daemons and their broker, which can do what networks do."""

import asyncio
import socket
import struct
from dataclasses import dataclass
from enum import StrEnum
from random import Random

_CHUNK = 65_536
_DELAY = (0.02, 0.3)  # seconds for each chunk
_TRICKLE = 200  # bytes at a time, one such piece in each _TRICKLE_SECONDS
_TRICKLE_SECONDS = 0.02


class Fault(StrEnum):
    """What happens to what is sent."""

    NONE = "none"
    DELAY = "delay"
    STALL = "stall"  # nothing passes, and nothing is lost
    TRICKLE = "trickle"
    DEAF = "deaf"  # half-open: the broker's answers are lost
    MUTE = "mute"  # half-open: the requests are lost


@dataclass(eq=False)
class _Connection:
    """A client's connection and that to the broker for it. hit: the fault is in it; lost: bytes of it are."""

    ends: tuple[asyncio.StreamWriter, asyncio.StreamWriter]
    hit: bool = False
    lost: bool = False

    def reset(self) -> None:
        for end in self.ends:
            # With no time to linger, the kernel sends RST in place of FIN.
            end.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            end.transport.abort()


class Proxy:
    """Passes connections on to `target`, a port of 127.0.0.1. draw: which of them a fault hits, how long a delay is."""

    def __init__(self, target: int, draw: Random) -> None:
        self._target = target
        self._draw = draw
        self._server: asyncio.Server | None = None
        self._pumps: set[asyncio.Task[None]] = set()
        self._open: set[_Connection] = set()
        self._fault = Fault.NONE
        self._share = 0.0
        self._passes = asyncio.Event()
        self._passes.set()

    async def start(self, port: int) -> None:
        """Listen on 127.0.0.1:`port`."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", port)

    async def stop(self) -> None:
        """Close all."""
        if self._server is not None:
            self._server.close()
        self.reset()
        for pump in self._pumps:
            pump.cancel()
        await asyncio.gather(*self._pumps, return_exceptions=True)

    def fault(self, fault: Fault, share: float = 1.0) -> None:
        """Do this to a share of the connections, also of those that come, until `heal`."""
        self._fault, self._share = fault, share
        for connection in self._open:
            connection.hit = self._draw.random() < share
        if fault is Fault.STALL:
            self._passes.clear()

    def heal(self) -> None:
        """Pass everything on again. Connections that have lost bytes are reset."""
        self._fault, self._share = Fault.NONE, 0.0
        self._passes.set()
        for connection in [each for each in self._open if each.lost]:
            connection.reset()

    def reset(self, share: float = 1.0) -> None:
        """Reset (RST) a share of the connections."""
        for connection in [each for each in self._open if self._draw.random() < share]:
            connection.reset()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            from_broker, to_broker = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            writer.transport.abort()
            return
        connection = _Connection((writer, to_broker), self._draw.random() < self._share)
        self._open.add(connection)
        pumps = [
            asyncio.create_task(self._pump(connection, reader, to_broker, Fault.MUTE)),
            asyncio.create_task(self._pump(connection, from_broker, writer, Fault.DEAF)),
        ]
        self._pumps.update(pumps)
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            self._pumps.difference_update(pumps)
            self._open.remove(connection)
            for end in connection.ends:
                end.close()

    async def _pump(
        self, connection: _Connection, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, loses: Fault
    ) -> None:
        """One direction, until either end closes; `loses`: the fault in which its bytes are lost."""
        try:
            while data := await reader.read(_CHUNK):
                fault = self._fault if connection.hit else Fault.NONE
                if fault is loses or connection.lost:
                    connection.lost = True
                    continue
                if fault is Fault.STALL:
                    await self._passes.wait()
                if fault is Fault.DELAY:
                    await asyncio.sleep(self._draw.uniform(*_DELAY))
                await self._write(writer, data, slowly=fault is Fault.TRICKLE)
        except OSError:
            return

    async def _write(self, writer: asyncio.StreamWriter, data: bytes, *, slowly: bool) -> None:
        while slowly and data and self._fault is Fault.TRICKLE:
            writer.write(data[:_TRICKLE])
            data = data[_TRICKLE:]
            await asyncio.sleep(_TRICKLE_SECONDS)
        writer.write(data)
        await writer.drain()
