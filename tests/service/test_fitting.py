"""What a training process is given, and what its end means."""

import sys

import pytest

from streamer.config import load
from streamer.errors import TrainingError
from streamer.model.store import ModelStore
from streamer.service import fitting
from streamer.service.trainer import Trainer, TrainerSettings
from streamer.settings import Calendar, yaml_text


@pytest.mark.parametrize("said", ["MemoryError", "terminate called after 'std::bad_alloc'"])
def test_a_training_without_memory_names_the_limit(said: str) -> None:
    with pytest.raises(TrainingError, match=r"exit code 1, out of memory: raise retrain\.memory_limit .*" + said):
        fitting.result(1, [], ["Traceback", said])


@pytest.mark.parametrize(
    ("code", "output", "reason"),
    [(-9, [], "signal SIGKILL: it said nothing"), (0, ["done"], "no result but 'done'"), (0, [], "no result but ''")],
)
def test_a_training_without_a_result_has_failed(code: int, output: list[str], reason: str) -> None:
    with pytest.raises(TrainingError, match=reason):
        fitting.result(code, output, [])


async def test_a_training_that_floods_its_output_is_read_to_its_end_and_only_the_end_is_kept() -> None:
    """32 MB on each stream: a child that nobody reads would block, and one that is kept whole would fill memory."""
    script = "import sys; [f.write(('x' * 99 + chr(10)) * 320_000) for f in (sys.stdout, sys.stderr)]; print('{}')"
    trainer = Trainer(TrainerSettings("", 60.0, 1 << 30), ModelStore("unused", keep=1), lambda *_: None)
    assert await trainer._child([sys.executable, "-c", script], 60.0) == {}


async def test_the_result_of_a_training_of_two_thousand_symbols_is_read_whole() -> None:
    figures = "'n': 9999, **dict.fromkeys(('rmse', 'incumbent_rmse', 'rmse_beside_incumbent', 'persistence_rmse'), 2/3)"
    script = f"import json; print(json.dumps({{'symbols': {{f'{{i:064}}': {{{figures}}} for i in range(2048)}}}}))"
    trainer = Trainer(TrainerSettings("", 60.0, 1 << 30), ModelStore("unused", keep=1), lambda *_: None)
    assert len((await trainer._child([sys.executable, "-c", script], 60.0))["symbols"]) == 2_048


async def test_a_training_that_says_nothing_and_does_not_end_is_killed() -> None:
    trainer = Trainer(TrainerSettings("", 0.2, 1 << 30), ModelStore("unused", keep=1), lambda *_: None)
    with pytest.raises(TrainingError, match=r"retrain\.time_limit, 0\.2 s"):
        await trainer._child([sys.executable, "-c", "import time; time.sleep(3600)"], 0.2)


def test_the_child_is_given_all_settings_of_the_feed_but_the_calendar() -> None:
    feed = {"feed.calendar": "XNYS", "feed.inputs": ["VOL"], "feed.change": {"VOL": "difference"}}
    settings = load(None, {}, {"kafka.bootstrap_servers": "a:1", **feed})
    child = yaml_text.read(fitting.configuration(settings)).data
    assert isinstance(child, dict)
    assert child["feed"] | {"calendar": None} == yaml_text.read(settings.effective()).data["feed"] | {"calendar": None}
    assert Calendar.model_validate(child["feed"]["calendar"]) == Calendar()
