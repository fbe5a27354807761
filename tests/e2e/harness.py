"""The daemon as a process of its own: started, asked, stopped, killed."""

import copy
import json
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Self

import aiohttp
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import GroupCoordinatorNotAvailableError
from confluent_kafka import IsolationLevel, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec
from prometheus_client.parser import text_string_to_metric_families

from tests.e2e.feeding import Published
from tests.support import CHECKOUT, eventually, free_port, read_all

PATIENCE = 60.0
"""Seconds for anything that the daemon does by itself, on a machine that trains beside it."""


async def until(condition: Callable[[], Awaitable[bool]], interval: float = 0.1) -> None:
    """Wait for something that has to be asked for over the network, every `interval` seconds."""
    predicate: Callable[[], bool | Awaitable[bool]] = condition
    await eventually(predicate, timeout=PATIENCE, interval=interval)


_LEADER_UNKNOWN = (KafkaError.NOT_LEADER_FOR_PARTITION, KafkaError.UNKNOWN_LEADER_EPOCH, KafkaError.FENCED_LEADER_EPOCH)
"""The topic is so new, or its broker has been away so shortly before, that client and broker disagree."""


def holds_uncommitted(bootstrap: str, topic: str, number: int = 0) -> bool:
    """Whether a partition has records of a transaction that is still open: behind what `read_committed` may read."""
    admin = AdminClient({"bootstrap.servers": bootstrap})
    partition = TopicPartition(topic, number)
    levels = (IsolationLevel.READ_UNCOMMITTED, IsolationLevel.READ_COMMITTED)
    latest = {partition: OffsetSpec.latest()}
    answers = [admin.list_offsets(latest, isolation_level=level)[partition] for level in levels]
    try:
        end, stable = (answer.result(timeout=10).offset for answer in answers)
    except KafkaException as error:
        if error.args[0].code() in _LEADER_UNKNOWN:
            return False
        raise
    return bool(stable < end)


class Samples:
    """One scrape of /metrics."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._samples = [s for family in text_string_to_metric_families(text) for s in family.samples]

    def total(self, name: str, **labels: str) -> float:
        """Sum of the samples called `name` that have these labels, and perhaps others; 0 where there are none."""
        return sum(self.each(name, **labels))

    def each(self, name: str, **labels: str) -> list[float]:
        """Those samples one by one."""
        wanted = labels.items()
        return [s.value for s in self._samples if s.name == name and wanted <= s.labels.items()]


def _merge(into: dict[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    for key, value in changes.items():
        if isinstance(value, Mapping):
            _merge(into.setdefault(key, {}), value)
        else:
            into[key] = value
    return into


class Service:
    """`streamer run` in a process group of its own, with small settings; as a context it ends with its block.

    It has a group, output topics, a model folder and a port that no other has. sections: settings that differ,
    `retrain={"every": 0}`.
    """

    def __init__(self, bootstrap: str, folder: Path, prices: str, **sections: Mapping[str, Any]) -> None:
        self.bootstrap = bootstrap
        self.name = f"daemon-{uuid.uuid4().hex[:8]}"
        self.folder = folder / self.name
        self.folder.mkdir()
        # A daemon that is killed leaves the folder of its training behind: here it goes with the test's.
        self.environment = {"TMPDIR": str(self.folder)}
        self.arguments: list[str] = []
        self.settings = _merge(self._defaults(prices), sections)
        self._process: subprocess.Popen[bytes] | None = None
        self.starts = 0

    def _defaults(self, prices: str) -> dict[str, Any]:
        outputs = ("forecasts", "state", "dead_letters")
        return {
            "kafka": {
                "bootstrap_servers": self.bootstrap,
                "group_id": self.name,
                "topics": {"prices": prices, **{topic: f"{self.name}-{topic}" for topic in outputs}},
                "start": "earliest",
                "session_timeout": "6s",
                "transaction_timeout": "5s",
                "startup_timeout": "30s",
            },
            "feed": {"window": 20},
            "network": {
                "layers": [{"units": 8}],
                "features": "changes",
                "embedding": 0,
                "skip": False,
                "members": 1,
            },
            "fit": {"steps": 150, "epochs": 0, "sequence": 20, "lanes": 4, "learning_rate": 0.01},
            "retrain": {"first": 300, "every": 1000, "history": 2000},
            "models": {"url": str(self.folder / "models"), "keep": 50},
            "state": {"every": 50},
            "http": {"port": free_port()},
            "log": {"format": "json"},
        }

    def sibling(self) -> "Service":
        """Another process of the same group, with the same topics and models."""
        other = Service(self.bootstrap, self.folder, self.topic("prices"))
        own_port = other.settings["http"]
        other.settings = copy.deepcopy(self.settings) | {"http": own_port}
        other.arguments = list(self.arguments)
        return other

    async def __aenter__(self) -> Self:
        self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.kill()

    # Lifecycle

    def start(self) -> None:
        """Start the process, with the settings as they are now."""
        config = self.folder / "config.json"
        config.write_text(json.dumps(self.settings))
        self.starts += 1
        with (self.folder / f"stdout-{self.starts}").open("wb") as out, self._stderr.open("wb") as err:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "streamer", "run", "-c", config, *self.arguments],
                cwd=CHECKOUT,
                env=os.environ | self.environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                start_new_session=True,
            )

    async def ready(self) -> Self:
        """Wait until /readyz says that it serves."""
        await until(self._is_ready)
        return self

    def was_started(self) -> bool:
        """Whether it was ever started."""
        return self._process is not None

    def has_ended(self) -> bool:
        """Whether the process has ended."""
        return self.code() is not None

    def code(self) -> int | None:
        """Its exit code, None while it runs."""
        return self._running().poll()

    async def exited(self, timeout: float = PATIENCE) -> int:
        """Wait until the process has ended by itself, and return its exit code."""
        await eventually(self.has_ended, timeout=timeout)
        return self._running().wait()

    async def terminate(self, timeout: float = PATIENCE) -> int:
        """Send SIGTERM, and return the exit code."""
        self._running().terminate()
        return await self.exited(timeout)

    async def kill(self) -> None:
        """Send SIGKILL to the process group, if it still runs."""
        process = self._process
        if process is None or process.poll() is not None:
            return
        os.killpg(process.pid, signal.SIGKILL)
        await self.exited()

    def pause(self) -> None:
        """Stop the process in its tracks (SIGSTOP)."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on (SIGCONT)."""
        os.kill(self.pid, signal.SIGCONT)

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._running().pid

    def children(self) -> list[int]:
        """Process ids of its children."""
        found = []
        for stat in Path("/proc").glob("[0-9]*/stat"):
            try:
                parent = stat.read_text().rpartition(")")[2].split()[1]
            except (FileNotFoundError, ProcessLookupError):
                continue  # ended meanwhile
            if int(parent) == self.pid:
                found.append(int(stat.parent.name))
        return found

    async def trainer(self) -> int:
        """Wait until it trains; returns the process id of the training."""

        def found() -> list[int]:
            return [child for child in self.children() if b"train" in _command(child).split(b"\0")]

        return (await eventually(found, timeout=PATIENCE))[0]

    async def logged(self, event: str) -> dict[str, Any]:
        """Wait for a record of `event` in its log since the last start; returns the first."""

        def found() -> list[dict[str, Any]]:
            events = self.events(event)
            if not events:
                self._must_run()
            return events

        return (await eventually(found, timeout=PATIENCE))[0]

    async def retrained(self, outcome: str) -> None:
        """Wait until a training has ended with this outcome, by its metrics."""

        async def counted() -> bool:
            self._must_run()
            return (await self.metrics()).total("streamer_retrains_total", outcome=outcome) > 0

        await until(counted)

    def _running(self) -> subprocess.Popen[bytes]:
        assert self._process is not None, "start() comes first"
        return self._process

    # What it says

    @property
    def _stderr(self) -> Path:
        return self.folder / f"stderr-{self.starts}"

    def stderr(self) -> str:
        """What the process said since its last start."""
        return self._stderr.read_text(errors="replace")

    def events(self, event: str | None = None) -> list[dict[str, Any]]:
        """Its log since the last start, in JSON; only the records of one `event` if named."""
        lines = [json.loads(line) for line in self.stderr().splitlines() if line.startswith("{")]
        return [line for line in lines if event in (None, line["event"])]

    @property
    def url(self) -> str:
        """Its address for HTTP."""
        return f"http://127.0.0.1:{self.settings['http']['port']}"

    async def get(self, path: str) -> tuple[int, str]:
        """Status and body of a GET request; status 0 where nobody listens."""
        try:
            async with aiohttp.ClientSession() as session, session.get(self.url + path) as response:
                return response.status, await response.text()
        except aiohttp.ClientConnectionError:
            return 0, ""

    async def post(self, path: str, token: str) -> tuple[int, str]:
        """Status and body of a POST request with a bearer token."""
        headers = {"Authorization": f"Bearer {token}"}
        async with aiohttp.ClientSession() as session, session.post(self.url + path, headers=headers) as response:
            return response.status, await response.text()

    async def metrics(self) -> Samples:
        """A scrape."""
        status, text = await self.get("/metrics")
        return Samples(text if status == 200 else "")

    async def _is_ready(self) -> bool:
        self._must_run()
        return (await self.get("/readyz"))[0] == 200

    def _must_run(self) -> None:
        code = self._running().poll()
        assert code is None, f"the daemon ended with {code}:\n{self.stderr()[-3000:]}"

    # What came of its input

    def swaps(self, stream: str) -> list[dict[str, Any]]:
        """The swaps of `stream` that its model store has recorded, in order."""
        folder = Path(self.settings["models"]["url"]) / stream / "swaps"
        return sorted((json.loads(path.read_text()) for path in folder.glob("*.json")), key=lambda s: s["after"])

    def topic(self, role: str) -> str:
        """Name of one of its topics: prices, forecasts, state or dead_letters."""
        name: str = self.settings["kafka"]["topics"][role]
        return name

    async def committed(self) -> int:
        """How far the group has come: sum over the partitions of the next offset to read."""
        admin = AIOKafkaAdminClient(bootstrap_servers=self.bootstrap)
        await admin.start()
        try:
            offsets = await admin.list_consumer_group_offsets(self.settings["kafka"]["group_id"])
        except GroupCoordinatorNotAvailableError:
            return 0  # a broker on which nobody has ever committed, and that makes the topic for it now
        finally:
            await admin.close()
        return sum(each.offset for each in offsets.values())

    async def caught_up(self, messages: int) -> None:
        """Wait until all of so many messages have their outcomes."""

        async def done() -> bool:
            self._must_run()
            return await self.committed() >= messages

        await until(done)

    async def published(self) -> Published:
        """All that it has published."""
        forecasts = await read_all(self.bootstrap, self.topic("forecasts"))
        return Published(forecasts, await read_all(self.bootstrap, self.topic("dead_letters")))


def _command(process: int) -> bytes:
    """What it runs. Until a child runs its own, whoever stops it stops its parent too: that waits for it in `vfork`."""
    try:
        return Path(f"/proc/{process}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""  # ended meanwhile
