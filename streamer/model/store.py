"""Catalogue of models by stream: a folder or object storage, whatever `fsspec` reaches."""

import json
import logging
import threading
import uuid
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import fsspec
from fsspec.implementations.local import LocalFileSystem

from streamer.errors import ArtifactError, ConfigError
from streamer.model import artifact as artifacts
from streamer.model.artifact import MANIFEST, Artifact
from streamer.model.kept import Checkpoint
from streamer.model.manifest import Manifest
from streamer.model.signature import SIGNATURE, sign, verify

_log = logging.getLogger(__name__)

_CACHED = 8  # models: a swap reloads the champion and perhaps the one before it, of a few streams
_MAX_NAME = 200  # characters: below the 255 bytes of common file systems, with room for a suffix
_SWAPS = "swaps"
_SWAP = {"model": str, "after": int, "restarts": int, "start": str, "ticks": int, "adjusted": int}
_INPUT = "input.npz"
_CHECKPOINTS = "checkpoints"
_CHECKPOINTS_KEPT = 40  # of a stream: those of more than a month, at one a day and a swap a day less


class ModelStore:
    """Models and recorded swaps of all streams, under `url`.

    `<url>/<stream>/<model id>/` holds an artifact, `<url>/<stream>/swaps/` a JSON file per swap,
    `<url>/<stream>/input.npz` what the last training learned from, `<url>/<stream>/checkpoints/` snapshots of its
    engine. Calls block on I/O and may come from several threads. Each raises ArtifactError, naming the url, if storage
    refuses.
    """

    def __init__(self, url: str, keep: int, key: bytes | None = None) -> None:
        """Open the store at `url` (a path, or `s3://...`); ConfigError.

        keep: newest models that `prune` leaves. key: signs what is saved; what it did not sign is no model then.
        """
        if keep < 1:
            raise ValueError(f"keep must be positive, got {keep}")
        self.url = url
        self.keep = keep
        try:
            self._fs, root = fsspec.core.url_to_fs(url)
        except (ValueError, ImportError) as error:
            raise ConfigError(f"models.url {url}: {error}") from error
        self._root = str(root).rstrip("/")
        self._key = key
        self._cache: OrderedDict[tuple[str, str], Artifact] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def root(self) -> str:
        """Where that is: whole path of a folder, or what object storage calls it."""
        return self._root

    def save(self, stream: str, artifact: Artifact) -> None:
        """Store a model; the manifest goes last, so that a partial one is never listed."""
        folder = self._model(stream, artifact.id)
        with self._storage("write"):
            self._fs.makedirs(folder, exist_ok=True)
            # What is already there must not vouch for files that are being replaced.
            self._remove(f"{folder}/{MANIFEST}")
            self._remove(f"{folder}/{SIGNATURE}")
            for name, data in artifact.contents(self._key).items():
                self._put(f"{folder}/{name}", data)
        self._remember(stream, artifact)

    def load(self, stream: str, model_id: str) -> Artifact:
        """Fetch and verify a model; raises ArtifactError where it is missing, damaged, another, or not signed."""
        folder = self._model(stream, model_id)
        with self._lock:
            if (stream, model_id) in self._cache:
                self._cache.move_to_end((stream, model_id))
                return self._cache[stream, model_id]
        names = (*artifacts.FILES, SIGNATURE, MANIFEST)
        contents = {name: data for name in names if (data := self._get(f"{folder}/{name}")) is not None}
        where = f"{self.url}/{quote_name(stream)}/{model_id}"
        artifact = artifacts.parse(contents, where, self._key)
        if artifact.id != model_id:
            raise ArtifactError(f"{where} holds the model {artifact.id}: train or fetch it anew")
        self._remember(stream, artifact)
        return artifact

    def save_input(self, stream: str, data: bytes) -> None:
        """Store what the last training of a stream learned from, in place of what the one before did."""
        self._put_signed(self._stream(stream), _INPUT, _named(stream, data), data)

    def load_input(self, stream: str) -> bytes | None:
        """What `save_input` stored, None if nothing. ArtifactError where the key did not sign it."""
        return self._get_signed(self._stream(stream), _INPUT, lambda data: _named(stream, data))

    def save_checkpoint(self, stream: str, place: Checkpoint, snapshot: bytes) -> None:
        """Store the snapshot of a stream's engine at `place`, and let go of all but the newest ones."""
        folder = f"{self._stream(stream)}/{_CHECKPOINTS}"
        self._put_signed(folder, place.name, _placed(stream, place, snapshot), snapshot)
        for old in self.checkpoints(stream)[:-_CHECKPOINTS_KEPT]:
            self._forget(stream, old)

    def load_checkpoint(self, stream: str, place: Checkpoint) -> bytes | None:
        """The snapshot at `place`, None where it is gone. ArtifactError where the key did not sign it."""
        folder = f"{self._stream(stream)}/{_CHECKPOINTS}"
        return self._get_signed(folder, place.name, lambda data: _placed(stream, place, data))

    def checkpoints(self, stream: str) -> Sequence[Checkpoint]:
        """Where the stream has checkpoints, the oldest first: by the offset that follows what they hold."""
        names = self._names(f"{self._stream(stream)}/{_CHECKPOINTS}")
        found = [place for name in names if (place := Checkpoint.named(name)) is not None]
        return sorted(found, key=lambda place: (place.offset, place.partition, place.name))

    def _forget(self, stream: str, place: Checkpoint) -> None:
        with self._storage("write"):
            self._remove(f"{self._stream(stream)}/{_CHECKPOINTS}/{place.name}")

    def _put_signed(self, folder: str, name: str, signed: bytes, data: bytes) -> None:
        with self._storage("write"):
            self._fs.makedirs(folder, exist_ok=True)
            self._put(f"{folder}/{name}", (b"" if self._key is None else sign(signed, self._key)) + data)

    def _get_signed(self, folder: str, name: str, signed: Callable[[bytes], bytes]) -> bytes | None:
        """What `_put_signed` stored; `signed` gives what its signature is of."""
        data = self._get(f"{folder}/{name}")
        if data is None or self._key is None:
            return data
        signature, newline, data = data.partition(b"\n")
        try:
            verify(signed(data), signature + newline, self._key)
        except ArtifactError:
            below = folder.removeprefix(f"{self._root}/")
            raise ArtifactError(f"{self.url}/{below}/{name} is not signed by models.hmac_key: refused unread") from None
        return data

    def streams(self) -> Sequence[str]:
        """Streams that have models or swaps, by name. Of a very long name only a hash is kept: not listed."""
        folders = self._names(self._root)
        return sorted(name for folder in folders if quote_name(name := unquote(folder)) == folder)

    def list(self, stream: str) -> Sequence[Manifest]:
        """Manifests of the stream's models, newest first; one that cannot be read, or is not signed, is left out.

        The log names it.
        """
        found = []
        for folder in self._names(self._stream(stream)):
            if folder in (_SWAPS, _INPUT, _CHECKPOINTS):
                continue
            try:
                if (data := self._get(f"{self._stream(stream)}/{folder}/{MANIFEST}")) is None:
                    continue
                if self._key is not None:
                    verify(data, self._get(f"{self._stream(stream)}/{folder}/{SIGNATURE}"), self._key)
                found.append(Manifest.from_bytes(data))
            except ArtifactError as error:
                _log.warning("model %s of stream %s in %s left out: %s", folder, stream, self.url, error)
        return sorted(found, key=lambda manifest: (manifest.as_of, manifest.id), reverse=True)

    def prune(self, stream: str, protected: set[str]) -> Sequence[str]:
        """Remove all models but the newest `keep` and the protected ids; returns the ids removed.

        The checkpoints at which one of them served go with it: without it they are of no use.
        """
        doomed = [m.id for m in self.list(stream)[self.keep :] if m.id not in protected]
        for model_id in doomed:
            folder = self._model(stream, model_id)
            with self._storage("write"):
                self._remove(f"{folder}/{MANIFEST}")
                self._fs.rm(folder, recursive=True)
            with self._lock:
                self._cache.pop((stream, model_id), None)
        for place in self.checkpoints(stream) if doomed else ():
            if place.model in doomed:
                self._forget(stream, place)
        return doomed

    def record_swap(self, stream: str, swap: Mapping[str, Any]) -> None:
        """Record that a model began to serve; `after` and `restarts` (integers, the latter 0 if absent) name it.

        Recording the same swap again changes nothing; another one after the same tick takes its place.
        """
        folder = f"{self._stream(stream)}/{_SWAPS}"
        restarts, after = _moment(swap)
        with self._storage("write"):
            self._fs.makedirs(folder, exist_ok=True)
            self._put(f"{folder}/{restarts}-{after}.json", json.dumps(dict(swap), sort_keys=True).encode())

    def swaps(self, stream: str) -> Sequence[dict[str, Any]]:
        """Recorded swaps in the order in which they happened; raises ArtifactError where one cannot be read."""
        folder = f"{self._stream(stream)}/{_SWAPS}"
        found = [self._swap(f"{folder}/{name}") for name in self._names(folder) if name.endswith(".json")]
        return sorted(found, key=_moment)

    def _swap(self, path: str) -> dict[str, Any]:
        try:
            swap = json.loads(self._get(path) or b"")
            is_typed = {"model", "after"} <= swap.keys() and all(type(swap[name]) is _SWAP[name] for name in swap)
            if is_typed and swap.get("ticks", 0) >= 0:
                return dict(swap)
        except (ValueError, RecursionError, KeyError, AttributeError):
            pass  # said below
        raise ArtifactError(f"{self._fs.unstrip_protocol(path)} is no record of a swap: remove it")

    def _stream(self, stream: str) -> str:
        return f"{self._root}/{quote_name(stream)}"

    def _model(self, stream: str, model_id: str) -> str:
        return f"{self._stream(stream)}/{artifacts.check_id(model_id)}"

    def _remember(self, stream: str, artifact: Artifact) -> None:
        with self._lock:
            self._cache[stream, artifact.id] = artifact
            self._cache.move_to_end((stream, artifact.id))
            while len(self._cache) > _CACHED:
                self._cache.popitem(last=False)

    def _names(self, folder: str) -> Sequence[str]:
        """Names in `folder`, hidden ones left out; none where there is no such folder."""
        with self._storage("read"):
            self._fs.invalidate_cache()  # another process may have written there
            try:
                paths = self._fs.ls(folder, detail=False)
            except (FileNotFoundError, NotADirectoryError):
                return []
        names = (str(path).rstrip("/").rpartition("/")[2] for path in paths)
        return sorted(name for name in names if not name.startswith("."))

    def _get(self, path: str) -> bytes | None:
        """Contents of a file, or None where there is none."""
        name = path.rpartition("/")[2]
        with self._storage("read"):
            try:
                if (size := self._fs.size(path)) > artifacts.limit(name):
                    raise ArtifactError(f"{path} has more than {artifacts.limit(name)} bytes: it is foreign")
                return bytes(self._fs.cat_file(path)) if size else b""  # a device, too, would be read for ever
            except (FileNotFoundError, NotADirectoryError):
                return None

    def _put(self, path: str, data: bytes) -> None:
        """Write a file so that no reader ever sees half of it; object storage gives that by itself."""
        if not isinstance(self._fs, LocalFileSystem):
            self._fs.pipe_file(path, data)
            return
        folder, _, name = path.rpartition("/")
        temporary = f"{folder}/.{name}.{uuid.uuid4().hex}"
        try:
            self._fs.pipe_file(temporary, data)
            Path(temporary).replace(path)  # fsspec's own move copies
        except BaseException:
            self._remove(temporary)
            raise

    def _remove(self, path: str) -> None:
        if self._fs.exists(path):
            self._fs.rm_file(path)

    @contextmanager
    def _storage(self, verb: str) -> Iterator[None]:
        """Turn the storage's refusals (disk full, no permission, no such bucket) into one line."""
        try:
            yield
        except OSError as error:
            reason = error.strerror or str(error) or type(error).__name__
            raise ArtifactError(f"models.url {self.url}: cannot {verb} there ({reason})") from error


def _named(stream: str, data: bytes) -> bytes:
    """What is signed of a training's input: it is that of one stream, and no manifest."""
    return b"streamer.input\0" + stream.encode(errors="surrogatepass") + b"\0" + data


def _placed(stream: str, place: Checkpoint, data: bytes) -> bytes:
    """What is signed of a checkpoint: it is that of one stream at one place."""
    return b"streamer.checkpoint\0" + place.name.encode() + b"\0" + stream.encode(errors="surrogatepass") + b"\0" + data


def _moment(swap: Mapping[str, Any]) -> tuple[int, int]:
    """When a swap happened: how often time had restarted, and the tick; times repeat where time restarts."""
    return swap.get("restarts", 0), swap["after"]


def quote_name(name: str) -> str:
    """A file name for any string, different for different strings, that stays inside its folder."""
    quoted = quote(name, safe="", errors="surrogatepass")
    if quoted.startswith("."):  # '.', '..', and hidden files
        quoted = "%2E" + quoted[1:]
    if len(quoted) > _MAX_NAME:
        # '%_' never comes out of quoting, so that no short name can be mistaken for a long one.
        return f"%_{sha256(name.encode(errors='surrogatepass')).hexdigest()}"
    return quoted or "%_"
