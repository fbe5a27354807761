"""What the benchmarks return, how two runs compare, and what people see of it. None of them runs here."""

import json
import re
from pathlib import Path

import pytest

from tests.bench import __main__ as command
from tests.bench import _report, _result
from tests.bench._result import Curve, Figure, Limit, Plot, Result, StoredError

BARE = Figure.of("bare", "ms", [4.0, 5.0, 10.0])
OURS = Figure.of("ours", "ms", [5.0, 5.0, 11.0], BARE, Limit(1.2))


def result(*figures: Figure, plots: tuple[Plot, ...] = ()) -> Result:
    return Result("some", figures, plots, {"n": 3}, ("a rival is absent",), (0.5, 1.5))


def scaled(factor: float) -> Figure:
    return Figure.of("ours", "ms", [factor * value for value in OURS.values], BARE, Limit(1.2))


# --- figures ----------------------------------------------------------------------------------------------------------


def test_a_ratio_is_of_the_values_of_the_same_round() -> None:
    assert OURS.ratios == (1.25, 1.0, 1.1)
    assert (OURS.value, OURS.ratio, OURS.spread) == (5.0, 1.1, (1.0, 1.25))


def test_the_ratio_of_figures_with_unequal_rounds_is_that_of_their_medians() -> None:
    assert Figure.of("ours", "ms", [10.0, 30.0], BARE).ratios == (4.0,)


def test_a_ratio_that_was_taken_once_gets_a_wide_spread() -> None:
    figure = Figure.of("ours", "ms", [6.0], Figure.of("bare", "ms", [3.0]))
    assert figure.spread == (1.5, 2.5)


def test_there_is_no_ratio_to_nothing() -> None:
    assert Figure.of("ours", "ms", [6.0], Figure.of("bare", "ms", [0.0])).ratio is None


@pytest.mark.parametrize(
    ("limit", "expected"),
    [
        (Limit(1.2), True),
        (Limit(1.05), False),
        (Limit(1.0, least=True), True),
        (Limit(4.9, absolute=True), False),
        (Limit(8_000.0, absolute=True, least=True), False),
    ],
)
def test_a_limit_is_one_of_the_ratio_or_of_the_value(limit: Limit, expected: bool) -> None:
    assert Figure.of("ours", "ms", OURS.values, BARE, limit).within_limit is expected


def test_a_limit_of_a_ratio_says_nothing_where_there_is_none() -> None:
    assert Figure.of("ours", "ms", [1.0], limit=Limit(1.2)).within_limit is None


def test_the_slope_of_a_curve_is_its_exponent() -> None:
    x = (2.0, 20.0, 2_000.0)
    assert Curve("square", x, tuple(3.0 * value**2 for value in x)).slope == pytest.approx(2.0)
    assert Curve("a point", (2.0,), (1.0,)).slope is None


def test_what_is_measured_takes_turns() -> None:
    order: list[str] = []

    def work(name: str) -> float:
        order.append(name)
        return float(len(order))

    found = _result.interleaved({"a": lambda: work("a"), "b": lambda: work("b")}, 3)
    assert order == ["a", "b"] * 3
    assert found == {"a": [1.0, 3.0, 5.0], "b": [2.0, 4.0, 6.0]}


# --- comparison -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("factor", "moved"), [(1.0, False), (1.1, False), (1.5, True), (0.5, True)])
def test_a_ratio_has_moved_once_it_lies_outside_of_both_spreads(factor: float, moved: bool) -> None:
    found = _result.compared(scaled(factor), OURS)
    assert found is not None
    assert found.change == pytest.approx(factor)
    assert found.moved is moved


def test_a_figure_without_a_ratio_is_not_compared() -> None:
    assert _result.compared(BARE, BARE) is None


def test_a_stored_run_is_read_as_it_was(tmp_path: Path) -> None:
    run = [result(BARE, OURS, plots=(Plot("Cost", "symbols", "us", (Curve("c", (1.0, 2.0), (3.0, 4.0)),)),))]
    _result.save(tmp_path / "run.json", run)
    assert _result.read(tmp_path / "run.json") == run


def stored(**changed: object) -> str:
    """A run, of whose figure something has changed."""
    run = _result.to_json([result(OURS)])
    run["benches"][0]["figures"][0].update(changed)
    return json.dumps(run)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"format": 99, "benches": []}',
        '{"format": 1, "benches": [{}]}',
        "[" * 100_000,
        stored(values=["a"]),
        stored(ratios="abc"),
        stored(ratios={"a": 1}),
        stored(ratios=[None]),
    ],
)
def test_what_is_no_stored_run_is_refused_by_its_name(tmp_path: Path, text: str) -> None:
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(StoredError, match=re.escape("run.json")):
        _result.read(tmp_path / "run.json")


# --- what people see --------------------------------------------------------------------------------------------------


def test_the_table_has_each_ratio_its_spread_and_whether_it_keeps_to_its_limit() -> None:
    lines = _report.table([result(BARE, OURS)]).splitlines()
    (line,) = [line for line in lines if "some: ours" in line]
    assert re.split(r"\s{2,}", line) == ["some: ours", "5", "ms", "1.1 x", "1 .. 1.25", "bare", "<= 1.2 x", "ok"]
    assert "some: a rival is absent" in lines


def test_the_table_of_a_comparison_marks_what_has_moved_and_what_is_new() -> None:
    earlier = _report.earlier_figures([result(BARE, OURS)])
    other = Figure.of("other", "ms", [1.0], BARE)
    lines = _report.table([result(BARE, scaled(1.5), other)], earlier).splitlines()
    assert [line.split()[-1] for line in lines if "some: o" in line] == ["moved", "new"]


def test_the_report_needs_no_other_address_and_escapes_names(tmp_path: Path) -> None:
    curve = Curve("<b>", (1.0, 10.0), (1.0, 100.0))
    page = _report.html([result(BARE, Figure.of("<i>", "ms", [1.0]), plots=(Plot("Cost", "n", "us", (curve,)),))])
    own = page[: page.index("<script>")] + page[page.index("</script>") :]  # without plotly itself
    assert not re.findall(r"(?:src|href)\s*=", own)
    assert "://" not in own
    assert "&lt;i&gt;" in own
    assert "<i>" not in own
    assert "slope 2.00" in own


# --- the command ------------------------------------------------------------------------------------------------------


def test_help_names_every_benchmark(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        command.main(["--help"])
    shown = capsys.readouterr().out
    for name in ("tick", "latency", "catchup", "growth", "streams", "scaleout", "footprint", "wide"):
        assert re.search(rf"^  {name} +\w", shown, re.MULTILINE)


def test_an_unknown_benchmark_is_refused_before_any_runs(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        command.main(["--only", "tick,tock"])
    assert "'tock'" in capsys.readouterr().err


def test_a_comparison_with_no_stored_run_is_refused_before_anything_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.main(["tick", "--compare", str(tmp_path / "none.json")]) == 2
    assert "none.json" in capsys.readouterr().err


def test_a_folder_that_cannot_be_made_is_refused_before_anything_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    assert command.main(["tick", "--out", str(tmp_path / "file" / "folder")]) == 2
    assert "Not a directory" in capsys.readouterr().err


def test_no_name_is_no_benchmark(capsys: pytest.CaptureFixture[str]) -> None:
    """And not all of them, which take hours."""
    with pytest.raises(SystemExit, match="2"):
        command.main(["--only", ""])
    assert "no benchmark ''" in capsys.readouterr().err


def test_json_has_figures_and_the_comparison() -> None:
    earlier = _report.earlier_figures([result(BARE, OURS)])
    now = [result(BARE, scaled(1.5))]
    body = json.loads(json.dumps(_result.to_json(now) | _report.changes(now, earlier)))
    (bench,) = body["benches"]
    assert bench["figures"][1]["ratio"] == pytest.approx(1.65)
    assert bench["figures"][1]["within_limit"] is False
    assert body["compared"]["some"]["ours"]["moved"] is True
