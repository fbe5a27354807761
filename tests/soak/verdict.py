"""What a `read_committed` reader finds, against what each input offset had to become and an undisturbed run."""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from tests.e2e.feeding import Offset, Published
from tests.e2e.script import Expected, iso

DROPPED = ("duplicate", "late")
_SHOWN = 5


@dataclass
class Verdict:
    """Counts of input offsets with something wrong, and examples.

    lost: no outcome. doubled: two or more, or one for a drop. unequal: repeated with another id or value (at least
    once). wrong: another outcome than the oracle's. disordered: behind a later one of their partition. different: the
    forecast is not that of an undisturbed run.
    """

    lost: int = 0
    doubled: int = 0
    unequal: int = 0
    wrong: int = 0
    disordered: int = 0
    different: int = 0
    repeated: int = 0
    examples: list[str] = field(default_factory=list)

    def clean(self, delivery: str) -> bool:
        """Whether all is as the delivery promises."""
        bad = self.lost + self.unequal + self.wrong + self.different
        return not (bad if delivery == "at_least_once" else bad + self.doubled + self.disordered)

    def figures(self) -> dict[str, Any]:
        """As JSON has it."""
        return asdict(self)

    def note(self, kind: str, offset: Offset, detail: object = "") -> None:
        """Count one offset with something wrong."""
        setattr(self, kind, getattr(self, kind) + 1)
        if len([example for example in self.examples if example.startswith(kind)]) < _SHOWN:
            self.examples.append(f"{kind} {offset[0]}-{offset[1]} {detail}".rstrip())


def judge(published: Published, expected: Mapping[Offset, Expected], prices: str) -> Verdict:
    """Each offset of `expected` against what was published."""
    verdict, found = Verdict(), published.by_offset()
    for offset, wanted in expected.items():
        records = found.pop(offset, [])
        if not records and wanted.outcome not in DROPPED:
            verdict.note("lost", offset, wanted.outcome)
        if len(records) > (wanted.outcome not in DROPPED):
            verdict.note("doubled", offset, f"{len(records)} outcomes of a {wanted.outcome}")
            verdict.repeated += len(records) - 1
        if len({(record.topic, record.key, record.value) for record in records}) > 1:
            verdict.note("unequal", offset, [record.value for record in records])
        if records and (flaw := _flaw(records[0], wanted, prices, offset)):
            verdict.note("wrong", offset, flaw)
    for offset in found:
        verdict.note("wrong", offset, "nobody sent this")
    _check_order(Published(published.forecasts, []), verdict)
    _check_order(Published([], published.dead_letters), verdict)
    return verdict


def compare(published: Published, undisturbed: Published, verdict: Verdict) -> None:
    """Each forecast must have the bytes of the undisturbed run's."""
    others = Published(undisturbed.forecasts, []).forecast_values()
    for offset, records in Published(published.forecasts, []).by_offset().items():
        forecasts = {record.value for record in records}
        if forecasts != {others.get(offset)}:
            verdict.note("different", offset, [*forecasts, others.get(offset)])


def by_model(published: Published) -> dict[str, int]:
    """Forecasts by model."""
    return dict(Counter(value["model"] for value in published.values()))


def _check_order(published: Published, verdict: Verdict) -> None:
    newest: dict[int, int] = {}
    for partition, offset in published.by_offset():
        if offset < newest.get(partition, -1):
            verdict.note("disordered", (partition, offset), f"behind {newest[partition]}")
        newest[partition] = max(offset, newest.get(partition, -1))


def _flaw(record: Any, wanted: Expected, prices: str, offset: Offset) -> str:
    """What is not as it must be; empty where all is."""
    if record.partition != offset[0]:
        return f"in partition {record.partition}"
    reason = dict(record.headers).get("__streams.errors.exception")
    if wanted.outcome != "forecast":
        same = (record.key, record.value) == (wanted.message.key, wanted.message.value)
        return "" if same and reason == wanted.outcome.encode() else f"{reason!r} in place of {wanted.outcome}"
    if reason is not None:
        return f"dead letter, {reason!r} {dict(record.headers).get('__streams.errors.message')!r}"
    value = json.loads(record.value)
    must = {
        "id": f"{prices}-{offset[0]}-{offset[1]}",
        "stream": wanted.stream,
        "as_of": iso(wanted.as_of),
        "target": iso(wanted.as_of + 1),
        "last": wanted.last,
        "source": {"topic": prices, "partition": offset[0], "offset": offset[1]},
    }
    return "" if must.items() <= value.items() else f"{value} has not {must}"
