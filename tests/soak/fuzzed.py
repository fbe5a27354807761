"""A real feed with rubbish mixed into it: nothing stops, and the real ticks are forecast as if they were alone.

python -m tests.soak.fuzzed --messages 100000 --seed 1
"""

import argparse
import asyncio
import csv
import json
import random
import secrets
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient

from tests.e2e.conftest import Topics
from tests.e2e.feeding import Feed, Message, Offset, Published
from tests.e2e.harness import Service
from tests.soak.rubbish import MESSAGE_BYTES, Rubbish
from tests.support import SHARED_DATA, KafkaBroker, eventually

REAL = b"real"
"""Key of the real feed: its stream has one name in whatever topic, as have its models."""

PRICES = SHARED_DATA / "dev" / "crypto_usd_1m_2018-01.csv"
_DECODED = {"no_price", "ahead", "too_many_symbols"}  # reasons for which a message that can be read is refused
_TRAINING_SECONDS = 240.0


@dataclass(frozen=True)
class Sent:
    """One message, and what has to become of it: a forecast, a dead letter, or any one outcome."""

    message: Message
    kind: str


def real_ticks(path: Path, count: int) -> list[bytes]:
    """The first `count` rows of a file of prices, as messages."""
    with path.open(newline="") as file:
        rows = csv.reader(file)
        symbols = next(rows)[1:]
        ticks = [
            {"ts": row[0], "prices": {s: float(p) if p else None for s, p in zip(symbols, row[1:], strict=True)}}
            for row, _ in zip(rows, range(count), strict=False)
        ]
    return [json.dumps(tick, separators=(",", ":")).encode() for tick in ticks]


def mixed(ticks: list[bytes], messages: int, seed: int) -> list[Sent]:
    """`ticks` in their order, and so many messages of rubbish between them."""
    draw = random.Random(seed)
    rubbish, real = Rubbish(draw, ticks, REAL), iter(ticks)
    turns = [True] * len(ticks) + [False] * messages
    draw.shuffle(turns)
    sent = []
    for is_real in turns:
        if is_real:
            sent.append(Sent(Message(next(real), REAL), "forecast"))
        else:
            message, is_invalid = rubbish.message()
            sent.append(Sent(message, "dead letter" if is_invalid else "any"))
    return sent


async def check(bootstrap: str, topics: Topics, folder: Path, messages: int, ticks: int, seed: int) -> dict[str, Any]:
    """The figures of one run; AssertionError where anything is not as it must be."""
    real = real_ticks(PRICES, ticks)
    clean = await _clean(bootstrap, topics, folder, real)
    expected = [_forecast(value) for value in (await clean.published()).values()]
    began = time.monotonic()
    service, sent, published, lasted = await _fuzzed(bootstrap, topics, folder, clean, mixed(real, messages, seed))
    errors = [event for event in service.events() if event["level"] in ("error", "critical")]
    assert not errors, errors[:3]
    found = published.by_offset()
    outcomes = Counter(_outcome(offset, each, found.get(offset, []), service) for offset, each in sent.items())
    assert found.keys() <= sent.keys()
    forecasts = [_forecast(v) for v, r in zip(published.values(), published.forecasts, strict=True) if r.key == REAL]
    assert len(forecasts) == ticks
    assert forecasts == expected
    return {
        "seed": seed,
        "messages": messages,
        "ticks": ticks,
        **{name.replace(" ", "_"): count for name, count in sorted(outcomes.items())},
        "reasons": dict(sorted(_reasons(published).items())),
        "models": sorted({forecast["model"] for forecast in forecasts}),
        "different": 0,
        "daemon_seconds": round(lasted, 1),
        "seconds": round(time.monotonic() - began, 1),
    }


async def _clean(bootstrap: str, topics: Topics, folder: Path, real: list[bytes]) -> Service:
    """A daemon that has forecast the real ticks alone, and has trained on the first part of them."""
    prices = await topics.create("clean")
    service = Service(bootstrap, folder, prices, **_sections(len(real)))
    feed, half = Feed(bootstrap, prices), len(real) // 2
    async with service:
        await feed.send([Message(value, REAL) for value in real[:half]])
        await eventually(lambda: service.swaps("real"), timeout=_TRAINING_SECONDS)
        await feed.send([Message(value, REAL) for value in real[half:]])
        await service.caught_up(len(real))
        assert await service.terminate() == 0
    return service


def _sections(ticks: int) -> dict[str, Any]:
    """One training, on the first half of the ticks; some of it is enough for the swap to be seen in the forecasts."""
    first = ticks // 2
    return {
        "limits": {"message_bytes": MESSAGE_BYTES},
        "gate": {"tolerance": 1.0},
        "retrain": {"first": first, "every": 10 * ticks, "history": max(first, 2000), "drift": 0},
    }


async def _fuzzed(
    bootstrap: str, topics: Topics, folder: Path, clean: Service, all_sent: list[Sent]
) -> tuple[Service, dict[Offset, Sent], Published, float]:
    """What a daemon with the swaps of `clean` makes of all; the seconds that it took."""
    prices = await topics.create("fuzzed")
    sections = {name: clean.settings[name] for name in ("limits", "gate", "retrain")}
    service = Service(bootstrap, folder, prices, **sections)
    service.arguments = ["--schedule", clean.settings["models"]["url"]]
    offsets = await Feed(bootstrap, prices).send([each.message for each in all_sent])
    began = time.monotonic()
    async with service:
        await eventually(lambda: _has_caught_up(service, len(offsets)), timeout=60 + len(offsets) / 100, interval=0.5)
        lasted = time.monotonic() - began
        published = await service.published()
        assert (await service.get("/livez"))[0] == 200
        assert await service.terminate() == 0
    return service, dict(zip(offsets, all_sent, strict=True)), published, lasted


async def _has_caught_up(service: Service, messages: int) -> bool:
    assert not service.has_ended(), service.stderr()[-3000:]
    return await service.committed() >= messages


def _outcome(offset: Offset, sent: Sent, records: list[Any], service: Service) -> str:
    """Which outcome the one record of an offset is; a dead letter has to have the message's bytes."""
    assert len(records) <= 1, f"{len(records)} outcomes of {offset}"
    if not records:
        assert sent.kind == "any", f"no outcome of {offset}: {sent}"
        return "dropped"
    (record,) = records
    if record.topic == service.topic("forecasts"):
        assert sent.kind != "dead letter", f"{offset} is no tick and has a forecast: {sent}"
        return "forecast" if sent.kind == "forecast" else "fuzzed forecast"
    reason = dict(record.headers)["__streams.errors.exception"].decode()
    assert sent.kind != "forecast", f"the real tick {offset} is a dead letter: {reason}"
    assert reason != "error", f"{offset} brought about an exception: {sent}"
    assert (reason in _DECODED) is (sent.kind == "any") or reason == "too_many_symbols", f"{offset}: {reason}: {sent}"
    message = sent.message
    assert (record.key, record.value or b"") == (message.key, message.value or b""), offset
    assert list(record.headers[: len(message.headers)]) == list(message.headers), offset
    return "dead letter"


def _forecast(value: dict[str, Any]) -> dict[str, Any]:
    """All of a forecast but its place in the topic."""
    return {name: part for name, part in value.items() if name not in ("id", "source")}


def _reasons(published: Published) -> Counter[str]:
    headers = (dict(record.headers) for record in published.dead_letters)
    return Counter(each["__streams.errors.exception"].decode() for each in headers)


async def _main(arguments: argparse.Namespace, bootstrap: str, folder: Path) -> dict[str, Any]:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        return await check(bootstrap, Topics(admin), folder, arguments.messages, arguments.ticks, arguments.seed)
    finally:
        await admin.close()


def main(argv: list[str] | None = None) -> None:
    """Run once on a broker of its own; prints the figures as a line of JSON."""
    parser = argparse.ArgumentParser(prog="fuzzed", description="Mix rubbish into a real feed.")
    parser.add_argument("--messages", type=int, default=100_000, help="of rubbish (default 100000)")
    parser.add_argument("--ticks", type=int, default=10_000, help="of the real feed (default 10000)")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(10**6), help="printed (default: any)")
    arguments = parser.parse_args(argv)
    print(json.dumps({"round": "fuzzed", "seed": arguments.seed}), flush=True)
    with tempfile.TemporaryDirectory(prefix="streamer-fuzzed-") as name:
        broker = KafkaBroker(Path(name) / "kafka")
        bootstrap = broker.start()
        try:
            print(json.dumps(asyncio.run(_main(arguments, bootstrap, Path(name)))), flush=True)
        finally:
            broker.stop()


if __name__ == "__main__":
    main()
