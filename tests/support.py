"""Helpers that several test files need."""

import asyncio
import contextlib
import inspect
import json
import os
import secrets
import socket
import subprocess
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar, overload

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition

CHECKOUT = Path(__file__).parent.parent
SHARED_DATA = CHECKOUT.parent / "shared" / "data"
"""Real prices, which are not ours to redistribute: beside the checkout where they are at all."""

IsolationLevel = Literal["read_committed", "read_uncommitted"]

T = TypeVar("T")


@overload
async def eventually(predicate: Callable[[], Awaitable[T]], *, timeout: float = ..., interval: float = ...) -> T: ...
@overload
async def eventually(predicate: Callable[[], T], *, timeout: float = ..., interval: float = ...) -> T: ...
async def eventually(predicate: Callable[[], Any], *, timeout: float = 10.0, interval: float = 0.02) -> Any:
    """Call `predicate`, plain or async, until it returns something true, and return that.

    Args:
        predicate: What has to become true. An exception that it raises ends the wait.
        timeout: Seconds to wait at most.
        interval: Seconds between two calls.

    Raises:
        AssertionError: Nothing true came in time; the message shows the last value.
    """
    last: object = None
    try:
        async with asyncio.timeout(timeout):
            while True:
                outcome = predicate()
                value = await outcome if inspect.isawaitable(outcome) else outcome
                if value:
                    return value
                last = value
                await asyncio.sleep(interval)
    except TimeoutError:
        raise AssertionError(f"still {last!r} after {timeout} s: {predicate}") from None


def free_port() -> int:
    """Return a TCP port of 127.0.0.1 on which nobody listens now.

    It lies below the range that outgoing connections are given (from 32768 on Linux): none of them takes it before its
    user does, or while that one is started again.
    """
    while True:
        port = 20_000 + secrets.randbelow(12_000)
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


class MissingProgramsError(Exception):
    """Java or Maven is needed and cannot be installed; the message names what to install."""


@dataclass(frozen=True)
class KafkaBroker:
    """A broker of its own, run by `scripts/kafka` with its data below `directory`.

    It ends with the process that started it, even if that is killed.
    """

    directory: Path
    properties: Path | None = None
    """More of its settings, `server.properties` of Kafka's."""

    def start(self, port: int | None = None, proxied: tuple[int, int] | None = None) -> str:
        """Start the broker on the data it has, and return its address, `127.0.0.1:<port>`.

        Without `port` it gets the one it had before, the first time any. proxied: a further port on which it listens,
        and the port of a proxy before it, to which it sends whoever comes that way.

        Raises:
            MissingProgramsError: Java or Maven is missing.
            AssertionError: It did not start; the message ends with its log.
        """
        options = [] if port is None else ["--port", str(port)]
        options += [] if proxied is None else ["--proxied", "{}:{}".format(*proxied)]
        options += [] if self.properties is None else ["--properties", str(self.properties)]
        return self._run("start", "--while", str(os.getpid()), *options).splitlines()[-1]

    def stop(self, *, keep_data: bool = False) -> None:
        """Stop the broker: in good order if its data is kept, else at once."""
        self._run("stop", *(["--keep"] if keep_data else []))

    def is_running(self) -> bool:
        """Whether the broker answers requests."""
        return self._call("status").returncode == 0

    def _call(self, command: str, *options: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [CHECKOUT / "scripts" / "kafka", command, "--dir", self.directory, *options],
            capture_output=True,
            text=True,
            check=False,
        )

    def _run(self, command: str, *options: str) -> str:
        done = self._call(command, *options)
        if done.returncode == 3:
            raise MissingProgramsError(done.stderr.strip().splitlines()[-1])
        if done.returncode != 0:
            raise AssertionError(f"scripts/kafka {command} exited with {done.returncode}:\n{done.stderr}")
        return done.stdout


def shared_data(name: str) -> Path:
    """The file `name` of `SHARED_DATA`; the test that asks is skipped where it is absent."""
    path = SHARED_DATA / name
    if not path.exists():
        pytest.skip(f"{name} is not among ../shared/data")
    return path


def kcat(bootstrap: str, topic: str) -> list[dict[str, Any]]:
    """What kcat, a client that has no code in common with aiokafka, reads of `topic`: by partition, then offset."""
    done = subprocess.run(
        [
            *("kcat", "-b", bootstrap, "-X", "isolation.level=read_committed"),
            *("-C", "-q", "-e", "-J", "-o", "beginning", "-t", topic),
        ],
        capture_output=True,
        check=True,
        timeout=30,
    )
    return sorted(map(json.loads, done.stdout.splitlines()), key=lambda record: (record["partition"], record["offset"]))


async def read_all(bootstrap: str, topic: str, isolation: IsolationLevel = "read_committed") -> list[Any]:
    """Return the records (aiokafka's `ConsumerRecord`) that `topic` holds now, by partition, then offset.

    With `read_committed` it waits for the transactions that are open now, and leaves out what was aborted. (A
    committed group offset is no sign that the transaction's other partitions have their markers yet.)
    """
    async with _reader(bootstrap, topic, "read_uncommitted") as consumer:
        ends = await consumer.end_offsets(consumer.assignment())
        assert ends, f"there is no topic {topic}"
    async with _reader(bootstrap, topic, isolation) as consumer:
        records: list[Any] = []
        # The position counts, not the records: the last offsets may be those of transaction markers.
        while any([await consumer.position(partition) < end for partition, end in ends.items()]):
            for batch in (await consumer.getmany(timeout_ms=100)).values():
                records += [record for record in batch if record.offset < ends[_partition(record)]]
        return sorted(records, key=lambda record: (record.partition, record.offset))


def _reader(bootstrap: str, topic: str, isolation: IsolationLevel) -> AIOKafkaConsumer:
    return AIOKafkaConsumer(
        topic,
        bootstrap_servers=bootstrap,
        group_id=None,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        isolation_level=isolation,
    )


def _partition(record: Any) -> TopicPartition:
    return TopicPartition(record.topic, record.partition)
