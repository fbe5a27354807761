"""One model for all streams: trained together, taken over by who joins, there after a restart, and verified."""

from itertools import chain
from pathlib import Path
from typing import Any

from tests.e2e.conftest import Topics
from tests.e2e.feeding import Feed, Message, sawtooth
from tests.e2e.harness import Service
from tests.e2e.test_verify import verify
from tests.support import eventually

STREAMS = ("paris", "london", "tokyo")


def rows_of(streams: tuple[str, ...], start: int, end: int) -> list[Message]:
    """Each stream's ticks, minute by minute; the streams are on two partitions."""
    each = [
        sawtooth(end, seed=seed, key=name.encode(), partition=seed % 2)[start:] for seed, name in enumerate(streams)
    ]
    return list(chain.from_iterable(zip(*each, strict=True)))


def serving(service: Service) -> dict[str, Any]:
    """Model of each stream, by what the log said last."""
    return {event["stream"]: event["model"] for event in service.events("model serves")}


def networks(service: Service, models: dict[str, Any]) -> set[bytes]:
    folder = Path(service.settings["models"]["url"])
    return {(folder / stream / model / "model.tflite").read_bytes() for stream, model in models.items()}


async def test_streams_learn_together_and_who_joins_takes_the_model_over(
    bootstrap: str, topics: Topics, tmp_path: Path
) -> None:
    prices = await topics.create("prices", partitions=2)
    service = Service(
        bootstrap,
        tmp_path,
        prices,
        models={"sharing": "global"},
        retrain={"every": 100_000},
        kafka={"instance_id": "one"},
    )
    feed = Feed(bootstrap, prices)
    await feed.send(rows_of(STREAMS, 0, 300))
    async with service:
        await eventually(lambda: set(serving(service)) == set(STREAMS), timeout=60)
        (training,) = service.events("training")
        assert training["streams"] == 3
        models = serving(service)
        assert len(set(models.values())) == 3
        assert len(networks(service, models)) == 1

        await feed.send(rows_of(STREAMS, 300, 320))
        late = sawtooth(320, seed=9, key=b"cairo")
        await feed.send(late)
        taken = await service.logged("model taken over")
        assert (taken["stream"], taken["of"] in STREAMS) == ("cairo", True)
        await eventually(lambda: "cairo" in serving(service))
        assert len(networks(service, serving(service))) == 1
        assert len(service.events("training")) == 1
        await service.caught_up(len(feed.sent))

        before = serving(service)
        await service.kill()
        service.start()
        await service.ready()
        await feed.send([*rows_of(STREAMS, 320, 330), *sawtooth(330, seed=9, key=b"cairo")[320:]])
        await service.caught_up(len(feed.sent))
        published = (await service.published()).values()
        assert await service.terminate() == 0

    last = {value["stream"]: value["model"] for value in published}
    assert last == before
    code, found = await verify(service)
    assert code == 0
    assert {stream: each["equal"] for stream, each in found.items()} == {**dict.fromkeys(STREAMS, 330), "cairo": 330}
