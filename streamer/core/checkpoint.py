"""The engine as bytes and back: restored and never stopped give the same forecasts, bit for bit."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np

from streamer.core import snapshot
from streamer.core.adjustment import Adjustment, adjusted
from streamer.core.calibration import Calibration
from streamer.core.drift import Drift
from streamer.core.engine import EngineSettings, ForecastEngine
from streamer.core.forecaster import FORECASTERS, Forecaster
from streamer.core.grid import Placement, Position, Verdict
from streamer.core.levels import Levels
from streamer.core.market import Market
from streamer.core.outcome import Pending, Swap
from streamer.core.policy import Reason
from streamer.core.serving import Serving
from streamer.core.tick import Tick
from streamer.errors import ArtifactError, SnapshotError

_SHAPING = ("step", "symbols", "targets", "change", "window", "scoring_window", "coverage")
"""Settings under which a snapshot holds: with others, only the ring can be used again."""

Load = Callable[[str], Forecaster]


@dataclass(frozen=True, slots=True)
class Restored:
    """An engine as it was. notices: what could not be kept, and why, a line each. extra: what the caller stored."""

    engine: ForecastEngine
    extra: dict[str, Any]
    notices: tuple[str, ...] = ()


def save(engine: ForecastEngine, extra: Mapping[str, Any]) -> bytes:
    """The engine without its history, and `extra` (JSON values) beside it."""
    serving = engine.serving
    meta = {
        "extra": dict(extra),
        "settings": _shape(engine.settings),
        "symbols": list(engine.symbols),
        "position": asdict(engine.position),
        "policy": {name: getattr(engine.policy, name) for name in ("ticks", "due_at", "calm_until", "wanted")},
        "drift": {name: getattr(engine.drift, name) for name in ("seen", "mean", "variance", "excess")},
        "target": engine.pending.target if engine.pending else None,
        "model": serving.model.id if serving else None,
        "swaps": [asdict(swap) for swap in engine.swaps],
        "reverted": list(engine.reverted),
        "adjustments": [asdict(adjustment) for adjustment in engine.adjustments],
    }
    return snapshot.pack(meta, dict(_arrays(engine)))


def _shape(settings: EngineSettings) -> dict[str, Any]:
    shape = {name: getattr(settings, name) for name in _SHAPING}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in shape.items()}


def _arrays(engine: ForecastEngine) -> Iterable[tuple[str, np.ndarray]]:
    yield from (("ring.times", engine.ring.times), ("ring.breaks", engine.ring.breaks))
    yield "ring.prices", engine.ring.prices
    for name, array in _per_symbol(engine.market).items():
        yield f"market.{name}", array
    yield "calibration.log_width", engine.calibration.log_width
    yield "calibration.count", engine.calibration.count
    for name, array in engine.scoreboard.arrays().items():
        yield f"scores.{name}", array
    if engine.pending:
        for name in ("mask", "yhat", "lower", "upper"):
            yield f"pending.{name}", getattr(engine.pending, name)
    if engine.serving:
        for name, array in engine.serving.state.items():
            yield f"model.{name}", array


def _per_symbol(market: Market) -> dict[str, np.ndarray]:
    arrays = {field.name: getattr(market, field.name) for field in fields(Market) if field.name != "levels"}
    return arrays | {"is_log": market.levels.is_log}


def restore(settings: EngineSettings, data: bytes, load: Load, schedule: Iterable[Swap] | None = None) -> Restored:
    """The engine of a snapshot. SnapshotError where it cannot be read at all.

    Under other settings than those it was made with, the ring goes through a new engine and the rest is dropped.
    Where `load` raises ArtifactError, persistence serves, the engine's `lost_model` names what ought to, and a training
    is wanted at once.
    """
    meta, arrays = snapshot.unpack(data)
    try:
        present = settings
        for each in _adjustments(meta):  # the configuration may know a symbol by its old name or by the new one
            present = present.renamed(each.symbol, each.name)
        changed = [name for name, value in _shape(present).items() if meta["settings"].get(name) != value]
        if changed:
            restored = _rebuild(present, meta, arrays, schedule, load, changed)
        else:
            restored = _resume(present, meta, arrays, schedule, load)
        restored.engine.configured = settings.symbols
        return restored
    except (KeyError, ValueError, TypeError, AttributeError, IndexError) as error:
        raise SnapshotError(f"the snapshot does not hold what it should: {error!r}") from error


def _adjustments(meta: Mapping[str, Any]) -> tuple[Adjustment, ...]:
    return tuple([Adjustment(**each) for each in meta.get("adjustments", ())])


def _resume(
    settings: EngineSettings,
    meta: dict[str, Any],
    arrays: dict[str, np.ndarray],
    schedule: Iterable[Swap] | None,
    load: Load,
) -> Restored:
    swaps = [Swap(**swap) for swap in meta["swaps"]]
    engine = ForecastEngine(settings, None if schedule is None else _ahead(list(schedule), swaps), load)
    engine.widen(meta["symbols"][len(engine.symbols) :])
    _fill_ring(engine, arrays)
    engine.position = Position(**meta["position"])
    engine.adjustments = _adjustments(meta)
    market = {"unseen": np.zeros(len(engine.symbols))} | _part(arrays, "market")  # older snapshots do not count it
    levels = Levels(market.pop("is_log"))
    engine.market = Market(**market, levels=levels)
    engine.calibration = Calibration(settings.coverage, **_part(arrays, "calibration"))
    engine.scoreboard.restored(_part(arrays, "scores"))
    engine.swaps, engine.reverted = swaps, tuple(meta["reverted"])
    engine.drift = Drift(settings.drift, **meta["drift"])
    _restore_policy(engine, meta["policy"])
    if meta["target"] is not None:
        engine.pending = Pending(meta["target"], **_part(arrays, "pending"))
    _check_shapes(engine)
    notices = _restore_model(engine, meta["model"], _part(arrays, "model"), load)
    return Restored(engine, meta["extra"], notices)


def _ahead(schedule: list[Swap], swaps: list[Swap]) -> list[Swap]:
    """What of the schedule comes after the swaps that are done."""
    done = [place for place, swap in enumerate(schedule) if swap in swaps]
    return schedule[done[-1] + 1 :] if done else schedule


def _check_shapes(engine: ForecastEngine) -> None:
    n = len(engine.symbols)
    per_symbol = {f"market.{name}": array for name, array in _per_symbol(engine.market).items()}
    per_symbol |= {"log_width": engine.calibration.log_width, "count": engine.calibration.count}
    if (pending := engine.pending) is not None:
        per_symbol |= {"mask": pending.mask, "lower": pending.lower, "upper": pending.upper}
        if pending.yhat.shape != (len(FORECASTERS), n):
            raise ValueError(f"yhat has the shape {pending.yhat.shape}")
    for name, array in per_symbol.items():
        if array.shape != (n,):
            raise ValueError(f"{name} has the shape {array.shape}, expected ({n},)")


def _part(arrays: Mapping[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    return {name.removeprefix(f"{prefix}."): a for name, a in arrays.items() if name.startswith(f"{prefix}.")}


def _fill_ring(engine: ForecastEngine, arrays: Mapping[str, np.ndarray]) -> None:
    times, breaks, prices = (arrays[f"ring.{name}"] for name in ("times", "breaks", "prices"))
    if breaks.shape != times.shape or prices.shape != (len(times), len(engine.symbols)):
        raise ValueError(f"the ring's shapes do not fit: {times.shape}, {breaks.shape}, {prices.shape}")
    if len(times) > engine.ring.capacity:
        raise ValueError(f"the ring holds {len(times)} ticks, at most {engine.ring.capacity} are expected")
    for buffer in (engine.ring, engine.history):
        buffer.prepend(times, breaks, prices)


def _restore_policy(engine: ForecastEngine, policy: Mapping[str, Any]) -> None:
    engine.policy.ticks = policy["ticks"]
    # A shorter `retrain.every` than before takes effect at once; a longer one does after the training now due.
    engine.policy.due_at = min(policy["due_at"], policy["ticks"] + max(engine.policy.every, engine.policy.first))
    engine.policy.calm_until = min(policy["calm_until"], policy["ticks"] + engine.policy.cooldown)
    engine.policy.wanted = policy["wanted"]


def _restore_model(
    engine: ForecastEngine, model_id: str | None, state: dict[str, np.ndarray], load: Load
) -> tuple[str, ...]:
    if model_id is None:
        return ()
    try:
        model = load(model_id)
    except ArtifactError as error:
        engine.policy.request(Reason.CHAMPION_LOST)
        return (f"model {model_id} cannot be used, a training is wanted at once: {error}",)
    model = adjusted(model, engine.adjustments)
    engine.serving = Serving.start(model, state, engine.index, engine.market.levels)
    return ()


def _rebuild(
    settings: EngineSettings,
    meta: dict[str, Any],
    arrays: dict[str, np.ndarray],
    schedule: Iterable[Swap] | None,
    load: Load,
    changed: list[str],
) -> Restored:
    """A new engine on the old ring, as the settings have changed. With another step, the grid places it anew."""
    engine = ForecastEngine(settings, schedule, load)
    engine.reverted, engine.adjustments = tuple(meta["reverted"]), _adjustments(meta)
    if not settings.symbols:
        engine.widen(meta["symbols"])
    columns = [meta["symbols"].index(s) if s in meta["symbols"] else -1 for s in engine.symbols]
    ring = zip(arrays["ring.times"].tolist(), arrays["ring.breaks"].tolist(), arrays["ring.prices"], strict=True)
    for time, is_break, row in ring:
        prices = engine.readable(np.append(row, np.nan)[columns])
        if "step" in changed:
            engine.process(Tick(time, dict(zip(engine.symbols, prices.tolist(), strict=True))))
        elif not np.isnan(prices).all():
            engine.accept(Placement(Verdict.ACCEPTED, time, Position(time), is_break), prices)
    engine.policy.request(Reason.SETTINGS_CHANGED)
    notice = f"the settings changed ({', '.join(changed)}): the ring is kept, all else begins anew"
    return Restored(engine, meta["extra"], (notice,))
