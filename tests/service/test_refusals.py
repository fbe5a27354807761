"""What a codec refuses, of the feed or of the forecasts, and what comes of it in a partition."""

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any
from unittest.mock import Mock

import hypothesis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.codecs.json_text import JsonCodec
from streamer.codecs.registry import RegistryError
from streamer.decoding import Decoder
from streamer.errors import ConfigError, DecodeError, StreamerError
from streamer.mapping import RecordMapping
from streamer.service.partition import PartitionSettings
from tests.service.test_expiry import HOUR, Log, fed, outputs, partition, record, restored, settings


class LateSchemas(JsonCodec):
    """Each message names its schema by its time, ms; `registered` are there."""

    def __init__(self) -> None:
        super().__init__({}, None)
        self.registered: set[int] = set()

    def decode(self, value: bytes) -> object:
        if json.loads(value)["ts"] not in self.registered:
            raise DecodeError("unknown_schema", "not yet")
        return super().decode(value)


def reading(codec: JsonCodec, snapshot_every: int) -> PartitionSettings:
    found = settings(expire=0, snapshot_every=snapshot_every)
    return replace(found, decoder=Decoder(codec, RecordMapping(), found.limits))


@hypothesis.settings(deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 24)), min_size=1, max_size=24),
    st.lists(st.tuples(st.integers(1, 6), st.booleans()), min_size=24, max_size=24),
    st.integers(1, 4),
)
@hypothesis.example([("a", 0), ("a", 0), ("a", 3), ("a", 0)], [(1, False), (2, True)] + [(1, False)] * 22, 4)
def test_what_was_refused_for_want_of_its_schema_stays_refused_when_the_schema_has_come(
    drawn: list[tuple[str, int]], plan: list[tuple[int, bool]], snapshot_every: int
) -> None:
    """Its dead letter is published: in a replay by the next owner it must not become a tick.

    Of each record is drawn after how many batches its schema is registered.
    """
    codec = LateSchemas()
    found = reading(codec, snapshot_every)
    records = [record(at, key, at * HOUR, 1.0 + at**2) for at, (key, _) in enumerate(drawn)]
    log, undisturbed = Log(records), partition(found)
    owner, at = restored(log, found), 0
    for number, (size, dies) in enumerate(plan):
        codec.registered = {each * HOUR for each, (_, batches) in enumerate(drawn) if batches <= number}
        if not (some := records[at : at + size]):
            break
        batch, at = fed(owner, some), at + size
        assert outputs(batch.records) == outputs(fed(undisturbed, some).records)
        log.commit(owner, batch)
        if dies:
            codec.registered = set(range(0, 24 * HOUR, HOUR))
            owner = restored(log, found)


@pytest.mark.parametrize(
    ("encode", "problem"),
    [
        (lambda message: message["yhat"]["none"], "KeyError('none')"),
        (lambda message: json.dumps(message["yhat"]), "TypeError('encode gave str, expected bytes')"),
    ],
)
def test_an_output_codec_that_fails_ends_the_daemon_with_what_and_where(
    monkeypatch: pytest.MonkeyPatch, encode: Callable[[Mapping[str, Any]], Any], problem: str
) -> None:
    codec = JsonCodec()
    monkeypatch.setattr(codec, "encode", encode)
    with pytest.raises(StreamerError) as caught:
        fed(partition(replace(settings(), codec=codec)), [record(7, "a", HOUR)])
    assert str(caught.value) == f"output.codec: the forecast of prices-0 offset 7 cannot be encoded: {problem}"
    assert caught.value.exit_code == 1


@pytest.mark.parametrize("error", [RegistryError("it is away"), ConfigError("it lets nobody in")])
def test_an_output_codec_may_say_itself_whose_fault_it_is(
    monkeypatch: pytest.MonkeyPatch, error: StreamerError
) -> None:
    codec = JsonCodec()
    monkeypatch.setattr(codec, "encode", Mock(side_effect=error))
    with pytest.raises(type(error), match=str(error)):
        fed(partition(replace(settings(), codec=codec)), [record(7, "a", HOUR)])
