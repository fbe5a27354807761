"""Steps of models worked out ahead: those of many streams whose models are alike, as one batch."""

from collections.abc import Hashable, Iterable
from contextlib import suppress

from streamer.core.engine import ForecastEngine
from streamer.core.grid import Row, Verdict, is_whole
from streamer.core.serving import Ahead, Serving
from streamer.core.tick import Tick


def step_ahead(ticks: Iterable[tuple[ForecastEngine, Tick]]) -> None:
    """Step the models in service over `ticks`, the next ones of different engines, where some are alike.

    No outcome changes: `process` takes what was worked out here only if it asks for the very same, and works out
    all else as ever, what fails here too.
    """
    alike: dict[Hashable, list[tuple[ForecastEngine, Serving, Tick]]] = {}
    for engine, tick in ticks:
        if engine.serving is not None:
            alike.setdefault(engine.serving.model.alike, []).append((engine, engine.serving, tick))
    for streams in alike.values():
        if len(streams) > 1:
            # A tick that is to blame says so itself, when its turn comes.
            with suppress(Exception):
                _step_all(streams)


def _step_all(streams: Iterable[tuple[ForecastEngine, Serving, Tick]]) -> None:
    asked = [(engine, serving, row) for engine, serving, tick in streams if (row := _row(engine, serving, tick))]
    if len(asked) < 2:
        return
    states, rows = [serving.state for _, serving, _ in asked], [row for _, _, row in asked]
    for (engine, serving, row), found in zip(asked, asked[0][1].model.step_all(states, rows), strict=True):
        engine.serving = serving.knowing(Ahead(row, *found))


def _row(engine: ForecastEngine, serving: Serving, tick: Tick) -> Row | None:
    """What the model steps over when `tick` comes; None where it does not, or over blank rows first."""
    placement = engine.grid.place(engine.position, tick.time, tick.record_time)
    if placement.verdict is not Verdict.ACCEPTED:
        return None
    prices = engine.prices(tick)
    row = Row(placement.time, prices, placement.is_break, is_whole(prices))
    return serving.next_row(engine.position.last, row, engine.settings.step)
