import io
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from streamer.core.features import Features
from streamer.core.levels import Levels
from streamer.errors import TrainingError
from streamer.model.dataset import TARGET_CLIP, Replay, TrainingSet
from tests.model.helpers import STEP, training_set, walk

NAN = float("nan")


def replay(history: TrainingSet) -> Replay:
    return history.replay(Features(history.change))


def test_a_set_is_read_as_it_was_saved(tmp_path: Path) -> None:
    prices = walk(120, symbols=3)
    prices[5:7, 1] = NAN, -1.0
    saved = training_set(prices, symbols=("A", "ü/\n", "C"), targets=("C", "A"))
    saved.save(tmp_path / "set.npz")
    loaded = TrainingSet.load(tmp_path / "set.npz")
    assert (loaded.symbols, loaded.targets) == (saved.symbols, saved.targets)
    assert loaded.change.changes == saved.change.changes == ("log_return", "difference", "log_return")
    assert loaded.step == saved.step
    for name in ("times", "breaks", "prices"):
        assert getattr(loaded, name).tobytes() == getattr(saved, name).tobytes()


def altered(data: bytes, at: int, value: int) -> bytes:
    """A set with one byte changed in what its archive says of its first file; `at`: from the signature on."""
    changed = bytearray(data)
    changed[data.index(b"PK\x01\x02") + at] = value
    return bytes(changed)


def archive(contents: bytes) -> bytes:
    """A compressed archive with the file `times.npy`."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as found:
        found.writestr("times.npy", contents)
    return buffer.getvalue()


PACKED = training_set(walk(20)).pack()
UNFINISHED = b"{'descr': ("


@pytest.mark.parametrize(
    "contents",
    [
        b"",
        b"PK nonsense",
        b"\x80\x04N.",
        altered(PACKED, 8, 1),
        altered(PACKED, 10, 99),
        archive(b"x" * 99).replace(b"\xab\xa8", b"\xff\xff"),
        archive(b"\x93NUMPY\x01\x00" + len(UNFINISHED).to_bytes(2, "little") + UNFINISHED),
    ],
    ids=[
        "empty",
        "text",
        "a pickle",
        "encrypted",
        "compressed in an unknown way",
        "a broken stream",
        "a broken header",
    ],
)
def test_a_file_that_is_no_set_is_refused(tmp_path: Path, contents: bytes) -> None:
    (tmp_path / "set.npz").write_bytes(contents)
    with pytest.raises(TrainingError, match=r"set\.npz is no training set"):
        TrainingSet.load(tmp_path / "set.npz")


def test_a_pickle_in_a_set_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "set.npz", symbols=np.array([object()], dtype=object))
    with pytest.raises(TrainingError, match="is no training set"):
        TrainingSet.load(tmp_path / "set.npz")


def test_a_target_is_the_next_change_over_the_scale_known_before() -> None:
    history = training_set(walk(60))
    replayed = replay(history)
    features = Features(history.change)
    state = features.initial(2)
    for row in list(history.rows())[:31]:
        state, _ = features.step(state, row)
    expected = (np.log(history.prices[31]) - np.log(history.prices[30])) / features.scale(state)
    np.testing.assert_allclose(replayed.y[30], expected, rtol=1e-5)
    assert replayed.mask[30].all()


def test_missing_steps_become_blank_rows() -> None:
    whole = training_set(walk(20))
    kept = np.delete(np.arange(20), [8, 9])
    history = replace(whole, times=whole.times[kept], breaks=whole.breaks[kept], prices=whole.prices[kept])
    replayed = replay(history)
    assert len(replayed.x) == 20
    assert not replayed.x[[8, 9]].any()
    assert not replayed.mask[[7, 8]].any(), "the price after these rows was not seen"
    assert replayed.mask[9].all(), "after a gap the target is the change since the last price seen"


def test_a_blank_price_is_carried_and_is_no_target() -> None:
    prices = walk(20)
    prices[10, 0] = NAN
    replayed = replay(training_set(prices))
    assert replayed.mask[9].tolist() == [False, True]
    assert replayed.mask[10].tolist() == [True, True]
    assert replayed.x[10, 0].tolist() == [0.0, 0.0]


def test_the_change_across_a_session_break_is_no_target() -> None:
    history = training_set(walk(20))
    history.breaks[12] = True
    mask = replay(history).mask
    assert not mask[11].any()
    assert mask[12].all()


def test_the_last_row_and_rows_without_a_scale_have_no_target() -> None:
    """Before its first move a symbol's scale is a mere floor: any move would be a target at the clip."""
    prices = walk(20)
    prices[:6, 0] = 100.0
    mask = replay(training_set(prices)).mask
    assert mask[:6, 0].tolist() == [False] * 6
    assert mask[6, 0]
    assert not mask[-1].any()


def test_targets_are_clipped() -> None:
    prices = walk(50)
    prices[40:] *= 3.0
    replayed = replay(training_set(prices))
    assert replayed.y[39].tolist() == [TARGET_CLIP, TARGET_CLIP]


def test_targets_may_be_fewer_than_symbols_and_in_another_order() -> None:
    prices = walk(30, symbols=3)
    replayed = replay(training_set(prices, targets=("C", "A")))
    every = replay(training_set(prices))
    assert replayed.x.shape == (30, 3, 2)
    np.testing.assert_array_equal(replayed.y, every.y[:, [2, 0]])


def test_a_symbol_without_any_price_is_left_out() -> None:
    prices = walk(120, symbols=3)
    prices[:, 1] = NAN
    usable = training_set(prices).usable()
    assert (usable.symbols, usable.targets) == (("A", "C"), ("A", "C"))
    assert usable.prices.shape == (120, 2)


def test_too_few_rows_are_refused_with_their_number() -> None:
    with pytest.raises(TrainingError, match=r"99 rows .* at least 100"):
        training_set(walk(99)).usable()


def test_targets_without_any_price_are_refused() -> None:
    prices = walk(120)
    prices[:, 1] = NAN
    with pytest.raises(TrainingError, match=r"no target has a price in 120 rows"):
        training_set(prices, targets=("B",)).usable()


def test_a_price_that_is_not_positive_is_learned_from_as_a_difference() -> None:
    prices = walk(60)
    prices[:, 1] -= 100.0
    assert prices[:, 1].min() < 0.0
    history = training_set(prices)
    replayed = replay(history)
    assert replayed.mask[2:-1].all()
    assert np.isfinite(replayed.x).all()
    shifted = replay(replace(history, prices=prices + np.array([0.0, 100.0])))
    np.testing.assert_allclose(replayed.y, shifted.y, rtol=1e-3, atol=1e-6)


def test_a_price_that_a_reader_of_log_returns_cannot_use_is_blank_to_it() -> None:
    history = training_set(np.array([[1.0, 2.0], [0.0, -2.0]]))
    logs = Levels(np.array([True, False]))
    assert [np.isnan(row.prices).tolist() for row in history.rows(("A", "B"), logs)] == [[False, False], [True, False]]


def test_a_symbol_that_the_set_lacks_is_blank_in_its_rows() -> None:
    history = training_set(walk(5))
    rows = list(history.rows(("B", "Z")))
    assert [row.time for row in rows] == [STEP * index for index in range(1, 6)]
    assert rows[3].prices[0] == history.prices[3, 1]
    assert all(np.isnan(row.prices[1]) for row in rows)
