"""A TCP proxy on loopback between the daemons and their broker, which can do what networks do."""

import asyncio
import socket
import struct
from collections.abc import Callable
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


class Proxy:
    """Passes connections on to `target` (a port of 127.0.0.1). draw: for the lengths of delays."""

    def __init__(self, target: int, draw: Random) -> None:
        self._target = target
        self._draw = draw
        self._server: asyncio.Server | None = None
        self._pumps: set[asyncio.Task[None]] = set()
        self._open: dict[asyncio.StreamWriter, bool] = {}  # and whether bytes of it were lost
        self._fault = Fault.NONE
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

    def fault(self, fault: Fault) -> None:
        """Do this to every connection, also to those that come, until `heal`."""
        self._fault = fault
        if fault is Fault.STALL:
            self._passes.clear()

    def heal(self) -> None:
        """Pass everything on again. Connections that have lost bytes are reset."""
        self._fault = Fault.NONE
        self._passes.set()
        self._reset(lambda lost: lost)

    def reset(self) -> None:
        """Reset (RST) every connection."""
        self._reset(lambda _: True)

    def _reset(self, which: Callable[[bool], bool]) -> None:
        for writer in [writer for writer, lost in self._open.items() if which(lost)]:
            # With no time to linger, the kernel sends RST in place of FIN.
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            from_broker, to_broker = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            writer.transport.abort()
            return
        ends = (writer, to_broker)
        self._open |= dict.fromkeys(ends, False)
        pumps = [
            asyncio.create_task(self._pump(reader, to_broker, Fault.MUTE)),
            asyncio.create_task(self._pump(from_broker, writer, Fault.DEAF)),
        ]
        self._pumps.update(pumps)
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            self._pumps.difference_update(pumps)
            for end in ends:
                self._open.pop(end)
                end.close()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, loses: Fault) -> None:
        """One direction, until either end closes; `loses`: the fault in which its bytes are lost."""
        try:
            while data := await reader.read(_CHUNK):
                await self._passes.wait()
                if self._fault is loses:
                    self._open[writer] = True
                    continue
                if self._fault is Fault.DELAY:
                    await asyncio.sleep(self._draw.uniform(*_DELAY))
                await self._write(writer, data)
        except OSError:
            return

    async def _write(self, writer: asyncio.StreamWriter, data: bytes) -> None:
        while self._fault is Fault.TRICKLE and data:
            writer.write(data[:_TRICKLE])
            data = data[_TRICKLE:]
            await asyncio.sleep(_TRICKLE_SECONDS)
        writer.write(data)
        await writer.drain()
