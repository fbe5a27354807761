"""What every benchmark returns: figures with what they stand beside, curves, details; and how two runs compare."""

import dataclasses
import json
import math
import os
import platform
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np

_FORMAT = 1
_SPREAD_FROM = 3  # values: of fewer, the lowest and the highest say nothing
_UNKNOWN_SPREAD = 0.25  # then a ratio may differ by so much, as a share, on a machine that does other work too


class StoredError(Exception):
    """A file is no stored result; the message names it."""


@dataclass(frozen=True, slots=True)
class Limit:
    """What a figure should keep to: its ratio, or its value where `absolute`, at most `bound` or at `least` so much."""

    bound: float
    absolute: bool = False
    least: bool = False

    def holds(self, value: float, ratio: float | None) -> bool | None:
        """Whether it is kept to; None where there is no ratio to say."""
        found = value if self.absolute else ratio
        if found is None:
            return None
        return found >= self.bound if self.least else found <= self.bound


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured quantity.

    values: one for each round, in `unit`. beside: name of the figure that it is set against. ratios: to that one's,
    round by round, so that the machine's load is in both sides of each; without `beside` none.
    """

    name: str
    unit: str
    values: tuple[float, ...]
    beside: str | None = None
    ratios: tuple[float, ...] = ()
    limit: Limit | None = None

    @classmethod
    def of(
        cls, name: str, unit: str, values: Iterable[float], beside: "Figure | None" = None, limit: Limit | None = None
    ) -> Self:
        """The figure, with its ratios to `beside`: of each round where both have as many, else of the medians."""
        taken = tuple(float(value) for value in values)
        if beside is None:
            return cls(name, unit, taken, limit=limit)
        pairs = list(zip(taken, beside.values, strict=False))
        if len(taken) != len(beside.values):
            pairs = [(statistics.median(taken), beside.value)]
        ratios = tuple(own / other for own, other in pairs if other)
        return cls(name, unit, taken, beside.name, ratios, limit)

    @property
    def value(self) -> float:
        """Median of the values."""
        return statistics.median(self.values)

    @property
    def ratio(self) -> float | None:
        """Median of the ratios, None without."""
        return statistics.median(self.ratios) if self.ratios else None

    @property
    def spread(self) -> tuple[float, float] | None:
        """Between which the ratio lay: lowest and highest, or a wide guess where it was taken once or twice."""
        if not self.ratios:
            return None
        if len(self.ratios) >= _SPREAD_FROM:
            return min(self.ratios), max(self.ratios)
        middle = statistics.median(self.ratios)
        return middle * (1.0 - _UNKNOWN_SPREAD), middle * (1.0 + _UNKNOWN_SPREAD)

    @property
    def within_limit(self) -> bool | None:
        """Whether it keeps to its limit; None where it has none."""
        return None if self.limit is None else self.limit.holds(self.value, self.ratio)


@dataclass(frozen=True, slots=True)
class Curve:
    """How `y` grows with `x`, both positive."""

    name: str
    x: tuple[float, ...]
    y: tuple[float, ...]

    @property
    def slope(self) -> float | None:
        """Exponent b of y = a x^b, by least squares on logarithms; None of fewer than two points."""
        if len(self.x) < 2:
            return None
        return float(np.polyfit(np.log(self.x), np.log(self.y), 1)[0])


@dataclass(frozen=True, slots=True)
class Plot:
    """Curves in one picture, on logarithmic axes."""

    title: str
    x: str
    y: str
    curves: tuple[Curve, ...]


@dataclass(frozen=True, slots=True)
class Result:
    """What one benchmark found. details: all else that it saw, for programs. notes: plain lines, of what was skipped.

    load: of the machine, before and after (1 minute).
    """

    bench: str
    figures: tuple[Figure, ...]
    plots: tuple[Plot, ...] = ()
    details: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    load: tuple[float, float] = (0.0, 0.0)

    def as_json(self) -> dict[str, Any]:
        """Plain values, with what follows from them."""
        plain = dataclasses.asdict(self)
        for figure, body in zip(self.figures, plain["figures"], strict=True):
            derived = {"value": figure.value, "ratio": figure.ratio, "within_limit": figure.within_limit}
            body |= derived
        for plot, body in zip(self.plots, plain["plots"], strict=True):
            for curve, each in zip(plot.curves, body["curves"], strict=True):
                each["slope"] = curve.slope
        return plain

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> "Result":
        """What `as_json` made; KeyError, TypeError or ValueError where it did not."""
        figures = tuple(
            Figure(
                str(each["name"]),
                str(each["unit"]),
                tuple(map(float, each["values"])),
                each["beside"],
                tuple(map(float, each["ratios"])),
                None if each["limit"] is None else Limit(**each["limit"]),
            )
            for each in body["figures"]
        )
        plots = tuple(
            Plot(
                each["title"],
                each["x"],
                each["y"],
                tuple(Curve(c["name"], tuple(c["x"]), tuple(c["y"])) for c in each["curves"]),
            )
            for each in body["plots"]
        )
        load = (float(body["load"][0]), float(body["load"][1]))
        return cls(body["bench"], figures, plots, body["details"], tuple(body["notes"]), load)


@dataclass(frozen=True, slots=True)
class Moved:
    """A figure's ratio now and in an earlier run. moved: each lies outside of where the other was seen."""

    before: float
    change: float
    moved: bool


def compared(now: Figure, earlier: Figure) -> Moved | None:
    """How the ratio changed, new over old; None where one of them has none."""
    if now.ratio is None or earlier.ratio is None or now.spread is None or earlier.spread is None:
        return None
    (low, high), (lowest, highest) = now.spread, earlier.spread
    apart = not lowest <= now.ratio <= highest and not low <= earlier.ratio <= high
    return Moved(earlier.ratio, now.ratio / earlier.ratio if earlier.ratio else math.nan, apart)


def interleaved(works: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """What each of `works` measures in each round, by name: A B A B ..., so that the machine's load hits all."""
    found: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(rounds):
        for name, work in works.items():
            found[name].append(work())
    return found


def load() -> float:
    """The machine's load average of a minute."""
    return round(os.getloadavg()[0], 2)


def to_json(results: Sequence[Result]) -> dict[str, Any]:
    """All of a run, as `--json` prints it and `--save` stores it."""
    machine = {"processors": os.cpu_count(), "machine": platform.machine(), "python": platform.python_version()}
    return {"format": _FORMAT, "machine": machine, "benches": [result.as_json() for result in results]}


def save(path: Path, results: Sequence[Result]) -> None:
    """Store a run."""
    path.write_text(json.dumps(to_json(results)))


def read(path: Path) -> list[Result]:
    """What `save` stored. StoredError."""
    try:
        body = json.loads(path.read_text())
        if body["format"] != _FORMAT:
            raise StoredError(f"{path} has format {body['format']!r}, this version reads {_FORMAT}: run it anew")
        return [Result.from_json(each) for each in body["benches"]]
    except OSError as error:
        raise StoredError(f"{path}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError) as error:
        raise StoredError(f"{path} is no result of scripts/bench --save") from error
