"""Snapshots as bytes: versioned, checksummed, compressed, and nothing but data.

Layout: magic (8), format version (u16), SHA-256 of the rest (32), zlib of: length of the JSON header (u32), JSON
header `{"meta": ..., "arrays": [[name, dtype, shape], ...]}`, the arrays' bytes one behind the other.
"""

import hashlib
import json
import math
import struct
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from streamer.core.features import State
from streamer.errors import SnapshotError

FORMAT = 1
_MAGIC = b"STREAMER"
_HEAD = struct.Struct("<8sH32s")
_LENGTH = struct.Struct("<I")
_DTYPES = frozenset({"<f8", "<f4", "<i8", "|b1"})
_MAX_PAYLOAD = 256 * 2**20  # a damaged or hostile snapshot must not unpack without end


def pack(meta: Mapping[str, Any], arrays: State) -> bytes:
    """Bytes that hold `meta` (JSON values) and `arrays` (float64, float32, int64 or bool)."""
    listed = []
    for name, array in arrays.items():
        if array.dtype.str not in _DTYPES:
            raise TypeError(f"array {name!r} has dtype {array.dtype}, which a snapshot does not hold")
        listed.append([name, array.dtype.str, list(array.shape)])
    header = json.dumps({"meta": meta, "arrays": listed}).encode()
    payload = b"".join([_LENGTH.pack(len(header)), header, *(a.tobytes() for a in arrays.values())])
    body = zlib.compress(payload, 6)
    return _HEAD.pack(_MAGIC, FORMAT, hashlib.sha256(body).digest()) + body


def unpack(data: bytes) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The `(meta, arrays)` that were packed; SnapshotError says what is wrong with anything else."""
    if len(data) < _HEAD.size or not data.startswith(_MAGIC):
        raise SnapshotError("this is no snapshot of streamer")
    _, version, digest = _HEAD.unpack_from(data)
    if version < 1:
        raise SnapshotError("the snapshot is damaged: there was never a format 0")
    if version > FORMAT:
        raise NewerSnapshotError(
            f"the snapshot has format {version}, this streamer reads up to {FORMAT}: upgrade streamer"
        )
    body = data[_HEAD.size :]
    if hashlib.sha256(body).digest() != digest:
        raise SnapshotError("the snapshot is damaged: its checksum does not fit")
    try:
        return _parse(_inflate(body))
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError, struct.error, zlib.error) as error:
        raise SnapshotError(f"the snapshot cannot be read: {error}") from error


def _inflate(body: bytes) -> bytes:
    inflater = zlib.decompressobj()
    payload = inflater.decompress(body, _MAX_PAYLOAD)
    if not inflater.eof:
        raise ValueError(f"it is cut short, or unpacks to more than {_MAX_PAYLOAD} bytes")
    return payload


def _parse(payload: bytes) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    (length,) = _LENGTH.unpack_from(payload)
    at = _LENGTH.size + length
    header = json.loads(payload[_LENGTH.size : at])
    arrays = {}
    for name, dtype, shape in header["arrays"]:
        if dtype not in _DTYPES:
            raise ValueError(f"array {name!r} has dtype {dtype!r}")
        count = math.prod(shape)
        arrays[name] = np.frombuffer(payload, dtype, count, at).reshape(shape).copy()
        at += count * np.dtype(dtype).itemsize
    return header["meta"], arrays


class NewerSnapshotError(SnapshotError):
    """A snapshot of a newer format: it must not be overwritten."""
