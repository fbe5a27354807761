"""Named arrays as bytes: `.npz` without pickle, the same bytes for the same arrays."""

import io
import zipfile
import zlib
from collections.abc import Mapping
from tokenize import TokenError
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

# RuntimeError: an archive that says it is encrypted, or compressed in a way that is not supported here.
_DAMAGED = (OSError, EOFError, KeyError, AttributeError, RuntimeError, TokenError, zipfile.BadZipFile, zlib.error)


def pack(arrays: Mapping[str, Array]) -> bytes:
    """Bytes of an `.npz` archive, in the order of the names."""
    buffer = io.BytesIO()
    named: dict[str, Any] = {name: arrays[name] for name in sorted(arrays)}
    np.savez(buffer, allow_pickle=False, **named)
    return buffer.getvalue()


def holds(data: bytes, name: str) -> bool:
    """Whether these are an `.npz` archive with an array of that name."""
    try:
        return f"{name}.npy" in zipfile.ZipFile(io.BytesIO(data)).namelist()
    except _DAMAGED:
        return False


def unpack(data: bytes) -> dict[str, Array]:
    """Arrays of an `.npz` archive; raises ValueError where it is none, or is damaged."""
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except _DAMAGED as error:
        raise ValueError(f"not an .npz archive: {error}") from error
