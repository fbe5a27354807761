"""Training beside serving: one OS process per fit, one at a time, the rest queue in the order in which they came.

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
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import structlog

from streamer.errors import ArtifactError, TrainingError
from streamer.model import artifact as artifacts
from streamer.model.artifact import Artifact
from streamer.model.dataset import TrainingSet
from streamer.model.pool import Pool
from streamer.model.store import ModelStore
from streamer.service import fitting
from streamer.service.metrics import RetrainOutcome

log = structlog.get_logger(__name__)

_CHUNK_BYTES = 64 * 1024
_RESULT_BYTES = 4 << 20  # one line, with the figures of 2,048 symbols
_KILL_GRACE = 5.0
_REVERTED = {"promoted": False, "reason": "rejected: it was reverted before"}
_ABANDONED_SECONDS = 8 * 86_400  # no `retrain.time_limit` is so long, so nobody works there any more


@dataclass(frozen=True, slots=True, eq=False)
class Collected:
    """What a training is given of one stream: the history, and the model in service (None: persistence)."""

    history: TrainingSet
    champion: str | None


class Learner(Protocol):
    """The stream, or the streams, that a training is for."""

    async def collect(self, waited: bool) -> Mapping[str, Collected]:
        """Of each stream what its turn finds, that of who asked first; empty: there is nothing to be done any more.

        waited: whether trainings of others came first.
        """

    def reverted(self, stream: str, model_id: str) -> bool:
        """Whether the stream's operator has reverted that model."""

    async def install(self, stream: str, model_id: str) -> None:
        """Put a promoted model into service."""

    def ended(self) -> None:
        """Called last, whatever came."""


@dataclass(frozen=True, slots=True, eq=False)
class Job:
    """One training to be done. stream: whose it is, or who asked; others: that it is for too, as far as is known."""

    stream: str
    reason: str
    learner: Learner
    others: frozenset[str] = frozenset()


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


Ended = Callable[[Mapping[str, tuple[RetrainOutcome, Account]], float], None]
"""Told of each training's end: by stream the outcome and what there is to say of it, and the seconds that it took."""


class Trainer:
    """The queue of trainings and the process that does the present one. Other `settings` count from the next on."""

    def __init__(self, settings: TrainerSettings, store: ModelStore, ended: Ended) -> None:
        self.settings = settings
        self._store = store
        self._ended = ended
        self._jobs: asyncio.Queue[tuple[Job, bool]] = asyncio.Queue()
        self._pending: dict[str, Job] = {}

    def request(self, job: Job) -> bool:
        """Queue a training; False (and nothing done) where one of the stream is queued or running."""
        if job.stream in self._pending:
            return False
        waits = bool(self._pending)
        self._pending.update({job.stream: job, **dict.fromkeys(job.others - self._pending.keys(), job)})
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
            collected: Mapping[str, Collected] = {}
            ended: Mapping[str, tuple[RetrainOutcome, Account]] = {}
            try:
                collected = await job.learner.collect(waited)
                ended = await self._train(job, collected) if collected else {}
            except (TrainingError, ArtifactError, LookupError, OSError) as error:
                log.error("training failed, serving goes on as it was", stream=job.stream, reason=str(error))
                failed = RetrainOutcome.FAILED, Account(job.reason, str(error))
                ended = dict.fromkeys(collected or (job.stream,), failed)
            finally:
                self._pending = {stream: other for stream, other in self._pending.items() if other is not job}
            job.learner.ended()
            if ended:
                self._ended(ended, time.monotonic() - began)

    async def _train(
        self, job: Job, collected: Mapping[str, Collected]
    ) -> Mapping[str, tuple[RetrainOutcome, Account]]:
        with tempfile.TemporaryDirectory(prefix=fitting.FOLDER) as folder:
            if len(collected) > 1:
                return await self._train_together(job, collected, Path(folder))
            ((stream, one),) = collected.items()
            return {stream: await self._train_alone(job, stream, one, Path(folder))}

    async def _train_alone(self, job: Job, stream: str, one: Collected, folder: Path) -> tuple[RetrainOutcome, Account]:
        history, champion = one.history, one.champion
        log.info("training", stream=stream, reason=job.reason, ticks=len(history), champion=champion)
        result = await self._fit(folder, stream, history, champion)
        if result["promoted"] and job.learner.reverted(stream, result["model"]):
            result |= _REVERTED
        await asyncio.to_thread(self._store.save_input, stream, history.pack())
        if not result["promoted"]:
            log.info("model rejected", stream=stream, model=result["model"], **_figures(result))
            return RetrainOutcome.REJECTED, Account.of(job.reason, result)
        trained = await asyncio.to_thread(artifacts.read, folder / "model")
        await asyncio.to_thread(self._store.save, stream, trained)
        log.info("model promoted", stream=stream, model=result["model"], **_figures(result))
        await job.learner.install(stream, result["model"])
        return RetrainOutcome.PROMOTED, Account.of(job.reason, result)

    async def _train_together(
        self, job: Job, collected: Mapping[str, Collected], folder: Path
    ) -> Mapping[str, tuple[RetrainOutcome, Account]]:
        """One training for several streams; then each has its own model, put into service in turn."""
        pool = await asyncio.to_thread(Pool.of, {stream: one.history for stream, one in collected.items()})
        champions = {stream: one.champion for stream, one in collected.items() if one.champion is not None}
        log.info("training", stream=job.stream, reason=job.reason, ticks=pool.rows, streams=len(pool))
        result = await self._fit_together(folder, pool, champions)
        log.info("models promoted" if result["promoted"] else "models rejected", streams=len(pool), **_figures(result))
        made = ModelStore(str(folder / "models"), keep=1)
        outcomes = {}
        for stream, history in pool.sets.items():
            try:
                outcomes[stream] = await self._hand_over(job, stream, history, made)
            except (ArtifactError, LookupError) as error:  # of this stream alone
                log.error("model not taken over, serving goes on as it was", stream=stream, reason=str(error))
                outcomes[stream] = RetrainOutcome.FAILED, Account(job.reason, str(error))
        return outcomes

    async def _hand_over(
        self, job: Job, stream: str, history: TrainingSet, made: ModelStore
    ) -> tuple[RetrainOutcome, Account]:
        """Store and install what a training for several streams made for one."""
        await asyncio.to_thread(lambda: self._store.save_input(stream, history.pack()))
        (manifest,) = await asyncio.to_thread(made.list, stream)
        result = {"model": manifest.id, **manifest.gate}
        if result["promoted"] and job.learner.reverted(stream, manifest.id):
            result |= _REVERTED
        if not result["promoted"]:
            return RetrainOutcome.REJECTED, Account.of(job.reason, result)
        await asyncio.to_thread(lambda: self._store.save(stream, made.load(stream, manifest.id)))
        await job.learner.install(stream, manifest.id)
        return RetrainOutcome.PROMOTED, Account.of(job.reason, result)

    async def _fit_together(self, folder: Path, pool: Pool, champions: Mapping[str, str]) -> dict[str, Any]:
        settings = self.settings

        def given() -> Iterator[tuple[str, Artifact]]:
            for stream in pool.sets.keys() & champions.keys():
                try:
                    yield stream, self._store.load(stream, champions[stream])
                except ArtifactError as error:  # of one stream: the others' champions are rivals enough
                    log.warning("champion passed over at the gate", stream=stream, reason=str(error))

        line = await _to_its_end(fitting.pool_command, folder, settings.config, pool, given())
        return await self._in_background(line, settings)

    async def _fit(self, folder: Path, stream: str, history: TrainingSet, champion: str | None) -> dict[str, Any]:
        incumbent = None if champion is None else await asyncio.to_thread(self._store.load, stream, champion)
        settings = self.settings
        line = await _to_its_end(fitting.command, folder, settings.config, history, incumbent)
        return await self._in_background(line, settings)

    async def _in_background(self, line: list[str], settings: TrainerSettings) -> dict[str, Any]:
        line += ["--background", "--memory-limit", str(settings.memory_limit)]
        return await self._child(line, settings.time_limit)

    async def _child(self, line: list[str], time_limit: float) -> dict[str, Any]:
        """Run `streamer train`; its last line on stdout is the result. TrainingError says what became of it."""
        process = await asyncio.create_subprocess_exec(
            *line,
            stdin=asyncio.subprocess.PIPE,  # its end tells the child that the daemon is gone
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            limit=_CHUNK_BYTES,
            start_new_session=True,  # a Ctrl-C at the terminal is the daemon's to answer
            env=fitting.environment(),
        )
        try:
            async with asyncio.timeout(time_limit):
                output, errors, code = await asyncio.gather(
                    _tail(process.stdout, _RESULT_BYTES), _tail(process.stderr, _CHUNK_BYTES), process.wait()
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


async def _tail(stream: asyncio.StreamReader | None, most: int) -> list[str]:
    """The last lines of a stream, `most` bytes, read to its end so that a child that floods it never blocks."""
    assert stream is not None
    tail = bytearray()
    while chunk := await stream.read(_CHUNK_BYTES):
        tail += chunk
        del tail[:-most]
    return fitting.tail(bytes(tail))


async def _to_its_end(work: Callable[..., list[str]], *arguments: Any) -> list[str]:
    """In a thread, which a cancel waits for: it writes to a folder that is removed then."""
    running = asyncio.create_task(asyncio.to_thread(work, *arguments))
    try:
        return await asyncio.shield(running)
    finally:
        await asyncio.gather(running, return_exceptions=True)


async def _end(process: asyncio.subprocess.Process) -> None:
    """Kill the process group if it still runs, and reap it."""
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        # A TimeoutError would be taken for the training's, and hide that the daemon is to end.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_KILL_GRACE):
                await process.wait()
