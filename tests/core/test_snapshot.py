"""Snapshots: what goes in comes out, and nothing else comes out."""

import ast
import hashlib
import inspect
import json
import math
import struct
import zlib

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from streamer.core import snapshot
from streamer.core.snapshot import FORMAT, NewerSnapshotError, pack, unpack
from streamer.errors import SnapshotError
from tests.core.helpers import MODERATE

HEAD = 8 + 2 + 32  # magic, format version, SHA-256
META = {"symbols": ["A", "ß", "\ud800"], "ticks": 7, "none": None, "nested": {"x": [1.5, True]}}
ARRAYS = {
    "prices": np.array([[1.0, np.nan], [np.inf, -0.0]]),
    "h0": np.ones((2, 3), np.float32),
    "times": np.array([-(2**63), 2**63 - 1]),
    "breaks": np.array([True, False]),
    "empty": np.zeros((0, 4)),
    "scalar": np.array(2.5),
}
DATA = pack(META, ARRAYS)

dtypes = st.sampled_from(["<f8", "<f4", "<i8", "|b1"])
arrays = dtypes.flatmap(lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=0, min_side=0, max_side=4)))
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def sealed(payload: bytes) -> bytes:
    """`payload` with the right head: what a hostile sender would write."""
    body = zlib.compress(payload)
    return struct.pack("<8sH32s", b"STREAMER", FORMAT, hashlib.sha256(body).digest()) + body


def headed(header: object, tail: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return sealed(struct.pack("<I", len(text)) + text + tail)


@MODERATE
@given(
    meta=st.dictionaries(st.text(), values, max_size=3),
    stored=st.dictionaries(st.text(), arrays, max_size=3),
)
def test_what_is_packed_is_unpacked_bit_for_bit(meta: dict[str, object], stored: dict[str, np.ndarray]) -> None:
    again, unpacked = unpack(pack(meta, stored))

    assert again == meta
    assert list(unpacked) == list(stored)
    for name, array in stored.items():
        assert unpacked[name].dtype == array.dtype
        assert unpacked[name].shape == array.shape
        assert unpacked[name].tobytes() == array.tobytes()
        assert unpacked[name].flags.writeable


def test_the_same_content_gives_the_same_bytes() -> None:
    assert pack(*unpack(DATA)) == DATA


@MODERATE
@given(at=st.integers(0, len(DATA) - 1), flip=st.integers(1, 255))
@example(at=8, flip=FORMAT)
@example(at=9, flip=1)
def test_a_flipped_byte_anywhere_is_noticed(at: int, flip: int) -> None:
    damaged = bytearray(DATA)
    damaged[at] ^= flip

    with pytest.raises(SnapshotError):
        unpack(bytes(damaged))


@MODERATE
@given(length=st.integers(0, len(DATA) - 1))
@example(length=0)
@example(length=HEAD)
@example(length=len(DATA) - 1)
def test_a_snapshot_cut_short_is_noticed(length: int) -> None:
    with pytest.raises(SnapshotError):
        unpack(DATA[:length])


@MODERATE
@given(data=st.binary(max_size=200) | st.binary(max_size=60).map(sealed))
def test_any_other_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(SnapshotError):
        unpack(data)


def test_bytes_behind_the_end_are_noticed() -> None:
    with pytest.raises(SnapshotError):
        unpack(DATA + b"\0")


def test_a_newer_format_says_so_and_what_to_do() -> None:
    newer = DATA[:8] + struct.pack("<H", FORMAT + 1) + DATA[10:]

    with pytest.raises(NewerSnapshotError, match=f"format {FORMAT + 1}.*upgrade streamer"):
        unpack(newer)


def test_a_decompression_bomb_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshot, "_MAX_PAYLOAD", 10_000)
    fits = headed({"meta": {}, "arrays": []}, bytes(9_000))
    bomb = headed({"meta": {}, "arrays": []}, bytes(5_000_000))
    assert len(bomb) < 10_000

    assert unpack(fits) == ({}, {})
    with pytest.raises(SnapshotError, match="10000 bytes"):
        unpack(bomb)


@pytest.mark.parametrize(
    "header",
    [
        b"",
        b"\xff",
        b"[]",
        b"{}",
        b'{"meta": {}}',
        b'{"arrays": []}',
        {"meta": {}, "arrays": [["a", "<f8"]]},
        {"meta": {}, "arrays": [["a", "|O8", [1]]]},
        {"meta": {}, "arrays": [["a", "|O", [0]]]},
        {"meta": {}, "arrays": [["a", ["<f8"], [1]]]},
        {"meta": {}, "arrays": [["a", "<f8", [3]]]},
        {"meta": {}, "arrays": [["a", "<f8", [2**70]]]},
        {"meta": {}, "arrays": [["a", "<f8", "1"]]},
        {"meta": {}, "arrays": [["a", "<f8", [1.0]]]},
        {"meta": {}, "arrays": 3},
        b"[" * 100_000,
    ],
)
def test_a_header_that_does_not_fit_is_refused_although_its_checksum_does(header: object) -> None:
    with pytest.raises(SnapshotError):
        unpack(headed(header, bytes(8)))


def test_an_array_that_could_hold_objects_is_not_packed() -> None:
    with pytest.raises(TypeError, match="weird"):
        pack({}, {"weird": np.array([object()])})


def test_no_number_is_lost_in_the_header() -> None:
    meta, _ = unpack(pack({"x": 0.1 + 0.2, "nan": math.nan, "big": 2**63}, {}))

    assert (meta["x"], meta["big"]) == (0.1 + 0.2, 2**63)
    assert math.isnan(meta["nan"])


def test_the_module_neither_pickles_nor_evaluates() -> None:
    tree = ast.parse(inspect.getsource(snapshot))
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names} | {
        node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)
    }
    called = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)} | {
        node.id for node in ast.walk(tree) if isinstance(node, ast.Name)
    }

    assert not imported & {"pickle", "marshal", "shelve", "dill", "joblib"}
    assert not called & {"load", "eval", "exec", "literal_eval", "__import__"}
