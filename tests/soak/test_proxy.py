import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random

import pytest

from tests.soak.proxy import Fault, Proxy
from tests.support import eventually, free_port


@asynccontextmanager
async def proxied_echo() -> AsyncIterator[tuple[Proxy, asyncio.StreamReader, asyncio.StreamWriter]]:
    """A client of a server that returns what it is sent, through the proxy."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(100):
            writer.write(data)
        writer.close()

    port = free_port()
    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    proxy = Proxy(server.sockets[0].getsockname()[1], Random(1))
    await proxy.start(port)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        await says(writer, b"first")
        assert await reader.readexactly(5) == b"first"
        yield proxy, reader, writer
    finally:
        writer.close()
        await proxy.stop()
        server.close()


async def says(writer: asyncio.StreamWriter, data: bytes) -> None:
    writer.write(data)
    await writer.drain()


@pytest.mark.parametrize("fault", [Fault.NONE, Fault.DELAY, Fault.TRICKLE])
async def test_slow_connections_lose_nothing(fault: Fault) -> None:
    async with proxied_echo() as (proxy, reader, writer):
        proxy.fault(fault)
        await says(writer, b"x" * 1000)
        assert await reader.readexactly(1000) == b"x" * 1000


async def test_a_stall_holds_everything_back_until_it_is_healed() -> None:
    async with proxied_echo() as (proxy, reader, writer):
        proxy.fault(Fault.STALL)
        await says(writer, b"later")
        answer = asyncio.create_task(reader.readexactly(5))
        await asyncio.wait([answer], timeout=0.05)
        assert not answer.done()
        proxy.heal()
        assert await answer == b"later"


@pytest.mark.parametrize("fault", [Fault.MUTE, Fault.DEAF])
async def test_a_connection_that_has_lost_bytes_is_reset_when_the_network_heals(fault: Fault) -> None:
    async with proxied_echo() as (proxy, reader, writer):
        proxy.fault(fault)
        await says(writer, b"lost")
        await eventually(lambda: any(connection.lost for connection in proxy._open))
        proxy.heal()
        with pytest.raises(ConnectionResetError):
            await reader.read(100)


async def test_a_fault_that_hits_none_of_the_connections_changes_nothing() -> None:
    async with proxied_echo() as (proxy, reader, writer):
        proxy.fault(Fault.MUTE, share=0.0)
        await says(writer, b"heard")
        assert await reader.readexactly(5) == b"heard"
