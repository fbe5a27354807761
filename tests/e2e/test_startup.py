"""What an operator sees of a daemon that cannot start, or not yet."""

import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.conftest import Topics
from tests.e2e.feeding import START, Feed, sawtooth
from tests.e2e.harness import Service

TEXT = {"format": "text"}


@pytest.fixture
def silent_address() -> Iterator[str]:
    """A port that nobody listens on and nobody else can take: bound, but not listened on."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{bound.getsockname()[1]}"


async def refusal(service: Service, code: int) -> str:
    """Start `service` and expect it to end with `code`; returns its last words, which must be one plain line."""
    async with service:
        assert await service.exited() == code, service.stderr()
    said = service.stderr()
    assert "Traceback" not in said
    lines = said.splitlines()
    assert [line for line in lines if line.startswith("streamer: ")] == lines[-1:]
    return lines[-1]


async def test_an_unknown_key_is_refused_with_the_nearest_known_one(bootstrap: str, tmp_path: Path) -> None:
    line = await refusal(Service(bootstrap, tmp_path, "prices", retrain={"evry": 100}), 3)
    assert "'retrain.evry'" in line
    assert "did you mean 'retrain.every'?" in line


async def test_a_broker_that_stays_away_ends_the_start_with_a_line_that_names_it(
    silent_address: str, tmp_path: Path
) -> None:
    service = Service(silent_address, tmp_path, "prices", kafka={"startup_timeout": "1s"}, log=TEXT)
    line = await refusal(service, 1)
    assert silent_address in line
    assert "kafka.bootstrap_servers" in line


async def test_while_it_waits_for_the_broker_it_is_alive_and_not_ready_and_stops_when_asked(
    silent_address: str, tmp_path: Path
) -> None:
    async with Service(silent_address, tmp_path, "prices", kafka={"startup_timeout": "10m"}) as service:
        await service.logged("waiting for the broker")
        assert (await service.get("/livez"))[0] == 200
        status, body = await service.get("/readyz")
        assert status == 503
        assert json.loads(body)["failing"] == ["group"]
        assert await service.terminate(timeout=10) == 0
        assert service.events("stopped")
        assert "Traceback" not in service.stderr()


async def test_a_missing_input_topic_is_refused(bootstrap: str, tmp_path: Path) -> None:
    line = await refusal(Service(bootstrap, tmp_path, "prices-nobody-made", log=TEXT), 3)
    assert "'prices-nobody-made'" in line


async def test_an_output_topic_with_fewer_partitions_than_the_input_is_refused(
    bootstrap: str, topics: Topics, tmp_path: Path
) -> None:
    prices = await topics.create("prices", partitions=3)
    forecasts = await topics.create("forecasts", partitions=2)
    line = await refusal(Service(bootstrap, tmp_path, prices, kafka={"topics": {"forecasts": forecasts}}), 3)
    assert repr(forecasts) in line
    assert "has 2 partitions" in line
    assert f"{prices!r} has 3" in line


async def test_a_missing_output_topic_is_refused_where_none_may_be_created(
    bootstrap: str, topics: Topics, tmp_path: Path
) -> None:
    prices = await topics.create("prices")
    service = Service(bootstrap, tmp_path, prices, kafka={"create_topics": False}, log=TEXT)
    line = await refusal(service, 3)
    assert repr(service.topic("forecasts")) in line
    assert "kafka.create_topics" in line


async def test_an_occupied_port_is_refused(bootstrap: str, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        line = await refusal(Service(bootstrap, tmp_path, "prices", http={"port": port}), 3)
    assert f"port {port}" in line
    assert "http.port" in line


async def test_a_model_store_of_no_known_kind_is_refused(bootstrap: str, tmp_path: Path) -> None:
    line = await refusal(Service(bootstrap, tmp_path, "prices", models={"url": "nowhere://models"}), 3)
    assert "models.url nowhere://models" in line


@pytest.mark.parametrize(
    ("swap", "reason"),
    [
        (
            {"model": "20231115T0839Z-1938b856", "after": START, "restarts": 0, "start": "ring", "ticks": 1},
            "manifest.json",
        ),
        ({"model": "20231115T0839Z-1938b856", "after": START, "of": "another version"}, "is no record of a swap"),
    ],
    ids=["model-missing", "of-another-version"],
)
async def test_a_schedule_that_cannot_be_repeated_is_refused_with_the_first_tick(
    bootstrap: str, topics: Topics, tmp_path: Path, swap: dict[str, object], reason: str
) -> None:
    """And not in the middle of the stream, with a dead letter for each tick from there on."""
    prices = await topics.create("prices")
    await Feed(bootstrap, prices).send(sawtooth(10))
    swaps = tmp_path / "schedule" / f"{prices}-0" / "swaps"
    swaps.mkdir(parents=True)
    (swaps / "0-1.json").write_text(json.dumps(swap))
    service = Service(bootstrap, tmp_path, prices)
    service.arguments = ["--schedule", str(tmp_path / "schedule")]
    line = await refusal(service, 3)
    assert str(tmp_path / "schedule") in line
    assert reason in line
    published = await service.published()
    assert not published.forecasts
    assert not published.dead_letters


async def test_a_schedule_without_swaps_is_warned_of(bootstrap: str, topics: Topics, tmp_path: Path) -> None:
    prices = await topics.create("prices")
    await Feed(bootstrap, prices).send(sawtooth(10))
    service = Service(bootstrap, tmp_path, prices)
    service.arguments = ["--schedule", str(tmp_path / "nowhere")]
    async with service:
        warning = await service.logged("no swaps are recorded, persistence serves")
        assert warning["schedule"] == str(tmp_path / "nowhere")
        await service.caught_up(10)


async def test_a_model_store_that_cannot_be_written_fails_the_training_and_not_the_serving(
    bootstrap: str, topics: Topics, tmp_path: Path
) -> None:
    """The folder would lie below a file: refused to root as well, whom permissions do not bind."""
    (tmp_path / "file").write_text("in the way")
    prices = await topics.create("prices")
    url = str(tmp_path / "file" / "models")
    async with Service(bootstrap, tmp_path, prices, models={"url": url}) as service:
        feed = Feed(bootstrap, prices)
        await feed.send(sawtooth(400))
        failed = await service.logged("training failed, serving goes on as it was")
        assert f"models.url {url}: cannot write there" in failed["reason"]
        await feed.send(sawtooth(410)[400:])
        await service.caught_up(410)
        assert (await service.metrics()).total("streamer_retrains_total", outcome="failed") == 1
        published = await service.published()
        assert len(published.forecasts) == 410
        assert published.models() == ["persistence"]
