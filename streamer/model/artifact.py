"""A model on disk: data, not code.

A folder with `model.tflite` (one step of the network), `weights.npz` (for a warm start), `state.npz` (state
after the last row of its history) and `manifest.json`. Hashes detect damage, not forgery: `manifest.sig` does.
"""

import importlib.metadata
import platform
import re
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from streamer.errors import ArtifactError
from streamer.model import arrays
from streamer.model.arrays import Array
from streamer.model.manifest import MAX_MANIFEST_BYTES, FileEntry, Manifest, model_id
from streamer.model.signature import MAX_SIGNATURE_BYTES, SIGNATURE, sign, verify

MODEL, WEIGHTS, STATE, MANIFEST = "model.tflite", "weights.npz", "state.npz", "manifest.json"
FILES = (MODEL, WEIGHTS, STATE)
"""All files but the manifest, which is written last: where it is, all are."""

MAX_FILE_BYTES = 256 << 20

_PACKAGES = ("ai-edge-litert", "keras", "numpy", "streamer", "tensorflow", "tensorflow-cpu")
_ID = re.compile(r"-?\d{4,}T\d{4}Z-[0-9a-f]{8}")


@dataclass(frozen=True, slots=True, eq=False)
class Artifact:
    """A model in memory.

    model: the `.tflite` file. weights: by `layer/kind`. state: of the forecaster, after the row at `as_of`.
    """

    manifest: Manifest
    model: bytes
    weights: Mapping[str, Array]
    state: Mapping[str, Array]

    @classmethod
    def build(
        cls, manifest: Manifest, model: bytes, weights: Mapping[str, Array], state: Mapping[str, Array]
    ) -> "Artifact":
        """Complete `manifest` by the id and the hashes of the files."""
        contents = {MODEL: model, WEIGHTS: arrays.pack(weights), STATE: arrays.pack(state)}
        manifest = replace(
            manifest,
            id=model_id(manifest, contents[WEIGHTS], contents[STATE]),
            files={name: FileEntry.of(data) for name, data in contents.items()},
        )
        return cls(manifest, model, weights, state)

    @property
    def id(self) -> str:
        """Name in the store and in forecasts."""
        return self.manifest.id

    def contents(self, key: bytes | None = None) -> dict[str, bytes]:
        """Bytes by file name, the manifest last, and its signature before it where there is a key."""
        manifest = self.manifest.to_bytes()
        return {
            MODEL: self.model,
            WEIGHTS: arrays.pack(self.weights),
            STATE: arrays.pack(self.state),
            **({} if key is None else {SIGNATURE: sign(manifest, key)}),
            MANIFEST: manifest,
        }


def parse(contents: Mapping[str, bytes], where: str, key: bytes | None = None) -> Artifact:
    """Check the bytes by file name and read them; `where` names their place in the ArtifactError raised.

    key: with one, the signature is checked before anything is read.
    """
    try:
        if key is not None and MANIFEST in contents:
            verify(contents[MANIFEST], contents.get(SIGNATURE), key)
        return _parse(contents)
    except ArtifactError as error:
        raise ArtifactError(f"{where}: {error}") from error


def _parse(contents: Mapping[str, bytes]) -> Artifact:
    if MANIFEST not in contents:
        raise ArtifactError(f"{MANIFEST} is missing: no model, or one that was never written whole")
    manifest = Manifest.from_bytes(contents[MANIFEST])
    if set(manifest.files) != set(FILES):
        foreign = ", ".join(sorted(set(manifest.files) ^ set(FILES)))
        raise ArtifactError(f"{MANIFEST} must name {', '.join(FILES)} and nothing else, differs in {foreign}")
    for name in FILES:
        _check(name, contents, manifest.files[name])
    check_id(manifest.id)
    if manifest.id != model_id(manifest, contents[WEIGHTS], contents[STATE]):
        raise ArtifactError(f"{MANIFEST} has the id {manifest.id} of another model: fetch it anew")
    return Artifact(manifest, contents[MODEL], _unpack(WEIGHTS, contents), _unpack(STATE, contents))


def _check(name: str, contents: Mapping[str, bytes], entry: FileEntry) -> None:
    if name not in contents:
        raise ArtifactError(f"{name} is missing: fetch or train the model anew")
    if FileEntry.of(contents[name]) != entry:
        raise ArtifactError(f"{name} does not match its hash in {MANIFEST}: fetch or train it anew")


def _unpack(name: str, contents: Mapping[str, bytes]) -> dict[str, Array]:
    try:
        return arrays.unpack(contents[name])
    except ValueError as error:
        raise ArtifactError(f"{name} cannot be read ({error}): fetch or train the model anew") from error


def check_id(value: str) -> str:
    """`value` itself if it has the form of a model id (and so is a safe file name); raises ArtifactError."""
    if not _ID.fullmatch(value):
        raise ArtifactError(f"{value!r} is no model id, which looks like 20180101T0000Z-1a2b3c4d")
    return value


def limit(name: str) -> int:
    """Largest size in bytes of the file `name` of an artifact."""
    return {MANIFEST: MAX_MANIFEST_BYTES, SIGNATURE: MAX_SIGNATURE_BYTES}.get(name, MAX_FILE_BYTES)


def write(artifact: Artifact, folder: Path, key: bytes | None = None) -> None:
    """Write all files to a temporary folder and rename it to `folder`; raises ArtifactError.

    A folder that is there already is replaced. key: signs the model.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    except OSError as error:
        raise ArtifactError(f"cannot write a model to {folder}: {error.strerror}") from error
    try:
        for name, data in artifact.contents(key).items():
            (temporary / name).write_bytes(data)
        if folder.exists():
            folder.rename(temporary / "replaced")  # a folder cannot be renamed over another
        temporary.rename(folder)
        shutil.rmtree(folder / "replaced", ignore_errors=True)
    except OSError as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise ArtifactError(f"cannot write a model to {folder}: {error.strerror}") from error


def read(folder: Path, key: bytes | None = None) -> Artifact:
    """Read and verify the model in `folder`; raises ArtifactError naming the file and what to do.

    key: with one, a model that it did not sign is refused.
    """
    contents = {}
    for name in (*FILES, SIGNATURE, MANIFEST):
        path = folder / name
        try:
            if path.stat().st_size > limit(name):
                raise ArtifactError(f"{path} has more than {limit(name)} bytes: it is no file of a model")
            contents[name] = path.read_bytes()
        except FileNotFoundError:
            continue
        except OSError as error:
            raise ArtifactError(f"cannot read {path}: {error.strerror}") from error
    return parse(contents, str(folder), key)


def environment() -> dict[str, str]:
    """Package versions and processor of this process."""
    found = {"python": platform.python_version(), "machine": platform.machine(), "processor": _processor()}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass  # no Linux: what Python knows has to do
    return platform.processor()
