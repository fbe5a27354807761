"""One training as a process of its own: its command line, its environment, and what its end means.

Shared by the daemon, which awaits it, and by backtests, which wait for it: the same history gives the same model.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from streamer.errors import TrainingError
from streamer.model import artifact as artifacts
from streamer.model.artifact import Artifact
from streamer.model.dataset import TrainingSet
from streamer.model.pool import Pool
from streamer.model.store import ModelStore
from streamer.settings import Calendar, Input, Output, Registry, Security, Settings

FOLDER = "streamer-train-"
"""Prefix of the folders that trainings work in."""

_OUT_OF_MEMORY = ("MemoryError", "bad_alloc", "Cannot allocate memory", "ResourceExhaustedError")
_TAIL_LINES = 20  # of the trainer's stderr, for the log: the end says what went wrong


def configuration(settings: Settings) -> str:
    """The effective settings for the child, as YAML without secrets, nor where they are: it meets no broker.

    It signs nothing either: the champion that it is given has been checked, and its model is signed when it is stored.
    Nor does it need a calendar, which may take a second to load: its history says where sessions begin.
    """
    public = {
        "kafka": settings.kafka.model_copy(update={"security": Security()}),
        "input": Input(),  # nor messages
        "output": Output(),
        "registry": Registry(),
        "models": settings.models.model_copy(update={"hmac_key": None, "hmac_key_file": None}),
        "feed": settings.feed.model_copy(update={"calendar": Calendar()}),
        "http": settings.http.model_copy(update={"token": None, "token_file": None}),
    }
    return settings.model_copy(update=public).effective()


def command(folder: Path, config: str, history: TrainingSet, champion: Artifact | None) -> list[str]:
    """Write what a training needs to `folder`; returns the command that leaves its model in `folder`/model."""
    history.save(folder / "history.npz")
    (folder / "config.yaml").write_text(config)
    arguments = ["--config", str(folder / "config.yaml"), "--output", str(folder / "model"), "--json"]
    if champion is not None:
        artifacts.write(champion, folder / "champion")
        arguments += ["--champion", str(folder / "champion")]
    return [sys.executable, "-m", "streamer", "train", str(folder / "history.npz"), *arguments]


def pool_command(folder: Path, config: str, pool: Pool, champions: Iterable[tuple[str, Artifact]]) -> list[str]:
    """Write what a training for several streams needs; the command leaves the models in the store at `folder`/models.

    champions: of the streams that have one, by name; no more than one is held at a time.
    """
    pool.save(folder / "history.npz")
    (folder / "config.yaml").write_text(config)
    given = ModelStore(str(folder / "champions"), keep=1)
    stream = None
    for stream, champion in champions:
        given.save(stream, champion)
    arguments = ["--config", str(folder / "config.yaml"), "--output", str(folder / "models"), "--json"]
    if stream is not None:
        arguments += ["--champion", given.url]
    return [sys.executable, "-m", "streamer", "train", str(folder / "history.npz"), *arguments]


def environment() -> dict[str, str]:
    """This process's environment less its settings, which the child is given whole, without secrets."""
    kept = {name: value for name, value in os.environ.items() if not name.upper().startswith("STREAMER_")}
    # TensorFlow's autograph writes modules to the temporary folder; their bytecode would outlive them there.
    return kept | {"TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONUNBUFFERED": "1", "PYTHONDONTWRITEBYTECODE": "1"}


def tail(output: bytes) -> list[str]:
    """The last lines of an output."""
    return [line.strip() for line in output.decode(errors="replace").splitlines() if line.strip()][-_TAIL_LINES:]


def result(code: int, output: Sequence[str], errors: Sequence[str]) -> dict[str, Any]:
    """The result that a training gave as its last line; TrainingError says what became of it otherwise."""
    if code != 0:
        how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        said = " | ".join(errors)
        if any(sign in said for sign in _OUT_OF_MEMORY):
            how += (
                ", out of memory: raise retrain.memory_limit or lower retrain.history, of a shared model retrain.pool"
            )
        raise TrainingError(f"the training process ended with {how}: {said or 'it said nothing'}")
    last = output[-1] if output else ""
    try:
        found: dict[str, Any] = json.loads(last)
    except ValueError:
        raise TrainingError(f"the training process gave no result but {last[:200]!r}") from None
    return found


def took_too_long(time_limit: float) -> TrainingError:
    """The error of a training that `retrain.time_limit` (seconds) ended."""
    return TrainingError(f"it took longer than retrain.time_limit, {time_limit:g} s")


def train(
    config: str, time_limit: float, history: TrainingSet, champion: Artifact | None
) -> tuple[dict[str, Any], Artifact]:
    """Do one training and wait for it; returns its result and its model, promoted or not.

    The child ends with this process. Raises TrainingError, ArtifactError.
    """
    with tempfile.TemporaryDirectory(prefix=FOLDER) as name:
        folder = Path(name)
        line = [*command(folder, config, history, champion), "--attached"]
        output, errors = folder / "stdout", folder / "stderr"
        with output.open("wb") as out, errors.open("wb") as err:
            code = _wait(line, out.fileno(), err.fileno(), time_limit)
        found = result(code, tail(output.read_bytes()), tail(errors.read_bytes()))
        return found, artifacts.read(folder / "model")


def _wait(line: list[str], output: int, errors: int, time_limit: float) -> int:
    # A session of its own: a Ctrl-C at the terminal is ours to answer.
    process = subprocess.Popen(
        line, stdin=subprocess.PIPE, stdout=output, stderr=errors, start_new_session=True, env=environment()
    )
    with process:
        try:
            return process.wait(time_limit)
        except subprocess.TimeoutExpired:
            raise took_too_long(time_limit) from None
        finally:
            if process.poll() is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
