"""A trained model's forecasts are those of the prices, whatever the feed looks like."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import pytest
from aiokafka import ConsumerRecord

from streamer.config import load
from streamer.core.forecaster import Forecaster
from streamer.core.outcome import Forecast, Swap
from streamer.model import artifact
from streamer.model.dataset import TrainingSet
from streamer.model.fit import fit
from streamer.model.forecaster import LstmForecaster
from streamer.model.spec import GateSpec
from streamer.service import wiring
from streamer.service.partition import Batch, Partition
from tests.e2e.feeding import MINUTE, START, Message
from tests.e2e.test_shapes import SCHEMA, SHAPES, SYMBOLS, Shape, avro, vectors
from tests.model.live import FIT, NETWORK
from tests.registry import registry_server

TRAINED, ROWS = 360, 480

Said = tuple[Any, ...]


@dataclass
class Trained:
    """A model, when it began to serve, and what was said of each vector under the shape `map`."""

    model: Forecaster
    swap: Swap
    forecasts: list[Said]


def records(shape: Shape, first: int, end: int) -> Iterator[tuple[int, Message]]:
    """The messages of some vectors, each with its minute."""
    for at, vector in list(enumerate(vectors(ROWS)))[first:end]:
        for message in shape.messages(at, vector):
            yield at, message


def fed(partition: Partition, messages: Iterator[tuple[int, Message]], offset: int = 0) -> list[Said]:
    """What is forecast, to the last bit."""
    batch, read = Batch(0), []
    for number, (at, message) in enumerate(messages, offset):
        time, value = START + at * MINUTE, message.value or b""
        read.append(
            ConsumerRecord("prices", 0, number, time, 0, message.key, value, None, 0, len(value), message.headers)
        )
    asyncio.run(partition.prepare(read))
    for record in read:
        partition.process(record, batch)
    return [said(step.outcome) for _, step in batch.steps if isinstance(step.outcome, Forecast)]


def said(forecast: Forecast) -> Said:
    levels = (forecast.yhat, forecast.lower, forecast.upper, forecast.last)
    by_symbol = [dict(zip(forecast.symbols, map(float.hex, each.tolist()), strict=True)) for each in levels]
    return forecast.as_of, forecast.target, forecast.model, *by_symbol


def partition(shape: Shape, trained: Trained | None = None, **sections: Any) -> Partition:
    """The streams of a feed of `shape`, under its settings, in which the model begins to serve as it did."""
    given = {"kafka.bootstrap_servers": "a:1", "retrain": {"every": 0}, **shape.settings, **sections}
    settings = wiring.partition_settings(load(None, {}, given))
    schedules = None if trained is None else {key: [trained.swap] for key in ("prices-0", "eu")}

    def model(stream: str, model_id: str) -> Forecaster:
        assert trained is not None
        assert trained.model.id == model_id
        return trained.model

    return Partition("prices", 0, settings, model, schedules)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    shape, folder = SHAPES["map"], tmp_path_factory.mktemp("model")
    found = partition(shape)
    forecasts = fed(found, records(shape, 0, TRAINED))
    engine = found.streams["prices-0"].engine
    fit(TrainingSet.of(engine), NETWORK, FIT, GateSpec(), None, folder)
    model = LstmForecaster.from_artifact(artifact.read(folder))
    ready = engine.catch_up(model)
    assert ready.advance(len(engine.history))
    swap = engine.swap(ready)
    return Trained(model, swap, forecasts + fed(found, records(shape, TRAINED, ROWS), TRAINED))


@pytest.mark.parametrize("name", [name for name in SHAPES if name not in ("pairs", "avro")])
def test_a_trained_model_forecasts_the_same_of_each_shape(name: str, trained: Trained) -> None:
    shape = SHAPES[name]
    found = fed(partition(shape, trained), records(shape, 0, ROWS))
    check(found, trained, ROWS - shape.is_open)


def test_a_trained_model_forecasts_the_same_of_avro(trained: Trained) -> None:
    with registry_server() as server:
        head = b"\0" + server.add(SCHEMA).to_bytes(4, "big")
        shape = replace(
            SHAPES["avro"], messages=lambda at, prices: [Message(head + (avro(at, prices)[0].value or b""))]
        )
        found = fed(
            partition(shape, trained, registry={"url": server.url}, output={"codec": "json"}), records(shape, 0, ROWS)
        )
    check(found, trained, ROWS)


def check(found: list[Said], trained: Trained, count: int) -> None:
    """The model's forecasts are there, and none is the last price."""
    assert found == trained.forecasts[:count]
    assert [each[2] for each in found] == ["persistence"] * TRAINED + [trained.model.id] * (count - TRAINED)
    assert all(yhat[symbol] != last[symbol] for *_, yhat, _, _, last in found[TRAINED:] for symbol in SYMBOLS)
