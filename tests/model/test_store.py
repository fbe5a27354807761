import errno
import json
import logging
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from streamer.errors import ArtifactError, ConfigError
from streamer.model.artifact import MANIFEST
from streamer.model.kept import Checkpoint
from streamer.model.manifest import MAX_MANIFEST_BYTES
from streamer.model.store import ModelStore, quote_name
from tests.model.helpers import STEP, artifact, bits

STREAM = "prices-0"

AWKWARD = [
    "",
    ".",
    "..",
    "...",
    "/",
    "../../escaped",
    "/absolute",
    "a/b",
    "a\\b",
    "C:\\x",
    "~",
    "~root",
    "a%2Fb",
    "%",
    "%_",
    "%2E",
    "swaps",
    ".hidden",
    "*?[x]",
    "nul\0byte",
    "new\nline",
    "ü€😀",
    "\ud800",
    "x" * 201,
    "x" * 10_000,
    "x" * 9_999 + "y",
    "ü" * 100,
]


@pytest.fixture(params=["local", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ModelStore:
    url = str(tmp_path / "models") if request.param == "local" else f"memory:/{tmp_path}/models"
    return ModelStore(url, keep=2)


def reopened(store: ModelStore) -> ModelStore:
    """The same store in another process: nothing cached."""
    return ModelStore(store.url, store.keep)


def put(store: ModelStore, name: str, data: bytes | None, model_id: str) -> None:
    """Replace a file of a stored model behind the store's back, or remove it."""
    fs, root = fsspec.core.url_to_fs(store.url)
    path = f"{root}/{quote_name(STREAM)}/{model_id}/{name}"
    if data is None:
        fs.rm_file(path)
    else:
        fs.pipe_file(path, data)


def test_a_model_is_loaded_as_it_was_saved(store: ModelStore) -> None:
    saved = artifact()
    store.save(STREAM, saved)
    loaded = reopened(store).load(STREAM, saved.id)
    assert loaded.manifest == saved.manifest
    assert loaded.model == saved.model
    assert bits(loaded.state) == bits(saved.state)


def test_a_model_is_fetched_once(store: ModelStore) -> None:
    saved = artifact()
    store.save(STREAM, saved)
    other = reopened(store)
    first = other.load(STREAM, saved.id)
    put(store, "model.tflite", None, saved.id)
    assert other.load(STREAM, saved.id) is first


def test_models_are_listed_newest_first_by_stream(store: ModelStore) -> None:
    for as_of in (5, 9, 7):
        store.save(STREAM, artifact(as_of=as_of * STEP))
    store.save("other", artifact(as_of=8 * STEP))
    assert [manifest.as_of for manifest in store.list(STREAM)] == [9 * STEP, 7 * STEP, 5 * STEP]
    assert [manifest.as_of for manifest in store.list("other")] == [8 * STEP]


def test_nothing_is_listed_of_an_unknown_stream(store: ModelStore) -> None:
    assert list(store.list("unknown")) == []
    assert list(store.swaps("unknown")) == []
    assert list(store.prune("unknown", set())) == []


def test_a_model_saved_by_another_process_is_listed(store: ModelStore) -> None:
    assert list(store.list(STREAM)) == []
    reopened(store).save(STREAM, artifact())
    assert [manifest.id for manifest in store.list(STREAM)] == [artifact().id]


def test_saving_again_leaves_one_sound_model_and_nothing_temporary(tmp_path: Path) -> None:
    store = ModelStore(str(tmp_path), keep=2)
    store.save(STREAM, artifact())
    put(store, "model.tflite", b"damaged", artifact().id)
    store.save(STREAM, artifact())
    assert reopened(store).load(STREAM, artifact().id).model == artifact().model
    names = sorted(path.name for path in (tmp_path / STREAM / artifact().id).iterdir())
    assert names == ["manifest.json", "model.tflite", "state.npz", "weights.npz"]


def test_a_partial_upload_is_never_listed(store: ModelStore) -> None:
    store.save(STREAM, artifact())
    put(store, MANIFEST, None, artifact().id)
    assert list(store.list(STREAM)) == []
    with pytest.raises(ArtifactError, match=r"manifest\.json is missing"):
        reopened(store).load(STREAM, artifact().id)


def test_a_damaged_model_is_refused_with_its_place(store: ModelStore) -> None:
    store.save(STREAM, artifact())
    put(store, "weights.npz", b"PK", artifact().id)
    with pytest.raises(ArtifactError, match=rf"models/{STREAM}/{artifact().id}: weights\.npz"):
        reopened(store).load(STREAM, artifact().id)


@pytest.mark.parametrize("contents", [b"{}", b" " * (MAX_MANIFEST_BYTES + 1)], ids=["no manifest", "too large for one"])
def test_an_unreadable_manifest_is_logged_and_hides_no_other(
    store: ModelStore, caplog: pytest.LogCaptureFixture, contents: bytes
) -> None:
    for as_of in (5, 9):
        store.save(STREAM, artifact(as_of=as_of * STEP))
    damaged = artifact(as_of=9 * STEP).id
    put(store, MANIFEST, contents, damaged)
    with caplog.at_level(logging.WARNING):
        assert [manifest.as_of for manifest in store.list(STREAM)] == [5 * STEP]
    assert damaged in caplog.text


def test_pruning_keeps_the_newest_and_the_protected(store: ModelStore) -> None:
    made = [artifact(as_of=as_of * STEP) for as_of in range(1, 6)]
    for model in made:
        store.save(STREAM, model)
    removed = store.prune(STREAM, {made[0].id, "unknown"})
    assert set(removed) == {made[1].id, made[2].id}
    assert [manifest.id for manifest in store.list(STREAM)] == [made[4].id, made[3].id, made[0].id]
    with pytest.raises(ArtifactError, match="missing"):
        store.load(STREAM, made[1].id)


def test_swaps_are_recorded_once_and_come_back_in_order(store: ModelStore) -> None:
    later = {"model": artifact().id, "after": 1_000, "start": "trained"}
    earlier = {"model": artifact().id, "after": 900, "start": "ring"}
    for swap in (later, earlier, later):
        store.record_swap(STREAM, swap)
    assert list(reopened(store).swaps(STREAM)) == [earlier, later]
    assert list(store.list(STREAM)) == [], "swaps are no models"


def test_swaps_keep_their_order_where_time_restarts(store: ModelStore) -> None:
    first = {"model": "m1", "after": 1_000, "restarts": 0}
    second = {"model": "m2", "after": 500, "restarts": 1}
    third = {"model": "m1", "after": 1_000, "restarts": 1}
    for swap in (third, second, first):
        store.record_swap(STREAM, swap)
    assert list(store.swaps(STREAM)) == [first, second, third]


def test_of_two_swaps_after_one_tick_the_later_is_kept(store: ModelStore) -> None:
    for model in ("m1", "persistence"):
        store.record_swap(STREAM, {"model": model, "after": 1_000, "restarts": 0})
    assert [swap["model"] for swap in store.swaps(STREAM)] == ["persistence"]


def test_streams_are_listed_by_name_whatever_that_is(store: ModelStore) -> None:
    names = ["prices-0", "a/b", "..", "ü€😀", "%2E"]
    for name in names:
        store.record_swap(name, {"model": "m", "after": 1})
    store.record_swap("x" * 201, {"model": "m", "after": 1})
    assert store.streams() == sorted(names), "of the long one only a hash is kept"


@pytest.mark.parametrize(
    "record",
    [
        "{",
        "[]",
        '{"after": 7}',
        '{"after": 7, "model": null}',
        '{"after": true, "model": "m"}',
        '{"after": 7, "model": "m", "ticks": "2"}',
        '{"after": 7, "model": "m", "ticks": -1}',
        '{"after": 7, "model": "m", "more": 1}',
    ],
)
def test_a_damaged_record_of_a_swap_is_named(store: ModelStore, record: str) -> None:
    store.record_swap(STREAM, {"model": "m", "after": 7})
    put(store, "0-7.json", record.encode(), "swaps")
    with pytest.raises(ArtifactError, match=r"0-7\.json is no record of a swap"):
        store.swaps(STREAM)


@pytest.mark.parametrize("name", AWKWARD)
def test_any_stream_name_is_one_folder_inside_the_store(tmp_path: Path, name: str) -> None:
    store = ModelStore(str(tmp_path / "models"), keep=1)
    store.save(name, artifact())
    store.record_swap(name, {"model": artifact().id, "after": 1})
    assert reopened(store).load(name, artifact().id).id == artifact().id
    assert [manifest.id for manifest in store.list(name)] == [artifact().id]
    assert len(store.swaps(name)) == 1
    assert len(list((tmp_path / "models").iterdir())) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["models"]


def test_different_streams_never_share_a_folder() -> None:
    assert len({quote_name(name) for name in AWKWARD}) == len(AWKWARD)


@pytest.mark.parametrize(
    "model_id", ["", "..", "../other/20180101T0000Z-1a2b3c4d", "/etc", "20180101T0000Z-1a2b3c4d/.."]
)
def test_a_model_id_that_is_a_path_is_refused(store: ModelStore, model_id: str) -> None:
    with pytest.raises(ArtifactError, match="is no model id"):
        store.load(STREAM, model_id)


def test_a_place_that_refuses_is_named_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    url = str(tmp_path / "file" / "models")
    with pytest.raises(ArtifactError, match=rf"models\.url {url}: cannot write there") as caught:
        ModelStore(url, keep=1).save(STREAM, artifact())
    assert "\n" not in str(caught.value)


def test_an_unknown_protocol_is_named() -> None:
    with pytest.raises(ConfigError, match=r"models\.url nowhere://x"):
        ModelStore("nowhere://x", keep=1)


def test_a_full_disk_is_said_and_the_partial_model_is_not_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    write, room = MemoryFileSystem.pipe_file, iter(range(2))

    def write_two(self: MemoryFileSystem, path: str, value: bytes, **options: Any) -> None:
        if next(room, None) is None:
            raise OSError(errno.ENOSPC, "No space left on device")
        write(self, path, value, **options)

    monkeypatch.setattr(MemoryFileSystem, "pipe_file", write_two)
    store = ModelStore("memory://full", keep=1)
    with pytest.raises(ArtifactError, match=r"models\.url memory://full: .*No space left on device"):
        store.save(STREAM, artifact())
    assert list(store.list(STREAM)) == []


def test_a_record_of_a_swap_holds_what_it_was_given(tmp_path: Path) -> None:
    """Whoever looks into the folder finds plain JSON, a file per swap."""
    swap = {"model": artifact().id, "after": 60_000, "start": "trained"}
    ModelStore(str(tmp_path), keep=1).record_swap(STREAM, swap)
    path = tmp_path / STREAM / "swaps" / "0-60000.json"
    assert json.loads(path.read_text(encoding="utf-8")) == swap


def test_what_has_no_size_is_not_read(tmp_path: Path) -> None:
    """A device has no end either: a link to one would take all memory."""
    place = Checkpoint(0, 7, 0, True, "m")
    store = ModelStore(str(tmp_path), keep=1)
    store.save_checkpoint(STREAM, place, b"snapshot")
    path = tmp_path / STREAM / "checkpoints" / place.name
    path.unlink()
    path.symlink_to("/proc/self/status")
    assert store.load_checkpoint(STREAM, place) == b""
