"""Training beside serving: one OS process per fit, one at a time, the rest queue.

The process is `streamer train` on a job folder. It sets its own limits, ends with its parent, and can fail in any
way without serving noticing more than an outcome.
"""

import asyncio
import contextlib
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog

from streamer.errors import ArtifactError, TrainingError
from streamer.model import artifact as artifacts
from streamer.model.dataset import TrainingSet
from streamer.model.store import ModelStore
from streamer.service import fitting
from streamer.service.metrics import RetrainOutcome

log = structlog.get_logger(__name__)

_LINE_BYTES = 64 * 1024
_KILL_GRACE = 5.0
_ABANDONED_SECONDS = 8 * 86_400  # no `retrain.time_limit` is so long, so nobody works there any more


@dataclass(frozen=True, slots=True, eq=False)
class Job:
    """One training to be done.

    collect: gives the history when its turn comes, and the id of the model in service (None: persistence); None if
    the stream is not ours any more. It is told whether those of other streams came first. reverted: whether a model
    was reverted. install: puts a promoted model into service. ended: called last, whatever came.
    """

    stream: str
    reason: str
    collect: Callable[[bool], tuple[TrainingSet, str | None] | None]
    reverted: Callable[[str], bool]
    install: Callable[[str], Awaitable[None]]
    ended: Callable[[], None]


@dataclass(frozen=True, slots=True)
class TrainerSettings:
    """What a training is given. config: the child's, as YAML. Limits: seconds, bytes."""

    config: str
    time_limit: float
    memory_limit: int


@dataclass(frozen=True, slots=True)
class Account:
    """What there is to say of a training that has ended.

    due: why it was. detail: why it ended as it did, one line. model: its id, None where there is none. skill, ratio:
    against persistence and against the champion, on the gate's rows.
    """

    due: str = ""
    detail: str = ""
    model: str | None = None
    skill: float | None = None
    ratio: float | None = None

    @classmethod
    def of(cls, due: str, result: Mapping[str, Any]) -> "Account":
        """Of the result that the training gave."""
        error = result.get("persistence_ratio")
        skill = None if error is None else 1.0 - error
        return cls(due, str(result.get("reason", "")), result["model"], skill, result.get("ratio"))


Ended = Callable[[str, RetrainOutcome, float, Account], None]
"""Told of each training's end: stream, outcome, seconds, and the rest."""


class Trainer:
    """The queue of trainings and the process that does the present one. Other `settings` count from the next on."""

    def __init__(self, settings: TrainerSettings, store: ModelStore, ended: Ended) -> None:
        self.settings = settings
        self._store = store
        self._ended = ended
        self._jobs: asyncio.Queue[tuple[Job, bool]] = asyncio.Queue()
        self._pending: set[str] = set()

    def request(self, job: Job) -> bool:
        """Queue a training; False (and nothing done) where one of the stream is queued or running."""
        if job.stream in self._pending:
            return False
        waits = bool(self._pending)
        self._pending.add(job.stream)
        self._jobs.put_nowait((job, waits))
        return True

    def busy_with(self, stream: str) -> bool:
        """Whether a training of `stream` is queued or running."""
        return stream in self._pending

    async def run(self) -> None:
        """Do the trainings one after the other, until cancelled; then the running process is killed."""
        await asyncio.to_thread(_sweep)
        while True:
            job, waited = await self._jobs.get()
            began = time.monotonic()
            ended: tuple[RetrainOutcome, Account] | None
            try:
                ended = await self._train(job, waited)
            except (TrainingError, ArtifactError, LookupError, OSError) as error:
                log.error("training failed, serving goes on as it was", stream=job.stream, reason=str(error))
                ended = RetrainOutcome.FAILED, Account(job.reason, str(error))
            finally:
                self._pending.discard(job.stream)
            job.ended()
            if ended is not None:
                outcome, account = ended
                self._ended(job.stream, outcome, time.monotonic() - began, account)

    async def _train(self, job: Job, waited: bool) -> tuple[RetrainOutcome, Account] | None:
        collected = job.collect(waited)
        if collected is None:
            return None
        history, champion = collected
        log.info("training", stream=job.stream, reason=job.reason, ticks=len(history), champion=champion)
        with tempfile.TemporaryDirectory(prefix=fitting.FOLDER) as folder:
            result = await self._fit(Path(folder), job.stream, history, champion)
            if result["promoted"] and job.reverted(result["model"]):
                result |= {"promoted": False, "reason": "rejected: it was reverted before"}
            await asyncio.to_thread(self._store.save_input, job.stream, history.pack())
            if not result["promoted"]:
                log.info("model rejected", stream=job.stream, model=result["model"], **_figures(result))
                return RetrainOutcome.REJECTED, Account.of(job.reason, result)
            trained = await asyncio.to_thread(artifacts.read, Path(folder) / "model")
            await asyncio.to_thread(self._store.save, job.stream, trained)
        log.info("model promoted", stream=job.stream, model=result["model"], **_figures(result))
        await job.install(result["model"])
        return RetrainOutcome.PROMOTED, Account.of(job.reason, result)

    async def _fit(self, folder: Path, stream: str, history: TrainingSet, champion: str | None) -> dict[str, Any]:
        incumbent = None if champion is None else await asyncio.to_thread(self._store.load, stream, champion)
        settings = self.settings
        line = await asyncio.to_thread(fitting.command, folder, settings.config, history, incumbent)
        line += ["--background", "--memory-limit", str(settings.memory_limit)]
        return await self._child(line, settings.time_limit)

    async def _child(self, line: list[str], time_limit: float) -> dict[str, Any]:
        """Run `streamer train`; its last line on stdout is the result. TrainingError says what became of it."""
        process = await asyncio.create_subprocess_exec(
            *line,
            stdin=asyncio.subprocess.PIPE,  # its end tells the child that the daemon is gone
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            limit=_LINE_BYTES,
            start_new_session=True,  # a Ctrl-C at the terminal is the daemon's to answer
            env=fitting.environment(),
        )
        try:
            async with asyncio.timeout(time_limit):
                output, errors, code = await asyncio.gather(
                    _tail(process.stdout), _tail(process.stderr), process.wait()
                )
        except TimeoutError:
            raise fitting.took_too_long(time_limit) from None
        finally:
            await _end(process)
        return fitting.result(code, output, errors)


def _figures(result: dict[str, Any]) -> dict[str, Any]:
    return {name: result[name] for name in ("ratio", "skill", "reason", "seconds") if name in result}


def _sweep() -> None:
    """Remove the folders of trainings whose daemon was killed."""
    for folder in Path(tempfile.gettempdir()).glob(f"{fitting.FOLDER}*"):
        with contextlib.suppress(OSError):
            if time.time() - folder.stat().st_mtime > _ABANDONED_SECONDS:
                shutil.rmtree(folder)


async def _tail(stream: asyncio.StreamReader | None) -> list[str]:
    """The last lines of a stream, read to its end so that a child that floods it never blocks."""
    assert stream is not None
    tail = b""
    while chunk := await stream.read(_LINE_BYTES):
        tail = (tail + chunk)[-_LINE_BYTES:]
    return fitting.tail(tail)


async def _end(process: asyncio.subprocess.Process) -> None:
    """Kill the process group if it still runs, and reap it."""
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        async with asyncio.timeout(_KILL_GRACE):
            await process.wait()
