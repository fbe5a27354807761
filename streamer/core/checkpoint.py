"""The engine as bytes and back: restored and never stopped give the same forecasts, bit for bit."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import numpy as np

from streamer.core import snapshot
from streamer.core.adjustment import Adjustment, adjusted
from streamer.core.assembly import Assembly, usable
from streamer.core.calibration import Calibration
from streamer.core.drift import Drift
from streamer.core.engine import ForecastEngine
from streamer.core.forecaster import FORECASTERS, Forecaster
from streamer.core.grid import Placement, Position, Verdict
from streamer.core.levels import Levels
from streamer.core.market import Market
from streamer.core.outcome import Swap
from streamer.core.pending import Pending
from streamer.core.policy import Reason
from streamer.core.rhythm import Rhythm
from streamer.core.serving import Serving
from streamer.core.settings import EngineSettings
from streamer.core.tick import Tick
from streamer.errors import ArtifactError, SnapshotError

_SHAPING = ("step", "symbols", "targets", "inputs", "change", "window", "scoring_window", "coverage", "assemble")
"""Settings under which a snapshot holds: with others, only the ring can be used again."""

_PENDING = ("mask", "yhat", "lower", "upper")
_UNNAMED: dict[str, Any] = {"inputs": [], "assemble": "vector"}
"""What a snapshot was made with that does not name the setting."""

Load = Callable[[str], Forecaster]


@dataclass(frozen=True, slots=True)
class Restored:
    """An engine as it was, and what stands before it.

    notices: what could not be kept, and why, a line each. extra: what the caller stored.
    """

    engine: ForecastEngine
    assembly: Assembly | None
    extra: dict[str, Any]
    notices: tuple[str, ...] = ()


def save(engine: ForecastEngine, extra: Mapping[str, Any], assembly: Assembly | None = None) -> bytes:
    """The engine without its history, the step that is open before it, and `extra` (JSON values) beside them."""
    serving = engine.serving
    meta = {
        "extra": dict(extra),
        "settings": _shape(engine.settings),
        "symbols": list(engine.symbols),
        "position": asdict(engine.position),
        "policy": {name: getattr(engine.policy, name) for name in ("ticks", "due_at", "calm_until", "wanted")},
        "rhythm": engine.rhythm.reached,
        "drift": {name: getattr(engine.drift, name) for name in ("seen", "mean", "variance", "excess")},
        "target": engine.pending.target if engine.pending else None,
        "model": serving.model.id if serving else None,
        "swaps": [asdict(swap) for swap in engine.swaps],
        "reverted": list(engine.reverted),
        "adjustments": [asdict(adjustment) for adjustment in engine.adjustments],
    }
    arrays = dict(_arrays(engine))
    if assembly is not None:
        step = assembly.step
        meta["assembly"] = {"position": asdict(step.position), "symbols": list(step.prints)}
        arrays["open.times"] = np.array([time for time, _ in step.prints.values()], np.int64)
        arrays["open.prices"] = np.array([price for _, price in step.prints.values()], np.float64)
    return snapshot.pack(meta, arrays)


def _shape(settings: EngineSettings) -> dict[str, Any]:
    shape = {name: getattr(settings, name) for name in _SHAPING}
    if own := {symbol: change for symbol, change in settings.change_of.items() if change != settings.change}:
        shape["change"] = {"default": settings.change, "of": own}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in shape.items()}


def _arrays(engine: ForecastEngine) -> Iterable[tuple[str, np.ndarray]]:
    yield from (("ring.times", engine.ring.times), ("ring.breaks", engine.ring.breaks))
    yield "ring.prices", engine.ring.prices
    for name, array in _per_symbol(engine.market).items():
        yield f"market.{name}", array
    yield "calibration.log_width", engine.calibration.log_width
    yield "calibration.count", engine.calibration.count
    yield "rhythm.left", engine.rhythm.left.astype(np.int64)
    for name, array in engine.scoreboard.arrays().items():
        yield f"scores.{name}", array
    if engine.pending:
        for name in _PENDING:
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
        present = _present(settings, meta)
        changed = _changed(present, meta)
        if changed:
            restored = _rebuild(present, meta, arrays, schedule, load, changed)
        else:
            restored = _resume(present, meta, arrays, schedule, load)
        restored.engine.configured = settings.symbols
        return restored
    except (KeyError, ValueError, TypeError, AttributeError, IndexError) as error:
        raise SnapshotError(f"the snapshot does not hold what it should: {error!r}") from error


def described(settings: EngineSettings, data: bytes) -> tuple[dict[str, Any], list[str]]:
    """What the caller of `save` stored, and the settings that have changed since; SnapshotError."""
    meta, _ = snapshot.unpack(data)
    try:
        return dict(meta["extra"]), _changed(_present(settings, meta), meta)
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        raise SnapshotError(f"the snapshot does not hold what it should: {error!r}") from error


def _present(settings: EngineSettings, meta: Mapping[str, Any]) -> EngineSettings:
    """The configuration may know a symbol by its old name or by the new one."""
    for each in _adjustments(meta):
        settings = settings.renamed(each.symbol, each.name)
    return settings


def _changed(present: EngineSettings, meta: dict[str, Any]) -> list[str]:
    return [name for name, value in _shape(present).items() if _made_with(meta, name) != value]


def _made_with(meta: dict[str, Any], name: str) -> Any:
    return meta["settings"].get(name, _UNNAMED.get(name))


def _adjustments(meta: Mapping[str, Any]) -> tuple[Adjustment, ...]:
    return tuple([Adjustment(**each) for each in meta.get("adjustments", ())])


def _rhythm(meta: dict[str, Any], arrays: Mapping[str, np.ndarray]) -> Rhythm:
    """Of a snapshot from before there was one, nothing is known yet."""
    initial = Rhythm.initial()
    if "rhythm" not in meta:
        return initial
    left = arrays["rhythm.left"].astype(np.int8)
    if left.shape != initial.left.shape:
        raise ValueError(f"rhythm.left has the shape {left.shape}")
    return Rhythm(left, meta["rhythm"])


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
    engine.rhythm = _rhythm(meta, arrays)
    _restore_policy(engine, meta["policy"])
    if meta["target"] is not None:
        mask, yhat, lower, upper = (_part(arrays, "pending")[name] for name in _PENDING)
        engine.pending = Pending(meta["target"], mask, yhat, lower, upper, bool(mask.all()))
    _check_shapes(engine)
    notices = _restore_model(engine, meta["model"], _part(arrays, "model"), load)
    assembly = Assembly.before(engine)
    if assembly is not None:
        _reopen(assembly, Position(**meta["assembly"]["position"]), _prints(meta, arrays))
    return Restored(engine, assembly, meta["extra"], notices)


def _prints(meta: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> dict[str, tuple[int, float]]:
    """Of the step that was open: event time and price by symbol."""
    symbols, times, prices = meta["assembly"]["symbols"], arrays["open.times"], arrays["open.prices"]
    return dict(zip(symbols, zip(times.tolist(), prices.tolist(), strict=True), strict=True))


def _reopen(assembly: Assembly, position: Position, prints: dict[str, tuple[int, float]]) -> None:
    if prints and position.last is None:
        raise ValueError("the step that is open has no time")
    assembly.step.position, assembly.step.prints = position, prints


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
    engine.rhythm = _rhythm(meta, arrays)  # the feed's habits are none of the settings'
    engine.policy.request(Reason.SETTINGS_CHANGED)
    assembly = Assembly.before(engine)
    if "assembly" in meta:
        _keep_open(engine, assembly, meta, arrays, changed)
    notice = f"the settings changed ({', '.join(changed)}): the ring is kept, all else begins anew"
    return Restored(engine, assembly, meta["extra"], (notice,))


def _keep_open(
    engine: ForecastEngine,
    assembly: Assembly | None,
    meta: dict[str, Any],
    arrays: dict[str, np.ndarray],
    changed: list[str],
) -> None:
    """The open step stays open; where that cannot be, as steps are others or none is open any more, it is a tick."""
    position, prints = Position(**meta["assembly"]["position"]), _prints(meta, arrays)
    tick = Tick(position.last or 0, {symbol: price for symbol, (_, price) in prints.items()})
    if assembly is not None and "step" not in changed:
        restarts = position.restarts - meta["position"]["restarts"]  # a new engine has forgotten those of the ring
        kept = {symbol: prints[symbol] for symbol in usable(engine, tick)}
        _reopen(assembly, replace(position, restarts=restarts), kept)
    elif prints:
        (assembly or engine).process(tick)
