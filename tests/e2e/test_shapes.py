"""Feeds as they are: each shape from a real Kafka to the same forecasts for the same prices."""

import csv
import io
import json
import math
import random
import urllib.request
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import fastavro
import pytest

from tests.e2e.conftest import Topics
from tests.e2e.feeding import MINUTE, START, Feed, Message
from tests.e2e.harness import Service
from tests.e2e.registry import real_registry
from tests.e2e.script import iso
from tests.own_codec import install
from tests.support import CHECKOUT, MissingProgramsError, read_all

ROWS = 120
SYMBOLS = ("AAPL", "BRK.B", "MSFT")
Prices = Mapping[str, float | None]

SCHEMA = {
    "type": "record",
    "name": "Bar",
    "namespace": "feed",
    "fields": [
        {"name": "at", "type": {"type": "long", "logicalType": "timestamp-micros"}},
        {
            "name": "quotes",
            "type": {
                "type": "array",
                "items": {
                    "type": "record",
                    "name": "Quote",
                    "fields": [{"name": "symbol", "type": "string"}, {"name": "px", "type": ["null", "double"]}],
                },
            },
        },
    ],
}


def vectors(rows: int = ROWS) -> list[Prices]:
    """Random walks, with blanks."""
    draw = random.Random(3)
    level = [4.0, 5.0, 6.0]
    found: list[Prices] = []
    for _ in range(rows):
        level = [each + draw.gauss(0, 1e-3) for each in level]
        found.append({s: None if draw.random() < 0.05 else math.exp(x) for s, x in zip(SYMBOLS, level, strict=True)})
    return found


@dataclass(frozen=True)
class Shape:
    """A feed. messages: those of one vector, of the minute `at`. settings: sections of the configuration.

    is_open: its last step stays open until there is a message of the next.
    """

    messages: Callable[[int, Prices], list[Message]]
    settings: dict[str, Any] = field(default_factory=dict)
    is_open: bool = False


def one(value: Any, **fields: Any) -> list[Message]:
    return [Message(value if isinstance(value, bytes) else json.dumps(value).encode(), **fields)]


def line(cells: list[object]) -> bytes:
    out = io.StringIO()
    csv.writer(out, delimiter=";").writerow(cells)
    return out.getvalue().encode()


def avro(at: int, prices: Prices) -> list[Message]:
    datum = {
        "at": (START + at * MINUTE) * 1000,
        "quotes": [{"symbol": symbol, "px": price} for symbol, price in prices.items()],
    }
    out = io.BytesIO()
    fastavro.schemaless_writer(out, fastavro.parse_schema(SCHEMA), datum)
    return one(out.getvalue())  # the schema's id comes before it, once there is one


SHAPES = {
    "map": Shape(lambda at, prices: one({"ts": START + at * MINUTE, "prices": prices})),
    "list": Shape(
        lambda at, prices: one({"ts": iso(at), "prices": list(prices.values())}), {"feed": {"symbols": SYMBOLS}}
    ),
    "objects": Shape(
        lambda at, prices: one(
            {"T": (START + at * MINUTE) // 1000, "q": [{"s": s, "p": p} for s, p in prices.items()]}
        ),
        {"input": {"fields": {"time": "T", "prices": "q", "symbol": "s", "price": "p"}, "time_unit": "s"}},
    ),
    "flat": Shape(
        lambda at, prices: one({"venue": "XNAS", **{s: p for s, p in prices.items() if p is not None}, "t": iso(at)}),
        {"input": {"fields": {"time": "t", "prices": "."}}, "feed": {"symbols": SYMBOLS}},
    ),
    "nested": Shape(
        lambda at, prices: one(
            {
                "meta": {"feed": "eu"},
                "data": {"bars": {s: {"c": None if p is None else str(p)} for s, p in prices.items()}},
            },
            key=b"some id",
            headers=(("at", str((START + at * MINUTE) * 1_000_000).encode()),),
        ),
        {
            "input": {
                "fields": {"time": "$header.at", "prices": "data.bars", "price": "c", "key": "meta.feed"},
                "time_unit": "ns",
                "numbers": "text",
            }
        },
    ),
    "symbols": Shape(
        lambda at, prices: [
            message
            for symbol, price in prices.items()
            if price is not None
            for message in one({"at": iso(at), "px": price}, key=symbol.encode())
        ],
        {
            "input": {"fields": {"time": "at", "prices": None, "symbol": "$key", "price": "px"}, "assemble": "last"},
            "feed": {"symbols": SYMBOLS},
        },
        is_open=True,
    ),
    "csv": Shape(
        lambda at, prices: one(line([iso(at).removesuffix("Z"), *("" if p is None else p for p in prices.values())])),
        {
            "input": {
                "codec": "csv",
                "options": {"columns": ["time", *SYMBOLS], "delimiter": ";"},
                "fields": {"time": "time", "prices": "."},
                "timezone": "UTC",
            },
            "output": {"codec": "csv"},
        },
    ),
    "avro": Shape(
        avro,
        {
            "input": {"codec": "avro", "fields": {"time": "at", "prices": "quotes", "symbol": "symbol", "price": "px"}},
            "output": {"codec": "avro"},
        },
    ),
    "pairs": Shape(
        lambda at, prices: one(
            "|".join([f"t={iso(at)}", *(f"{s}={'' if p is None else p}" for s, p in prices.items())]).encode()
        ),
        {"input": {"codec": "pairs", "fields": {"time": "t", "prices": "."}}},
    ),
}
"""By name."""

MEDIA = {"csv": b"text/csv", "avro": b"application/avro"}


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the codec `pairs` is installed."""
    return install(tmp_path_factory.mktemp("codec"))


async def registry(running: AsyncExitStack, folder: Path) -> str:
    """The address of a real schema registry, which runs as long as what is `running`."""
    try:
        return await running.enter_async_context(real_registry(folder))
    except MissingProgramsError as error:
        pytest.skip(str(error))


def register(url: str, subject: str) -> int:
    """The id of our schema, as a producer's client would have it."""
    body = json.dumps({"schema": json.dumps(SCHEMA)}).encode()
    request = urllib.request.Request(
        f"{url}/subjects/{subject}/versions", body, {"Content-Type": "application/vnd.schemaregistry.v1+json"}
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        return int(json.load(answer)["id"])


async def fed(shape: Shape, bootstrap: str, topics: Topics, folder: Path, **sections: Any) -> tuple[Service, int]:
    """A daemon that is to be started, and how many messages wait for it."""
    prices = await topics.create("prices")
    service = Service(bootstrap, folder, prices, retrain={"every": 0}, **shape.settings | sections)
    messages = [each for at, vector in enumerate(vectors()) for each in shape.messages(at, vector)]
    messages += shape.messages(ROWS, dict.fromkeys(SYMBOLS[:1], 1.0)) if shape.is_open else []
    await Feed(bootstrap, prices).send(messages)
    return service, len(messages)


async def told(service: Service, messages: int) -> list[Any]:
    """The records of its forecasts, once all messages have their outcome."""
    async with service:
        await service.caught_up(messages)
        records = await read_all(service.bootstrap, service.topic("forecasts"))
        letters = await read_all(service.bootstrap, service.topic("dead_letters"))
        assert await service.terminate() == 0
    assert letters == []
    return records


def plain(message: Mapping[str, Any]) -> tuple[Any, ...]:
    """What a forecast says, whatever its record."""
    levels = (message[name] for name in ("yhat", "yhat_lower", "yhat_upper", "last"))
    return message["as_of"], message["target"], message["model"], *levels


def of_json(record: Any) -> tuple[Any, ...]:
    return plain(json.loads(record.value))


def of_csv(record: Any) -> tuple[Any, ...]:
    columns = ("stream", "as_of", "target", "model", "symbol", "yhat", "lower", "upper", "last")
    lines = list(csv.DictReader(io.StringIO(record.value.decode()), columns))
    levels = [{each["symbol"]: float(each[name]) for each in lines} for name in columns[5:]]
    return lines[0]["as_of"], lines[0]["target"], lines[0]["model"], *levels


def of_avro(url: str) -> Callable[[Any], tuple[Any, ...]]:
    schemas: dict[int, Any] = {}

    def read(record: Any) -> tuple[Any, ...]:
        assert record.value[0] == 0
        number = int.from_bytes(record.value[1:5], "big")
        if number not in schemas:
            with urllib.request.urlopen(f"{url}/schemas/ids/{number}", timeout=10) as answer:
                schemas[number] = fastavro.parse_schema(json.loads(json.load(answer)["schema"]))
        found: Any = fastavro.schemaless_reader(io.BytesIO(record.value[5:]), schemas[number], None)
        times = {name: found[name].isoformat().replace("+00:00", "Z") for name in ("as_of", "target")}
        return plain({**found, **times})

    return read


@pytest.fixture(scope="module")
def expected() -> list[tuple[Any, ...]]:
    """Filled by the first shape that ran: what all others have to say too."""
    return []


@pytest.mark.parametrize("name", SHAPES)
async def test_each_shape_of_a_feed_gives_the_same_forecasts(
    name: str,
    bootstrap: str,
    topics: Topics,
    tmp_path: Path,
    installed: Path,
    expected: list[tuple[Any, ...]],
    request: pytest.FixtureRequest,
) -> None:
    """One for each vector, of its minute, and of its prices."""
    shape, sections = SHAPES[name], dict[str, Any]()
    read: Callable[[Any], tuple[Any, ...]] = of_json
    async with AsyncExitStack() as running:
        if name == "csv":
            read = of_csv
        if name == "avro":
            url = await registry(running, tmp_path)
            sections["registry"] = {"url": url}
            head = b"\0" + register(url, "bars-value").to_bytes(4, "big")
            shape = Shape(lambda at, prices: one(head + (avro(at, prices)[0].value or b"")), shape.settings)
            read = of_avro(url)
        service, messages = await fed(shape, bootstrap, topics, tmp_path, **sections)
        service.environment["PYTHONPATH"] = f"{installed}:{CHECKOUT}"
        records = await told(service, messages)
        found = [read(record) for record in records]

    assert [each[0] for each in found] == [iso(at) for at in range(ROWS)]
    known: dict[str, float] = {}
    for vector, (_, _, model, yhat, lower, upper, last) in zip(vectors(), found, strict=True):
        known |= {symbol: price for symbol, price in vector.items() if price is not None}
        assert (model, yhat, last) == ("persistence", known, known)
        assert all(lower[symbol] <= known[symbol] <= upper[symbol] for symbol in known)
    expected[:] = expected or found
    assert found == expected
    assert {dict(record.headers)["content-type"] for record in records} == {MEDIA.get(name, b"application/json")}
    assert {record.key for record in records} == {
        b"eu" if name == "nested" else service.topic("prices").encode() + b"-0"
    }
