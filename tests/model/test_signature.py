import json
import logging
from pathlib import Path

import pytest

from streamer.errors import ArtifactError
from streamer.model import arrays
from streamer.model import artifact as artifacts
from streamer.model.artifact import FILES, MANIFEST, WEIGHTS
from streamer.model.manifest import Manifest
from streamer.model.signature import SIGNATURE
from streamer.model.store import ModelStore
from tests.model.helpers import STEP, artifact

STREAM = "prices-0"
KEY, FOREIGN = b"k" * 32, b"f" * 32
MODEL = artifact()


@pytest.fixture
def url(tmp_path: Path) -> str:
    return str(tmp_path / "models")


def stored(url: str) -> Path:
    return Path(url) / STREAM / MODEL.id


def signed(url: str, key: bytes | None = KEY) -> ModelStore:
    """The store under `KEY`, opened after `key` has signed the model in it, or nobody."""
    ModelStore(url, 1, key).save(STREAM, MODEL)
    return ModelStore(url, 1, KEY)


@pytest.fixture
def unread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails the test if anything of a model is parsed."""

    def parsed(*_: object) -> None:
        raise AssertionError("parsed")

    monkeypatch.setattr(Manifest, "from_bytes", parsed)
    monkeypatch.setattr(arrays, "unpack", parsed)
    monkeypatch.setattr(json, "loads", parsed)


def test_a_model_that_the_key_signed_is_loaded_and_listed(url: str) -> None:
    store = signed(url)
    assert store.load(STREAM, MODEL.id).manifest == MODEL.manifest
    assert [manifest.id for manifest in store.list(STREAM)] == [MODEL.id]
    assert sorted(path.name for path in stored(url).iterdir()) == sorted([*FILES, SIGNATURE, MANIFEST])


def test_without_a_key_signed_models_are_models_like_others(url: str) -> None:
    signed(url)
    assert ModelStore(url, 1).load(STREAM, MODEL.id).id == MODEL.id


@pytest.mark.usefixtures("unread")
@pytest.mark.parametrize(("key", "reason"), [(None, "manifest.sig is missing"), (FOREIGN, "is not the manifest's")])
def test_an_unsigned_or_foreign_model_is_refused_unread(
    url: str, key: bytes | None, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    store = signed(url, key)
    with pytest.raises(ArtifactError, match=reason) as caught:
        store.load(STREAM, MODEL.id)
    assert str(caught.value).startswith(f"{url}/{STREAM}/{MODEL.id}: ")
    assert "models.hmac_key" in str(caught.value)
    with caplog.at_level(logging.WARNING):
        assert store.list(STREAM) == []
    assert MODEL.id in caplog.text
    assert reason in caplog.text


@pytest.mark.usefixtures("unread")
@pytest.mark.parametrize("signature", [b"", b"\xff" * 65, b"0" * 64 + b"\n"])
def test_whatever_else_stands_in_the_signature_is_none(url: str, signature: bytes) -> None:
    store = signed(url)
    (stored(url) / SIGNATURE).write_bytes(signature)
    with pytest.raises(ArtifactError, match="is not the manifest's"):
        store.load(STREAM, MODEL.id)


@pytest.mark.usefixtures("unread")
def test_a_manifest_that_was_changed_is_refused_unread(url: str) -> None:
    store = signed(url)
    (stored(url) / MANIFEST).write_bytes((stored(url) / MANIFEST).read_bytes() + b" ")
    with pytest.raises(ArtifactError, match="is not the manifest's"):
        store.load(STREAM, MODEL.id)


def test_a_file_that_was_changed_below_a_signed_manifest_is_refused(url: str) -> None:
    store = signed(url)
    (stored(url) / WEIGHTS).write_bytes(arrays.pack(artifact(seed=1).weights))
    with pytest.raises(ArtifactError, match=r"weights\.npz does not match its hash"):
        store.load(STREAM, MODEL.id)


def test_a_signed_model_in_the_place_of_another_is_refused(url: str) -> None:
    """The signature is good: what is wrong is the name under which somebody has put the model."""
    store = signed(url)
    elsewhere = artifact(as_of=200 * STEP).id
    stored(url).rename(stored(url).with_name(elsewhere))
    with pytest.raises(ArtifactError, match=f"holds the model {MODEL.id}"):
        store.load(STREAM, elsewhere)


def test_saving_without_a_key_leaves_no_signature_of_before(url: str) -> None:
    signed(url)
    ModelStore(url, 1).save(STREAM, MODEL)
    assert not (stored(url) / SIGNATURE).exists()


def test_what_is_not_ours_is_not_pruned(url: str) -> None:
    store = signed(url, FOREIGN)
    for as_of in (200, 300):
        store.save(STREAM, artifact(as_of=as_of * STEP))
    assert store.prune(STREAM, set()) == [artifact(as_of=200 * STEP).id]
    assert stored(url).exists()


def test_a_folder_is_signed_and_checked_as_a_store_is(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    artifacts.write(MODEL, folder, KEY)
    assert artifacts.read(folder, KEY).id == MODEL.id
    artifacts.write(MODEL, folder)
    with pytest.raises(ArtifactError, match=r"manifest\.sig is missing"):
        artifacts.read(folder, KEY)


def test_the_input_of_a_training_is_given_back_as_it_was_stored(url: str) -> None:
    for key in (None, KEY):
        store = ModelStore(url, 1, key)
        assert store.load_input("nothing") is None
        store.save_input(STREAM, b"line\nline")
        assert store.load_input(STREAM) == b"line\nline"


@pytest.mark.parametrize("key", [None, FOREIGN], ids=["unsigned", "foreign"])
def test_an_input_that_the_key_did_not_sign_is_refused(url: str, key: bytes | None) -> None:
    ModelStore(url, 1, key).save_input(STREAM, b"line\nline")
    with pytest.raises(ArtifactError, match=r"input\.npz is not signed by models\.hmac_key"):
        ModelStore(url, 1, KEY).load_input(STREAM)


def test_the_input_of_another_stream_is_refused(url: str) -> None:
    store = ModelStore(url, 1, KEY)
    store.save_input("other", b"data")
    (Path(url) / STREAM).mkdir()
    (Path(url) / "other" / "input.npz").rename(Path(url) / STREAM / "input.npz")
    with pytest.raises(ArtifactError, match="not signed"):
        store.load_input(STREAM)
