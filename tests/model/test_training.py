from dataclasses import replace

import numpy as np
import pytest

from streamer.core.features import Features
from streamer.errors import TrainingError
from streamer.model import network, training
from streamer.model.dataset import TrainingSet
from streamer.model.forecaster import inputs_of
from streamer.model.network import Weights
from streamer.model.spec import FitSpec, GateSpec, LayerSpec, NetworkSpec, Shape
from streamer.model.training import Series, Slices, Track
from tests.model.helpers import bits, random_weights, sawtooth, training_set, walk

SPEC = NetworkSpec(layers=(LayerSpec(6, dropout=0.2), LayerSpec(4)))
FIT = FitSpec(steps=20, sequence=12, lanes=4, patience=3)
SHAPE = Shape(rows=2, inputs=2, outputs=1)


@pytest.fixture(autouse=True, scope="module")
def _deterministic() -> None:
    training.use_threads(1)


def series(history: TrainingSet) -> Series:
    replayed = history.replay(Features(history.change))
    x = inputs_of(replayed.x, history.columns(), pooled=True)
    return Series(x, replayed.y[:, :, None], replayed.mask[:, :, None].astype(np.float32))


def train(history: TrainingSet, fit: FitSpec = FIT, initial: Weights | None = None) -> Weights:
    return training.train([track(series(history))], SPEC, SHAPE, fit, initial).weights


def track(rows: Series) -> Track:
    return Track(rows, Slices.of(len(rows.x), GateSpec()))


@pytest.fixture(scope="module")
def history() -> TrainingSet:
    return training_set(walk(300))


@pytest.fixture(scope="module")
def trained(history: TrainingSet) -> Weights:
    return train(history)


def test_the_history_is_split_in_time_order() -> None:
    assert Slices.of(1_000, GateSpec()) == Slices(fit_end=700, stop_end=850)
    assert Slices.of(100, GateSpec(fraction=0.2, stop_fraction=0.1)) == Slices(70, 80)
    with pytest.raises(TrainingError, match="4 rows are too few"):
        Slices.of(4, GateSpec())


def test_the_same_seed_and_data_give_the_same_weights(history: TrainingSet, trained: Weights) -> None:
    assert bits(train(history)) == bits(trained)


def test_another_seed_gives_other_weights(history: TrainingSet, trained: Weights) -> None:
    assert bits(train(history, replace(FIT, seed=1))) != bits(trained)


def test_no_weight_depends_on_the_gate_slice(history: TrainingSet, trained: Weights) -> None:
    """Its first row included, which is the target of the last row before it."""
    prices = history.prices.copy()
    prices[255:] *= 1.5
    assert bits(train(replace(history, prices=prices))) == bits(trained)


def test_weights_depend_on_the_last_row_of_the_stop_slice() -> None:
    """What the test above perturbs begins where it should: one row earlier, and the stopping notices."""
    rows = series(training_set(walk(300)))
    stopping = rows.until(255)
    assert stopping.mask[253].all()
    assert not stopping.mask[254].any()


def test_the_stop_slice_does_not_teach(history: TrainingSet) -> None:
    """With enough patience the fit takes the same way whatever comes after the fit slice."""
    prices = history.prices.copy()
    prices[210:] *= 1.0 + 0.1 * np.sin(np.arange(90.0))[:, None]
    ways = []
    for given in (history.prices, prices):
        rows = series(replace(history, prices=given))
        way: list[tuple[float, ...]] = []
        fit = replace(FIT, patience=100)
        training.train(
            [track(rows)],
            SPEC,
            SHAPE,
            fit,
            progress=lambda _step, _total, *losses, way=way: way.append(losses),
        )
        ways.append(np.array(way))
    assert ways[0][:, 0].tobytes() == ways[1][:, 0].tobytes(), "losses of the fit"
    assert (ways[0][:, 1] != ways[1][:, 1]).all(), "losses on the stop slice"


def test_a_fit_never_ends_worse_than_it_began_on_the_stop_slice() -> None:
    """A champion that cannot be improved on comes back as it was."""
    learnable = training_set(sawtooth(300))
    champion = train(learnable, replace(FIT, steps=100))
    ruinous = train(learnable, replace(FIT, steps=8, learning_rate=5.0), champion)
    assert bits(ruinous) == bits(champion)


def test_how_long_adam_remembers_gradients_is_as_asked_for(history: TrainingSet) -> None:
    fits = [replace(FIT, steps=4), *(replace(FIT, steps=4, beta_2=beta_2) for beta_2 in (0.999, 0.9))]
    usual, asked, short = (bits(train(history, fit)) for fit in fits)
    assert usual == asked
    assert usual != short


def test_progress_is_reported_up_to_the_last_step(history: TrainingSet) -> None:
    seen: list[tuple[int, int, float, float]] = []
    rows = series(history)
    fit = replace(FIT, steps=90, patience=100)
    training.train([track(rows)], SPEC, SHAPE, fit, progress=lambda *told: seen.append(told))
    assert [step for step, *_ in seen] == [*range(2, 91, 2)]
    assert {total for _, total, *_ in seen} == {90}
    assert all(np.isfinite(losses).all() for _, _, *losses in seen)


def test_a_fit_without_gain_ends_by_its_patience(history: TrainingSet) -> None:
    steps: list[int] = []
    rows = series(history)
    fit = replace(FIT, steps=400, patience=2, learning_rate=5.0)
    training.train([track(rows)], SPEC, SHAPE, fit, progress=lambda step, *_: steps.append(step))
    assert steps[-1] < 200


def test_a_loss_that_is_no_number_is_an_error(history: TrainingSet) -> None:
    poisoned = {name: np.full_like(w, np.nan) for name, w in random_weights(SPEC, SHAPE).items()}
    with pytest.raises(TrainingError, match="the loss is no number"):
        train(history, initial=poisoned)


def test_weights_that_are_no_numbers_are_an_error() -> None:
    with pytest.raises(TrainingError, match="head/bias"):
        training.require_finite({"head/bias": np.array([np.inf], np.float32)})


@pytest.mark.parametrize(("blank", "name"), [(slice(0, 208), "fit"), (slice(209, 256), "stop")])
def test_a_slice_without_prices_is_an_error(blank: slice, name: str) -> None:
    prices = walk(300)
    prices[blank] = np.nan
    with pytest.raises(TrainingError, match=f"two prices in a row in the {name} slice"):
        train(training_set(prices))


def test_a_short_history_trains_too() -> None:
    """Fewer rows than lanes of full sequences: the lanes are made fewer, the sequences shorter."""
    weights = train(training_set(walk(100)), replace(FIT, sequence=48, lanes=16, steps=2))
    training.require_finite(weights)


def test_an_untrained_network_is_persistence() -> None:
    model = network.window_model(SPEC, SHAPE)
    x = np.random.default_rng(0).normal(size=(2, 30, 2)).astype(np.float32)
    assert not np.asarray(model(x)).any()


def test_each_epoch_starts_from_zero_state() -> None:
    """Without learning, dropout, or room to start elsewhere, one epoch is like the other."""
    spec, shape = NetworkSpec(layers=(LayerSpec(4),)), Shape(rows=1, inputs=2, outputs=1)
    fitter = training.Fitter(spec, shape, FitSpec(learning_rate=0.0), lanes=2, length=5)
    fitter.start_from(random_weights(spec, shape))
    noise = np.random.default_rng(0).normal(size=(10, 1, 3)).astype(np.float32)
    rows = Series(noise[:, :, :2], noise[:, :, 2:], np.ones((10, 1, 1), np.float32))
    losses = [fitter.step(*chunk) for chunk, _ in zip(fitter.chunks([rows], seed=0), range(3), strict=False)]
    assert losses[0] == losses[1] == losses[2]


def test_the_state_is_carried_from_chunk_to_chunk() -> None:
    """The same rows again, in the same epoch, meet another state."""
    spec, shape = NetworkSpec(layers=(LayerSpec(4),)), Shape(rows=1, inputs=2, outputs=1)
    fitter = training.Fitter(spec, shape, FitSpec(learning_rate=0.0), lanes=1, length=5)
    fitter.start_from(random_weights(spec, shape))
    noise = np.random.default_rng(0).normal(size=(1, 5, 3)).astype(np.float32)
    chunk = (noise[:, :, :2], noise[:, :, 2:], np.ones((1, 5, 1), np.float32))
    assert fitter.step(*chunk) != fitter.step(*chunk)


def test_windows_keep_the_rows_of_a_start_together() -> None:
    rows = np.arange(2 * 3 * 10, dtype=np.float32).reshape(10, 3, 2)
    cut = training.windows(rows, [0, 4], 5)
    assert cut.shape == (6, 5, 2)
    np.testing.assert_array_equal(cut[4], rows[4:9, 1])


def test_the_loss_is_that_of_huber_over_the_cells_that_count() -> None:
    predicted = np.array([[1.0, 10.0, 99.0]], np.float32)
    loss = training.huber(predicted, np.zeros((1, 3), np.float32), np.array([[1.0, 1.0, 0.0]], np.float32))
    assert float(loss) == pytest.approx((0.5 + 3.0 * (10.0 - 1.5)) / 2)


def labelled(rows: int, label: float) -> Series:
    """Rows that say which history they are of, and where in it they stand."""
    x = np.stack([np.full(rows, label), np.arange(rows)], axis=-1).astype(np.float32)[:, None]
    return Series(x, x[..., :1], np.ones((rows, 1, 1), np.float32))


@pytest.mark.parametrize(("histories", "lanes"), [(2, 5), (3, 3), (7, 4)])
def test_a_lane_is_a_piece_of_one_history_and_all_have_their_turn(histories: int, lanes: int) -> None:
    """Chunk after chunk each lane goes on where it was, until a pass ends."""
    learned = [labelled(100 + 30 * label, label) for label in range(histories)]
    layout = training._Lanes.of([len(part.x) for part in learned], FitSpec(sequence=10, lanes=lanes))
    spec, shape = NetworkSpec(layers=(LayerSpec(2),)), Shape(rows=1, inputs=2, outputs=1)
    fitter = training.Fitter(spec, shape, FitSpec(learning_rate=0.0), lanes=layout.number, length=layout.length)
    seen: set[float] = set()
    before = None
    for (x, _, _), _ in zip(fitter.chunks(learned, seed=0), range(4 * layout.chunks), strict=False):
        label, row = x[:, :, 0], x[:, :, 1]
        assert (label == label[:, :1]).all()
        assert (np.diff(row, axis=1) == 1).all()
        goes_on = before is not None and (label[:, 0] == before[0]).all() and (row[:, 0] == before[1] + 1).all()
        if not goes_on:
            assert before is None or len(seen) > 0
            seen |= set(label[:, 0].tolist())
        before = label[:, -1], row[:, -1]
    assert seen == set(range(histories))
    assert layout.number <= lanes


def test_a_short_history_does_not_make_all_lanes_as_short() -> None:
    kept = training._long_enough([labelled(rows, 0.0) for rows in (1_000, 90, 800, 950)])
    assert [len(part.x) for part in kept] == [1_000, 800, 950]
    assert len(training._long_enough([labelled(100, 0.0) for _ in range(9)] + [labelled(300, 0.0)])) == 10


def test_the_stop_slice_is_cut_so_that_each_row_is_scored_once() -> None:
    for rows, slices, length in ((400, Slices(130, 390), 200), (100, Slices(70, 85), 85), (900, Slices(100, 700), 85)):
        part, scored = labelled(rows, 0.0).until(slices.stop_end), []
        part.mask[-1] = 1.0
        for start in training.window_starts(slices, length):
            x, _, mask = training.window(part, slices, start, length)
            assert x.shape == (1, length, 2)
            scored += x[mask[..., 0] > 0, 1].tolist()
        assert scored == list(range(slices.fit_end, slices.stop_end))


def test_of_many_stop_slices_some_speak_for_all_evenly_spread() -> None:
    assert training._spread(3, 256).tolist() == [0, 1, 2]
    assert training._spread(1_000, 5).tolist() == [0, 250, 500, 749, 999]


def test_of_more_histories_than_lanes_each_has_as_many_turns() -> None:
    learned = [labelled(20, float(label)) for label in range(7)]
    turns = training._turns(learned, 4, np.random.default_rng(0))
    passes = [[int(part.x[0, 0, 0]) for part in next(turns)] for _ in range(70)]
    assert all(len(set(chosen)) == 4 for chosen in passes)
    assert [sum(label in chosen for chosen in passes) for label in range(7)] == [40] * 7
