"""A stream that has ended leaves nothing behind, and begins anew if it comes back."""

import time
from pathlib import Path

from tests.e2e.conftest import Topics
from tests.e2e.feeding import Feed, Message, tick
from tests.e2e.harness import Service
from tests.support import eventually, read_all

DAY = 86_400_000


async def test_a_stream_idle_for_so_long_is_dropped_with_a_tombstone_and_begins_anew_when_it_is_back(
    bootstrap: str, topics: Topics, tmp_path: Path
) -> None:
    """By the records' timestamps; a restart between, after a kill, changes nothing."""
    prices = await topics.create("prices", retention_ms="-1")
    now = round(time.time() * 1000)

    def days_ago(days: int, key: bytes, rows: range) -> list[Message]:
        stamp = now - days * DAY
        return [tick(row, {"A": 1.0 + row}, key=key, timestamp=stamp + row) for row in rows]

    feed = Feed(bootstrap, prices)
    static = {"instance_id": "one"}
    async with Service(bootstrap, tmp_path, prices, kafka=static, retrain={"every": 0}) as service:
        await feed.send(days_ago(50, b"old", range(8)) + days_ago(50, b"alive", range(8)))
        await feed.send(days_ago(40, b"alive", range(8, 16)))
        await service.caught_up(24)
        assert await streams(service) == {"old", "alive"}

        await feed.send(days_ago(15, b"alive", range(16, 24)))
        await service.caught_up(32)
        assert (await service.logged("stream dropped, it has been without a tick for streams.expire"))[
            "stream"
        ] == "old"
        await eventually(lambda: gone(service, "old"))
        assert (await read_all(bootstrap, service.topic("state")))[-1].key is not None
        assert await newest_snapshot(service, b"old") is None

        await service.kill()
        service.start()
        await feed.send(days_ago(15, b"alive", range(24, 25)))
        await eventually(lambda: shows(service, "alive", window_fill=1.0), interval=0.2, timeout=30)
        assert await gone(service, "old")

        await feed.send(days_ago(14, b"old", range(25, 28)))
        await service.caught_up(36)
        await eventually(lambda: shows(service, "old", window_fill=3 / 20), interval=0.2)
        assert await newest_snapshot(service, b"old")
        assert sorted((await service.published()).forecast_values()) == feed.sent


async def streams(service: Service) -> set[str]:
    """Names of the streams that the daemon has series of."""
    scrape = await service.metrics()
    return {name for name in ("old", "alive") if scrape.each("streamer_window_fill_ratio", stream=name)}


async def gone(service: Service, stream: str) -> bool:
    return f'stream="{stream}"' not in (await service.metrics()).text


async def shows(service: Service, stream: str, window_fill: float) -> bool:
    return (await service.metrics()).each("streamer_window_fill_ratio", stream=stream) == [window_fill]


async def newest_snapshot(service: Service, key: bytes) -> bytes | None:
    found = [r.value for r in await read_all(service.bootstrap, service.topic("state")) if r.key == key]
    value: bytes | None = found[-1]
    return value
