"""The report: one file that asks nobody for anything, with everything in it."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from streamer.backtesting import Options, Result, figures
from streamer.core.forecaster import PERSISTENCE, SERVED
from streamer.errors import UsageError
from tests.backtesting.helpers import Learner, run, walk

OPTIONS = Options(train_fraction=0.5, retrain_every=20)


@pytest.fixture(scope="module")
def result() -> Result:
    """Two symbols, one with a name that a page must not take for markup, blanks, two models of three."""
    table = walk(100).rename(columns={"B": "<b>&"})
    table.iloc[60:63, 1] = np.nan
    return Result(run(table, Learner(True, False), options=OPTIONS))


@pytest.fixture(scope="module")
def page(result: Result, tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("report")
    result.write(folder)
    return (folder / "report.html").read_text()


class Tags(HTMLParser):
    """Collects the tags with their attributes, and the text outside of scripts."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._in_code = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._in_code = tag in ("script", "style")

    def handle_endtag(self, tag: str) -> None:
        self._in_code = False

    def handle_data(self, data: str) -> None:
        if not self._in_code:
            self.text += data


def parsed(page: str) -> Tags:
    tags = Tags()
    tags.feed(page)
    return tags


def test_it_loads_nothing_from_elsewhere(page: str) -> None:
    for _, attributes in parsed(page).tags:
        assert not {"src", "href"} & set(attributes)
    ours = page[page.index("</script>") :]  # behind plotly's own code
    assert not re.search(r"https?://", ours)


def test_it_has_every_part(page: str, result: Result) -> None:
    text = parsed(page).text
    for part in ("Errors", "Intervals", "Copycat check", "Models", "Predicted over true", "Coverage"):
        assert part in text
    for model in result.trainings["model"]:
        assert model in text
    assert "so it was told" in text, "what the gate said"
    assert page.count("Plotly.newPlot") >= 2 * 3


def test_names_of_symbols_are_no_markup(page: str) -> None:
    assert ("b", {}) not in parsed(page).tags
    assert "<h2>&lt;b&gt;&amp;</h2>" in page


def test_the_picture_is_dashed_over_true_and_zoomed_to_the_end(result: Result) -> None:
    figure = figures.prices(result, result.columns[0])
    traces = {trace.name: trace for trace in figure.data}
    assert traces["predicted"].line.dash == "dash"
    assert [trace.name for trace in figure.data][-2:] == ["true", "predicted"]
    np.testing.assert_array_equal(traces["true"].y, result.actual["A"])
    np.testing.assert_array_equal(traces["predicted"].y, result.predicted["A"])
    assert figure.layout.xaxis.range[1] == result.times[-1]


def test_the_error_curve_ends_at_the_share_of_squared_error_saved(result: Result) -> None:
    column = result.columns[0]
    curves = {trace.name: trace for trace in figures.error(result, column).data}
    assert PERSISTENCE not in curves
    rmse = column.score(0.9).rmse
    served, flat = rmse[SERVED], rmse[PERSISTENCE]
    assert served is not None
    assert flat is not None
    assert curves[SERVED].y[-1] == pytest.approx(100 * (1 - (served / flat) ** 2))


def test_the_largest_experts_have_a_line_and_the_rest_one_together(result: Result) -> None:
    names = [f"e{number:02}" for number in range(12)]
    weights = [number / 66 for number in range(12)]
    shares = pd.DataFrame({"time": result.times[0], "target": "A", "expert": names, "weight": weights})
    shown = Result(result._backtest)
    shown.__dict__["shares"] = shares
    figure = figures.experts(shown, result.columns[0])
    assert figure is not None
    assert [trace.name for trace in figure.data] == [*reversed(names[4:]), "4 others"]
    assert sum(trace.y[0] for trace in figure.data) == pytest.approx(1.0)
    assert figures.experts(shown, result.columns[1]) is None


def test_files_read_back_to_the_same_bits(result: Result, tmp_path: Path) -> None:
    result.write(tmp_path)
    for name, frame in (("predicted.csv", result.predicted), ("test_data.csv", result.actual)):
        read = pd.read_csv(tmp_path / name, index_col="timestamp")
        assert read.index[0] == "2026-01-05T00:50:00Z"
        assert list(read.columns) == ["A", "<b>&"]
        assert read.to_numpy().tobytes() == frame.to_numpy().tobytes()
    assert "2026-01-05T01:00:00Z" in (tmp_path / "test_data.csv").read_text()
    assert re.search(r"^2026-01-05T01:00:00Z,[\d.]+,$", (tmp_path / "test_data.csv").read_text(), re.MULTILINE)
    assert json.loads((tmp_path / "summary.json").read_text()) == result.summary


def test_the_summary_is_json_without_nan(result: Result) -> None:
    text = json.dumps(result.summary, allow_nan=False)
    assert json.loads(text)["trainings"] == {"promoted": 2, "rejected": 1}


def test_a_folder_that_cannot_be_written_is_named(result: Result, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match=r"file.*: cannot be written"):
        result.write(tmp_path / "file")
