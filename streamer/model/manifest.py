"""What a model says about itself, as JSON that is checked when it is read."""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from streamer.core.adjustment import NEVER
from streamer.core.levels import Change
from streamer.errors import ArtifactError
from streamer.model.spec import FitSpec, LayerSpec, NetworkSpec

FORMAT_VERSION = 1
MAX_MANIFEST_BYTES = 4 << 20  # 2,048 symbols of 64 characters with their gate figures are well below 1 MiB


@dataclass(frozen=True, slots=True)
class FileEntry:
    """Size in bytes and sha256 (hex) of one file of an artifact."""

    size: int
    sha256: str

    @classmethod
    def of(cls, data: bytes) -> "FileEntry":
        """Entry of a file with these contents."""
        return cls(len(data), hashlib.sha256(data).hexdigest())


@dataclass(frozen=True, slots=True)
class TrainingSpan:
    """History that a model was trained and replayed on: first and last grid time (ms), and ticks."""

    first: int
    last: int
    rows: int


@dataclass(frozen=True, slots=True)
class Manifest:
    """Description of a model.

    change: that of each symbol. step: ms. features: names of each symbol's features. gate: the gate's figures.
    environment: package versions and processor, as forecasts are equal bit for bit only on the same.
    files: size and hash by file name. id: see `model_id`. adjusted: number of the last adjustment (`core.adjustment`)
    that its history had. pool: of how many streams the histories were that network and experts were fitted on.
    learned: the span of the stream that it was taken over from, None where it was trained for its own.
    """

    symbols: tuple[str, ...]
    targets: tuple[str, ...]
    change: tuple[Change, ...]
    step: int
    features: tuple[str, ...]
    network: NetworkSpec
    fit: FitSpec
    span: TrainingSpan
    gate: Mapping[str, Any]
    environment: Mapping[str, str]
    files: Mapping[str, FileEntry] = field(default_factory=dict)
    id: str = ""
    format_version: int = FORMAT_VERSION
    adjusted: int = NEVER
    pool: int = 1
    learned: TrainingSpan | None = None

    @property
    def as_of(self) -> int:
        """Grid time (ms) of the last row of its history."""
        return self.span.last

    @property
    def trained(self) -> TrainingSpan:
        """What it has learned from, whatever stream's."""
        return self.learned or self.span

    def essentials(self) -> bytes:
        """What makes the model itself, apart from its arrays: the same for the same data and settings."""
        body = {name: _plain(getattr(self, name)) for name in _ESSENTIALS}
        return _canonical(body)

    def to_bytes(self) -> bytes:
        """JSON with a checksum over all the rest."""
        body = {f.name: _plain(getattr(self, f.name)) for f in dataclasses.fields(self)}
        for name, value in (("pool", 1), ("learned", None)):
            if body[name] == value:
                del body[name]  # as versions before there was any wrote it, and read it
        body["checksum"] = hashlib.sha256(_canonical(body)).hexdigest()
        return json.dumps(body, indent=2, sort_keys=True).encode() + b"\n"

    @classmethod
    def from_bytes(cls, data: bytes) -> "Manifest":
        """Read what `to_bytes` wrote; raises ArtifactError."""
        body = _parse(data)
        if body.get("format_version") != FORMAT_VERSION:
            found = body.get("format_version")
            newer = isinstance(found, int) and found > FORMAT_VERSION
            remedy = "upgrade streamer" if newer else "train the model anew"
            raise ArtifactError(f"manifest.json has format version {found!r}, known is {FORMAT_VERSION}: {remedy}")
        checksum = body.pop("checksum", None)
        if checksum != hashlib.sha256(_canonical(body)).hexdigest():
            raise ArtifactError("manifest.json does not match its checksum: fetch or train it anew")
        try:
            return cls(**_typed(body))
        except (TypeError, ValueError, KeyError, AttributeError) as error:
            raise ArtifactError(f"manifest.json is incomplete ({error}): fetch or train it anew") from error


_EARLIEST, _LATEST = -62_135_596_800_000, 253_402_300_799_999  # ms: the years 1 to 9999, all that ids can name
_ESSENTIALS = ("symbols", "targets", "change", "step", "features", "network", "fit", "span", "format_version")


def model_id(manifest: Manifest, weights: bytes, state: bytes) -> str:
    """Id such as `20180101T0000Z-1a2b3c4d`: the end of the history, and a hash of what was learned."""
    digest = hashlib.sha256()
    for part in (weights, state, manifest.essentials()):
        digest.update(hashlib.sha256(part).digest())
    as_of = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=manifest.as_of)
    return f"{as_of:%Y%m%dT%H%MZ}-{digest.hexdigest()[:8]}"


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    return value


def _canonical(body: Any) -> bytes:
    return json.dumps(body, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def _parse(data: bytes) -> dict[str, Any]:
    if len(data) > MAX_MANIFEST_BYTES:
        raise ArtifactError(f"manifest.json has over {MAX_MANIFEST_BYTES} bytes: it is no manifest")
    try:
        body = json.loads(data, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise ArtifactError(f"manifest.json is no JSON ({error}): fetch or train the model anew") from error
    if not isinstance(body, dict):
        raise ArtifactError("manifest.json is no JSON object: fetch or train the model anew")
    return body


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


def _typed(body: dict[str, Any]) -> dict[str, Any]:
    layers = tuple(LayerSpec(**layer) for layer in body["network"]["layers"])
    learned = body.get("learned")
    if not isinstance(body["id"], str):
        raise ValueError("id must be a string")
    return body | {
        "symbols": _names(body["symbols"]),
        "targets": _names(body["targets"]),
        "features": _names(body["features"]),
        "change": _changes(body),
        "step": _integer(body["step"]),
        "adjusted": _integer(body.get("adjusted", NEVER)),
        "pool": _integer(body.get("pool", 1)),
        "network": NetworkSpec(**{**body["network"], "layers": layers}),
        "fit": FitSpec(**body["fit"]),
        "span": _span(body["span"]),
        "learned": None if learned is None else _span(learned),
        "gate": dict(body["gate"].items()),
        "environment": dict(body["environment"].items()),
        "files": {name: FileEntry(**entry) for name, entry in body["files"].items()},
    }


def _span(body: Any) -> TrainingSpan:
    span = TrainingSpan(**{name: _integer(value) for name, value in body.items()})
    if not _EARLIEST <= span.last <= _LATEST:
        raise ValueError(f"{span.last} is no time")
    return span


def _changes(body: dict[str, Any]) -> tuple[Change, ...]:
    changes = tuple(Change(name) for name in _names(body["change"]))
    if len(changes) != len(body["symbols"]) or Change.AUTO in changes:
        raise ValueError("change must say what it is of each symbol")
    return changes


def _integer(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError(f"{value!r} is no integer")
    return value


def _names(values: Any) -> tuple[str, ...]:
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise ValueError("names must be a list of strings")
    return tuple(values)
