"""Another configuration for a daemon that runs: whole or not at all, one after the other."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from streamer.config import Settings, load
from streamer.errors import BrokerError, ConfigError, StreamerError
from streamer.service import worker as module
from streamer.service.metrics import Metrics
from streamer.service.partition import Partition
from streamer.service.reloading import NeedsRestartError, Reloading
from streamer.settings.types import Reload
from tests.service.test_read_back import SETTINGS, partition, record
from tests.service.test_worker import Kafka
from tests.support import eventually


def settings(**changes: object) -> Settings:
    return load(
        None, {}, {"kafka.bootstrap_servers": "a:1"} | {key.replace("__", "."): each for key, each in changes.items()}
    )


class Daemon:
    """What reads and takes over; notes what it took."""

    def __init__(self) -> None:
        self.found: Settings | Exception = settings()
        self.taken: list[tuple[Settings, frozenset[Reload]]] = []
        self.refuses: Exception | None = None
        self.metrics = Metrics(CollectorRegistry())
        self.reloading = Reloading(settings(), self.load, self.take_over, self.metrics)

    def load(self) -> Settings:
        if isinstance(self.found, Exception):
            raise self.found
        return self.found

    async def take_over(self, settings: Settings, kinds: frozenset[Reload]) -> Sequence[str]:
        if self.refuses is not None:
            raise self.refuses
        self.taken.append((settings, kinds))
        await asyncio.sleep(0)
        return ()

    def count(self, outcome: str) -> float | None:
        return self.metrics.registry.get_sample_value("streamer_config_reloads_total", {"outcome": outcome})

    def succeeded(self) -> float | None:
        return self.metrics.registry.get_sample_value("streamer_config_last_reload_successful")


@pytest.fixture
async def daemon() -> AsyncIterator[Daemon]:
    made = Daemon()
    running = asyncio.create_task(made.reloading.run())
    await asyncio.sleep(0)
    yield made
    running.cancel()


async def test_what_has_changed_is_taken_over_and_named_without_its_value(daemon: Daemon) -> None:
    daemon.found = settings(log__level="debug", http__token="secret-token")
    with capture_logs() as logs:
        answer = await daemon.reloading.reload()
    assert answer == {"changed": ["http.token", "log.level"], "needs_restart": [], "pending": []}
    assert daemon.taken == [(daemon.found, frozenset({Reload.AT_ONCE}))]
    assert "secret-token" not in repr(logs)
    assert (daemon.count("taken"), daemon.count("refused"), daemon.succeeded()) == (1, 0, 1)
    assert (await daemon.reloading.reload())["changed"] == [], "it is compared with what was taken over last"


async def test_one_key_that_needs_a_restart_refuses_all_and_is_named(daemon: Daemon) -> None:
    daemon.found = settings(log__level="debug", kafka__group_id="other", http__port=1)
    with pytest.raises(NeedsRestartError, match=r"^kafka\.group_id, http\.port: cannot change") as caught:
        await daemon.reloading.reload()
    assert caught.value.details == {"needs_restart": ["kafka.group_id", "http.port"]}
    assert not daemon.taken
    assert (daemon.count("taken"), daemon.count("refused"), daemon.succeeded()) == (0, 1, 0)
    daemon.found = settings(log__level="debug")
    assert (await daemon.reloading.reload())["changed"] == ["log.level"]
    assert daemon.succeeded() == 1


@pytest.mark.parametrize("error", [ConfigError("c.yaml:3: bad"), ValueError("a mistake\nof ours")])
async def test_whatever_goes_wrong_the_old_settings_stay_and_the_reason_is_one_line(
    daemon: Daemon, error: Exception
) -> None:
    daemon.found = error
    with capture_logs() as logs, pytest.raises(StreamerError) as caught:
        await daemon.reloading.reload()
    assert "\n" not in str(caught.value)
    assert [each["event"] for each in logs] == ["configuration refused, the one before stays"]
    daemon.found, daemon.refuses = settings(state__every=7), BrokerError("the registry is away")
    with pytest.raises(BrokerError):
        await daemon.reloading.reload()
    daemon.refuses = None
    assert (await daemon.reloading.reload())["changed"] == ["state.every"], "what was refused was not taken"


async def test_a_signal_before_it_serves_is_heeded_once_it_does_and_a_request_is_told_to_wait() -> None:
    daemon = Daemon()
    daemon.found = settings(log__level="debug")
    daemon.reloading.ask()
    with pytest.raises(StreamerError, match="is starting"):
        await daemon.reloading.reload()
    running = asyncio.create_task(daemon.reloading.run())
    await eventually(lambda: daemon.taken)
    daemon.found = ConfigError("bad")
    daemon.reloading.ask()
    await eventually(lambda: daemon.count("refused"))
    assert not running.done(), "a refusal does not end it"
    running.cancel()


async def test_reloads_at_the_same_time_come_one_after_the_other(daemon: Daemon) -> None:
    daemon.found = settings(log__level="debug")
    answers = await asyncio.gather(*(daemon.reloading.reload() for _ in range(3)))
    assert [each["changed"] for each in answers] == [["log.level"], [], []]
    assert len(daemon.taken) == 1


# --- in a partition ---------------------------------------------------------------------------------------------------


class Changing(Kafka):
    """Asks its worker for other settings before the fetch of that number. saved: snapshots of each commit."""

    def __init__(self, at: int, new_partition: Callable[[], Partition], *fetched: list[object]) -> None:
        super().__init__(*fetched)
        self._at = at
        self._new_partition = new_partition
        self.saved: list[int] = []
        self.taking: asyncio.Task[None] | None = None

    async def getmany(self, tp: object, **options: int) -> dict[object, list[object]]:
        self._at -= 1
        if self._at == 0:
            self.taking = asyncio.create_task(self.worker.take_over(self._new_partition))
            await asyncio.sleep(3600)  # a silent feed: the request must end the fetch
        return await super().getmany(tp, **options)

    async def commit(self, records: Any, offset: Any) -> None:
        await super().commit(records, offset)
        self.saved.append(sum(each.topic == "state" for each in records))


def other() -> Partition:
    made = partition()
    made.settings = replace(SETTINGS, snapshot_every=1)
    return made


async def test_between_two_ticks_all_is_saved_and_goes_on_under_the_other_settings() -> None:
    batches: list[list[object]] = [[record(5, "a")], [record(6, "a")], [record(7, "a")]]
    kafka = Changing(3, other, *batches)
    async with asyncio.timeout(5):
        await kafka.worker.run()
    assert kafka.taking is not None
    assert kafka.taking.done()
    assert kafka.saved[:3] == [1, 0, 1], "a new stream; a tick; what is unsaved before the take-over"
    assert kafka.worker.partition.settings.snapshot_every == 1
    told = [call[0] for call in kafka.observer.method_calls if call[0] in ("restored", "interrupted")]
    assert told == ["restored", "interrupted", "restored"]
    assert kafka.seeks == [5, 7]


async def test_until_all_is_saved_a_session_that_fails_begins_anew_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    """Or ticks whose outcomes are published would be replayed under the other settings."""
    monkeypatch.setattr(module, "_RETRY_SECONDS", (0.0,))
    made: list[str] = []

    def under_the_other() -> Partition:
        made.append("other")
        return other()

    def under_the_old() -> Partition:
        made.append("old")
        return partition()

    kafka = Changing(3, under_the_other, [record(5, "a")], [record(6, "a")], [record(7, "a")])
    kafka.commits.extend([None, None, BrokerError("away")])
    kafka.worker._new_partition = under_the_old
    async with asyncio.timeout(5):
        await kafka.worker.run()
    assert made == ["old", "other"]


async def test_who_waits_for_a_partition_that_is_given_up_waits_no_longer() -> None:
    kafka = Kafka()
    taking = asyncio.create_task(kafka.worker.take_over(other))
    await asyncio.sleep(0)
    kafka.worker.stop()
    async with asyncio.timeout(5):
        await kafka.worker.run()
        await taking
