"""What drives daemon and rivals alike: topics, messages, answers with their times, and how far a group has come."""

import asyncio
import json
import math
import os
import random
import subprocess
import sys
import time
import uuid
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError

from tests.bench._models import STEP, symbols
from tests.bench._parts import default_service
from tests.e2e.feeding import START, Feed, Message
from tests.e2e.harness import Service
from tests.support import CHECKOUT, eventually

WINDOW = 100
"""Ticks before a model of the store serves."""

WARM = WINDOW + 10
"""Ticks before anything is measured: with the first after WINDOW the model is loaded and replays them."""

_PATIENCE = 600.0
_SOME = 0.05  # share of a backlog after which a rate counts: the first batches meet cold caches


def messages(
    count: int, rows: int, first: int = 0, keys: Sequence[bytes | None] = (None,), partitions: int = 1
) -> list[Message]:
    """Ticks a minute apart from row `first` on: random walks of `count` symbols, the same for each of `keys`.

    The keys take turns at the partitions.
    """
    draw = random.Random(first)
    names, level, made = symbols(count), [0.0] * count, []
    for row in range(first, first + rows):
        level = [value + draw.gauss(0.0, 1e-3) for value in level]
        prices = {name: round(100.0 * math.exp(value), 4) for name, value in zip(names, level, strict=True)}
        value = json.dumps({"ts": START + row * STEP, "prices": prices}).encode()
        made += [Message(value, key, number % partitions) for number, key in enumerate(keys)]
    return made


async def make_topic(bootstrap: str, role: str, partitions: int = 1) -> str:
    """A topic with a name that no other has."""
    name = f"{role}-{uuid.uuid4().hex[:8]}"
    async with _admin(bootstrap) as admin:
        await admin.create_topics([NewTopic(name, partitions, 1)])
    return name


async def daemon(bootstrap: str, folder: Path, prices: str, schedule: str | None, **sections: Any) -> Service:
    """The daemon, not started yet: default settings but for `sections`, reading `prices` from the earliest on."""
    kafka = {"start": "earliest"} | sections.pop("kafka", {})
    service = await default_service(bootstrap, folder, kafka=kafka, **sections)
    service.settings["kafka"]["topics"] = service.settings["kafka"]["topics"] | {"prices": prices}
    service.arguments = [] if schedule is None else ["--schedule", schedule]
    return service


@contextmanager
def rival(*arguments: str, python: str = sys.executable) -> Iterator[int]:
    """A process of one, by its process id; it ends with the block."""
    process = subprocess.Popen([python, *arguments], cwd=CHECKOUT, stdout=subprocess.DEVNULL)
    try:
        yield process.pid
    finally:
        process.kill()
        process.wait()


@asynccontextmanager
async def _admin(bootstrap: str) -> AsyncIterator[AIOKafkaAdminClient]:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        yield admin
    finally:
        await admin.close()


def cpu(pid: int) -> float:
    """Seconds of processor that a process has taken."""
    user, system = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def resident(pid: int) -> float:
    """Memory of a process, MB."""
    status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return int(status["VmRSS"].split()[0]) * 1024 / 1e6


@dataclass(frozen=True, slots=True)
class Answers:
    """A topic of answers, read as a subscriber does that sees only what is committed."""

    consumer: AIOKafkaConsumer

    @classmethod
    @asynccontextmanager
    async def of(cls, bootstrap: str, topic: str, partitions: int = 1) -> AsyncIterator["Answers"]:
        """From the end on."""
        consumer = AIOKafkaConsumer(
            bootstrap_servers=bootstrap, enable_auto_commit=False, isolation_level="read_committed"
        )
        async with consumer:
            consumer.assign([TopicPartition(topic, number) for number in range(partitions)])
            await consumer.seek_to_end()
            yield cls(consumer)

    async def seen(self, count: int) -> list[float]:
        """When (`time.perf_counter`) each of so many came, by the return of the fetch."""
        moments: list[float] = []
        async with asyncio.timeout(_PATIENCE):
            while len(moments) < count:
                batches = await self.consumer.getmany(timeout_ms=500)
                moments += [time.perf_counter()] * sum(map(len, batches.values()))
        return moments


async def burst(
    producer: AIOKafkaProducer, topic: str, values: Sequence[Message], answers: Answers, rate: float
) -> list[float]:
    """Send `values`, `rate` a second; seconds from each send until its answer is seen. There is one for each."""
    seeing = asyncio.create_task(answers.seen(len(values)))
    sent, began = [], time.perf_counter()
    for number, message in enumerate(values):
        await asyncio.sleep(max(0.0, began + number / rate - time.perf_counter()))
        sent.append(time.perf_counter())
        await producer.send(topic, message.value, key=message.key, partition=message.partition)
    return [seen - start for start, seen in zip(sent, await seeing, strict=True)]


async def volley(producer: AIOKafkaProducer, topic: str, values: Sequence[Message], answers: Answers) -> float:
    """Send all at once; seconds until the answer to the last is seen."""
    seeing, began = asyncio.create_task(answers.seen(len(values))), time.perf_counter()
    for message in values:
        await producer.send(topic, message.value, key=message.key, partition=message.partition)
    return (await seeing)[-1] - began


@asynccontextmanager
async def producing(bootstrap: str) -> AsyncIterator[AIOKafkaProducer]:
    """A producer of ticks."""
    async with AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all", enable_idempotence=True) as producer:
        yield producer


async def send(bootstrap: str, topic: str, values: Sequence[Message]) -> None:
    """Send all as a backlog."""
    await Feed(bootstrap, topic).send(values)


@dataclass(frozen=True, slots=True)
class Rate:
    """What a backlog took. per_second: ticks. cpu: seconds of processor a tick."""

    per_second: float
    cpu: float


async def worked_off(bootstrap: str, group: str, ticks: int, pids: Sequence[int], before: int = 0) -> Rate:
    """Watch a group until it has committed so many, beyond those of `before`; without the first twentieth of them."""
    began = spent = first = 0.0
    async with _admin(bootstrap) as admin, asyncio.timeout(_PATIENCE):
        while True:
            done = await _committed(admin, group) - before
            now = time.perf_counter()
            if not first and done >= _SOME * ticks:
                began, spent, first = now, sum(map(cpu, pids)), done
            if done >= ticks:
                break
            await asyncio.sleep(0.02)
    left = max(1.0, ticks - first)
    return Rate(left / max(now - began, 1e-9), (sum(map(cpu, pids)) - spent) / left)


async def caught_up(bootstrap: str, group: str, ticks: int) -> None:
    """Wait until a group has committed so many."""
    async with _admin(bootstrap) as admin:

        async def done() -> bool:
            return await _committed(admin, group) >= ticks

        await eventually(done, timeout=_PATIENCE)


async def _committed(admin: AIOKafkaAdminClient, group: str) -> int:
    """Sum over the partitions; 0 where the group is not known yet."""
    try:
        offsets = await admin.list_consumer_group_offsets(group)
    except KafkaError as error:
        if not error.retriable:
            raise
        return 0
    return sum(max(0, each.offset) for each in offsets.values())
