"""A partition computed again from the checkpoints of one that served: the same forecasts, or why not."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aiokafka import ConsumerRecord

from streamer.core.forecaster import Forecaster
from streamer.errors import ArtifactError
from streamer.model.kept import Checkpoint
from streamer.model.store import ModelStore
from streamer.service.partition import Batch, Partition, PartitionSettings
from streamer.verification.comparison import Comparison
from streamer.verification.replay import UNJUDGED, Replay, Swaps
from tests.core.fakes import FakeForecaster, fake
from tests.model.helpers import artifact
from tests.service.test_expiry import HOUR, record, settings

STEPS = 60_000
Values = dict[int, bytes | None]


class Served:
    """A partition that serves, with a store that keeps what is to be kept."""

    def __init__(self, folder: Path, found: PartitionSettings) -> None:
        self.settings = found
        self.store = ModelStore(str(folder), keep=5)
        self.models: dict[str, FakeForecaster] = {}
        self.partition = Partition("prices", 0, found, self.load)
        self.published: Values = {}

    def load(self, stream: str, model_id: str) -> Forecaster:
        if model_id not in self.models:
            raise ArtifactError(f"{model_id} is gone")
        return self.models[model_id]

    def feed(self, records: list[ConsumerRecord]) -> None:
        """One batch."""
        batch = Batch(0)
        for each in records:
            self.partition.process(each, batch)
        self.published |= forecasts(batch)
        self.partition.save_due(batch)
        self.commit(batch)

    def swap(self, stream: str, model_id: str, model: FakeForecaster | None = None) -> None:
        """Put a model, trained on all ticks so far unless given, into service between two batches, as a worker does."""
        engine = self.partition.streams[stream].engine
        self.models[model_id] = model or fake(engine, model_id, symbols=("A",))
        ready = engine.catch_up(self.models[model_id])
        ready.advance(1000)
        event = engine.swap(ready)
        self.keep(stream)
        names = ("model", "after", "restarts", "start", "ticks", "adjusted")
        self.store.record_swap(stream, {name: getattr(event, name) for name in names})

    def keep(self, stream: str) -> None:
        """Make a checkpoint."""
        batch = Batch(self.offset)
        self.partition.save(self.partition.streams[stream], batch, keep=True)
        self.commit(batch)

    def commit(self, batch: Batch) -> None:
        self.partition.committed(batch)
        self.offset = batch.next_offset
        for stream, place, data in batch.kept:
            self.store.save_checkpoint(stream.name, place, data)

    def replay(self, first: int = 0, found: PartitionSettings | None = None) -> Replay:
        """What `streamer verify` makes of it."""
        return Replay(
            "prices", 0, found or self.settings, self.load, Swaps(self.store), None, store=self.store, first=first
        )

    def again(self, records: list[ConsumerRecord], begin: int = 0, **given: Any) -> tuple[Values, Replay]:
        """Forecasts from `begin` on, and what said so; offsets that cannot be judged are left out."""
        replay = self.replay(**given)
        start = max(replay.begin(self.store.streams(), begin), given.get("first", 0))
        found: Values = {}
        for each in records[start:]:
            batch = Batch(0)
            replay.process(each, batch)
            [(_, step)] = batch.steps
            if each.offset >= begin and step.outcome is not UNJUDGED:
                found |= {each.offset: None} | forecasts(batch)
        return found, replay


def forecasts(batch: Batch) -> Values:
    """By offset."""
    found: Values = {}
    for each in batch.records:
        if each.topic == "forecasts":
            found[int(dict(each.headers)["ce_id"].rpartition(b"-")[2])] = each.value
    return found


def ticks(count: int, key: str = "a", start: int = 0, **fields: Any) -> list[ConsumerRecord]:
    return [record(at, key, at * STEPS, 100.0 + at % 7 + at / 50, **fields) for at in range(start, start + count)]


@pytest.fixture
def served(tmp_path: Path) -> Served:
    """Sixty ticks; models begin to serve after the 20th and the 40th."""
    made = Served(tmp_path, settings(snapshot_every=1000))
    for at in range(0, 60, 10):
        made.feed(ticks(10, start=at))
        if at in (10, 30):
            made.swap("a", f"m{at}")
    return made


def test_from_its_first_tick_through_its_swaps_a_stream_is_what_it_was(served: Served) -> None:
    found, _ = served.again(ticks(60))
    assert found == served.published
    assert len(found) == 60


def test_from_the_newest_checkpoint_before_the_range_it_is_too(served: Served) -> None:
    found, replay = served.again(ticks(60), begin=45)
    assert found == {offset: served.published[offset] for offset in range(45, 60)}
    assert replay.begin(["a"], 45) == 40


def test_where_the_input_has_expired_it_goes_on_from_the_next_checkpoint(served: Served) -> None:
    found, replay = served.again(ticks(60), begin=15, first=15)
    assert found == {offset: served.published[offset] for offset in range(20, 60)}
    before, _ = served.again(ticks(18), begin=15, first=15)
    assert before == {}
    assert "a" not in replay.why


def test_without_the_model_of_a_swap_it_cannot_be_judged_until_the_next(served: Served) -> None:
    del served.models["m10"]
    found, _ = served.again(ticks(60))
    assert sorted(found) == [*range(20), *range(40, 60)]
    _, replay = served.again(ticks(30))
    assert "m10" in replay.why["a"]


def test_a_swap_whose_history_is_not_held_goes_on_from_its_own_checkpoint(tmp_path: Path) -> None:
    """The model replays more ticks than the ring that the checkpoint before the swap holds."""
    made = Served(tmp_path, settings(snapshot_every=1000))
    made.feed(ticks(25))
    model = fake(made.partition.streams["a"].engine, "late", symbols=("A",))
    made.feed(ticks(10, start=25))
    made.keep("a")
    made.feed(ticks(5, start=35))
    made.swap("a", "late", model)
    assert made.store.swaps("a")[0]["ticks"] == 15
    made.feed(ticks(20, start=40))
    found, _ = made.again(ticks(60), begin=33, first=33)
    assert found == {offset: made.published[offset] for offset in range(35, 60)}


def test_settings_that_have_changed_are_named(served: Served) -> None:
    other = replace(served.settings, engine=replace(served.settings.engine, window=7))
    found, replay = served.again(ticks(60), found=other)
    assert found == {}
    assert "other settings (window)" in replay.why["a"]


def test_what_expired_and_came_back_is_judged_in_both_its_lives(tmp_path: Path) -> None:
    made = Served(tmp_path, settings(expire=HOUR))
    first, second = ticks(30), [record(at, "a", at * STEPS + 2 * HOUR, 1.0 + at) for at in range(30, 60)]
    for number, batch in enumerate((first[:20], first[20:], second[:10], second[10:])):
        made.feed(batch)
        if number in (0, 2):
            made.swap("a", f"m{number}")
    found, _ = made.again([*first, *second])
    assert found == made.published
    assert len(found) == 60


def test_a_day_has_one_checkpoint_and_a_swap_its_own(served: Served) -> None:
    assert [(p.offset, p.model) for p in served.store.checkpoints("a")] == [
        (10, "persistence"),
        (20, "m10"),
        (40, "m30"),
    ]


def test_old_checkpoints_go_and_those_of_a_pruned_model_with_it(tmp_path: Path) -> None:
    store = ModelStore(str(tmp_path), keep=1)
    for offset in range(1, 50):
        store.save_checkpoint("a", Checkpoint(0, offset, 0, True, "persistence"), b"x")
    assert [p.offset for p in store.checkpoints("a")] == list(range(10, 50))
    models = [artifact(as_of=hour * HOUR) for hour in (1, 2)]
    for offset, model in enumerate(models, 50):
        store.save("a", model)
        store.save_checkpoint("a", Checkpoint(0, offset, 0, True, model.id), b"x")
    assert store.prune("a", set()) == [models[0].id]
    assert [p.model for p in store.checkpoints("a")][-2:] == ["persistence", models[1].id]


def test_a_checkpoint_that_the_key_did_not_sign_is_refused(tmp_path: Path) -> None:
    place = Checkpoint(0, 5, 0, True, "persistence")
    ModelStore(str(tmp_path), 1, b"one").save_checkpoint("a", place, b"x")
    assert ModelStore(str(tmp_path), 1, b"one").load_checkpoint("a", place) == b"x"
    with pytest.raises(ArtifactError, match=r"not signed by models\.hmac_key"):
        ModelStore(str(tmp_path), 1, b"two").load_checkpoint("a", place)


# --- comparison -------------------------------------------------------------------------------------------------------


def published(offset: int, value: bytes) -> ConsumerRecord:
    headers = (("ce_id", f"prices-0-{offset}".encode()),)
    return ConsumerRecord("forecasts", 0, offset, 0, 0, b"a", value, None, 1, len(value), headers)


def compared(there: dict[int, list[bytes]], here: Values, *, exact: bool = True) -> Any:
    comparison = Comparison(settings().codec, "prices-0", 0, 100)
    for offset, value in here.items():
        comparison.expect(offset, "a", value, exact=exact)
    for offset, values in there.items():
        for value in values:
            comparison.publish(published(offset, value))
    comparison.finish()
    return comparison.tally("a")


def test_each_offset_is_equal_or_it_is_said_what_is_wrong() -> None:
    one, two = b'{"yhat":{"A":1.0}}', b'{"yhat":{"A":2.0}}'
    here: Values = {0: one, 1: one, 2: one, 3: None, 4: one, 5: one}
    tally = compared({0: [one], 1: [two], 3: [one], 4: [one, one], 5: [one, two]}, here)
    assert (tally.equal, tally.different, tally.missing, tally.unexpected, tally.doubled) == (3, 2, 1, 1, 1)
    assert {each.offset: each.what for each in tally.differences}[1] == ("yhat.A: published 2.0, computed 1.0",)


def test_on_another_processor_the_last_bits_do_not_count() -> None:
    near, here = b'{"yhat":{"A":1.0000005}}', b'{"yhat":{"A":1.0}}'
    assert compared({0: [near]}, {0: here}).different == 1
    assert compared({0: [near]}, {0: here}, exact=False).within == 1
    assert compared({0: [b'{"yhat":{"A":1.00001}}']}, {0: here}, exact=False).different == 1
