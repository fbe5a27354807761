"""What a codec refuses, of the feed or of the forecasts, and what comes of it in a partition."""

import json
from dataclasses import replace

import hypothesis
from hypothesis import given
from hypothesis import strategies as st

from streamer.codecs.json_text import JsonCodec
from streamer.decoding import Decoder
from streamer.errors import DecodeError
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
