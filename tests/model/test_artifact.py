import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from streamer.errors import ArtifactError
from streamer.model import artifact as artifacts
from streamer.model.artifact import FILES, MANIFEST, Artifact, read, write
from streamer.model.manifest import MAX_MANIFEST_BYTES, FileEntry, Manifest, model_id
from tests.model.helpers import STEP, artifact, bits

ALL = (*FILES, MANIFEST)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(artifact(), tmp_path / "model")
    return tmp_path / "model"


def rewrite_manifest(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the manifest and give it the right checksum again, as a forger or another version would."""
    body = json.loads((folder / MANIFEST).read_bytes())
    body.pop("checksum")
    change(body)
    canonical = json.dumps(body, sort_keys=True, separators=(",", ":")).encode()
    body["checksum"] = hashlib.sha256(canonical).hexdigest()
    (folder / MANIFEST).write_text(json.dumps(body), encoding="utf-8")


def test_an_artifact_is_read_as_it_was_written(folder: Path) -> None:
    written, found = artifact(), read(folder)
    assert found.manifest == written.manifest
    assert found.model == written.model
    assert bits(found.weights) == bits(written.weights)
    assert bits(found.state) == bits(written.state)
    assert sorted(path.name for path in folder.parent.iterdir()) == ["model"], "nothing temporary is left"


def test_an_artifact_replaces_the_one_that_was_there(folder: Path) -> None:
    write(artifact(seed=1), folder)
    assert read(folder).id == artifact(seed=1).id
    assert sorted(path.name for path in folder.iterdir()) == sorted(ALL)


def test_the_id_names_the_end_of_the_history_and_what_was_learned() -> None:
    first = artifact(as_of=1_514_764_800_000)
    assert first.id.startswith("20180101T0000Z-")
    assert first.id == artifact(as_of=1_514_764_800_000).id
    assert first.id != artifact(as_of=1_514_764_800_000, seed=1).id
    other = Artifact.build(replace(first.manifest, targets=("A",)), first.model, first.weights, first.state)
    assert other.id != first.id


def test_gate_figures_and_environment_do_not_change_the_id() -> None:
    first = artifact()
    elsewhere = replace(first.manifest, gate={"ratio": 0.9}, environment={"machine": "y"})
    assert Artifact.build(elsewhere, first.model, first.weights, first.state).id == first.id


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("place", [0.0, 0.5, 0.99])
def test_a_flipped_byte_is_found(folder: Path, name: str, place: float) -> None:
    data = bytearray((folder / name).read_bytes())
    data[int(place * len(data))] ^= 1
    (folder / name).write_bytes(data)
    with pytest.raises(ArtifactError, match=name):
        read(folder)


@pytest.mark.parametrize("name", ALL)
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(ArtifactError, match=rf"{name} is missing"):
        read(folder)


@pytest.mark.parametrize("name", ALL)
def test_a_file_cut_short_is_found(folder: Path, name: str) -> None:
    data = (folder / name).read_bytes()
    (folder / name).write_bytes(data[: len(data) // 2])
    with pytest.raises(ArtifactError, match=name):
        read(folder)


def test_a_figure_changed_in_the_manifest_is_found(folder: Path) -> None:
    text = (folder / MANIFEST).read_text(encoding="utf-8")
    (folder / MANIFEST).write_text(text.replace('"machine": "x"', '"machine": "y"'), encoding="utf-8")
    with pytest.raises(ArtifactError, match="does not match its checksum"):
        read(folder)


def test_a_newer_format_asks_for_an_upgrade(folder: Path) -> None:
    rewrite_manifest(folder, lambda body: body.update(format_version=2))
    with pytest.raises(ArtifactError, match=r"format version 2.*upgrade streamer"):
        read(folder)


def test_a_foreign_file_name_is_refused(folder: Path) -> None:
    entry = {"size": 1, "sha256": "0" * 64}
    rewrite_manifest(folder, lambda body: body["files"].update({"../../etc/passwd": entry}))
    with pytest.raises(ArtifactError, match="and nothing else"):
        read(folder)


def test_an_id_that_is_a_path_is_refused(folder: Path) -> None:
    rewrite_manifest(folder, lambda body: body.update(id="../../elsewhere"))
    with pytest.raises(ArtifactError, match="is no model id"):
        read(folder)


def test_a_manifest_that_describes_another_model_is_refused(folder: Path) -> None:
    """The hashes of the files hold, but the symbols are not those that it was trained on."""
    rewrite_manifest(folder, lambda body: body.update(symbols=["B", "A"]))
    with pytest.raises(ArtifactError, match="of another model"):
        read(folder)


@pytest.mark.parametrize(
    "change",
    [
        lambda body: body.pop("span"),
        lambda body: body.update(unknown=1),
        lambda body: body.update(symbols="AB"),
        lambda body: body.update(files=[]),
        lambda body: body["network"].update(layers=[]),
        lambda body: body["network"].update(mode="other"),
        lambda body: body.update(id=7),
        lambda body: body["span"].update(last="late"),
        lambda body: body["span"].update(last=10**30),
        lambda body: body.update(step=None),
        lambda body: body.update(change="log_return"),
        lambda body: body.update(change=["log_return"]),
        lambda body: body.update(change=["log_return", "auto"]),
        lambda body: body.update(change=["log_return", "ratio"]),
    ],
)
def test_a_manifest_of_the_wrong_form_is_refused(folder: Path, change: Callable[[Any], object]) -> None:
    rewrite_manifest(folder, change)
    with pytest.raises(ArtifactError, match=MANIFEST):
        read(folder)


@pytest.mark.parametrize("text", ["[]", "null", "", '{"format_version": NaN}', "[" * 100_000, "\ud800"])
def test_json_that_is_no_manifest_is_refused(text: str) -> None:
    with pytest.raises(ArtifactError, match=MANIFEST):
        Manifest.from_bytes(text.encode(errors="surrogatepass"))


def test_a_manifest_beyond_the_limit_is_not_read(folder: Path) -> None:
    (folder / MANIFEST).write_bytes(b" " * (MAX_MANIFEST_BYTES + 1))
    with pytest.raises(ArtifactError, match=rf"{MANIFEST} has more than"):
        read(folder)


def test_a_file_beyond_the_limit_is_not_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(artifacts, "MAX_FILE_BYTES", 10)
    with pytest.raises(ArtifactError, match=r"has more than 10 bytes"):
        read(folder)


def test_a_pickle_among_the_arrays_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "evil.npz", h0=np.array([object()], dtype=object))
    whole = artifact()
    contents = whole.contents() | {"state.npz": (tmp_path / "evil.npz").read_bytes()}
    entry = FileEntry.of(contents["state.npz"])
    named = replace(whole.manifest, files={**whole.manifest.files, "state.npz": entry})
    named = replace(named, id=model_id(named, contents["weights.npz"], contents["state.npz"]))
    contents[MANIFEST] = named.to_bytes()
    with pytest.raises(ArtifactError, match=r"state\.npz cannot be read"):
        artifacts.parse(contents, "here")


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    with pytest.raises(ArtifactError, match=r"cannot write a model to .*file/model"):
        write(artifact(), tmp_path / "file" / "model")


def test_the_environment_names_versions_and_processor() -> None:
    assert {"python", "machine", "processor", "numpy", "ai-edge-litert"} <= set(artifacts.environment())


def test_the_time_of_an_id_is_that_of_the_last_row() -> None:
    assert artifact(as_of=STEP).id.startswith("19700101T0001Z-")
