import io
import json
import logging
from collections.abc import Iterator
from enum import StrEnum
from typing import Any

import aiokafka.errors
import numpy as np
import pytest
import structlog
from aiohttp.http_exceptions import BadStatusLine
from aiokafka import TopicPartition
from pydantic import SecretStr

from streamer.service import logs

PRODUCE_LINE = "Got error produce response on topic-partition %s, retrying. Error: %s"  # as in aiokafka's sender


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def restored_logging() -> Iterator[None]:
    """Leaves the root logger and structlog as they were."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


@pytest.fixture
def stream() -> io.StringIO:
    return io.StringIO()


def json_lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line, parse_constant=pytest.fail) for line in stream.getvalue().splitlines()]


def test_a_json_line_has_time_level_logger_event_and_the_key_values(stream: io.StringIO) -> None:
    logs.configure("info", "json", stream)
    structlog.get_logger("streamer.demo").warning("late tick", stream="prices-0", offset=7)
    (line,) = json_lines(stream)
    time = line.pop("time")
    assert time.endswith("Z")
    assert line == {
        "level": "warning",
        "logger": "streamer.demo",
        "event": "late tick",
        "stream": "prices-0",
        "offset": 7,
    }


def test_records_of_other_libraries_look_like_our_own(stream: io.StringIO) -> None:
    logs.configure("info", "json", stream)
    logging.getLogger("aiokafka.client").error("no broker at %s", "127.0.0.1:9092")
    (line,) = json_lines(stream)
    assert (line["level"], line["logger"], line["event"]) == (
        "error",
        "aiokafka.client",
        "no broker at 127.0.0.1:9092",
    )


def test_a_traceback_is_a_field_of_its_json_line(stream: io.StringIO) -> None:
    logs.configure("info", "json", stream)
    try:
        raise ValueError("broken tick")
    except ValueError:
        structlog.get_logger("a").exception("failed")
        logging.getLogger("b").exception("failed too")
    lines = json_lines(stream)
    assert [line["logger"] for line in lines] == ["a", "b"]
    for line in lines:
        assert line["exception"].startswith("Traceback")
        assert line["exception"].endswith("ValueError: broken tick")


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_a_secret_is_never_rendered(log_format: logs.LogFormat, stream: io.StringIO) -> None:
    """Neither as a value, nor inside one, nor as a local variable of a traceback."""
    logs.configure("info", log_format, stream)
    log = structlog.get_logger("a")
    secret = SecretStr("hunter2")
    log.info("one", token=secret, nested={"tokens": [secret]})
    try:
        plain = secret.get_secret_value()
        raise ValueError(f"wrong token of {len(plain)} characters")
    except ValueError:
        log.exception("two")
    assert "hunter2" not in stream.getvalue()
    assert logs.MASK in stream.getvalue()


def test_values_that_json_lacks_are_written_as_text_or_plain_numbers(stream: io.StringIO) -> None:
    class Reason(StrEnum):
        BAD = "bad"

    logs.configure("info", "json", stream)
    structlog.get_logger("a").info(
        "odd",
        nan=float("nan"),
        numpy=np.float64(1.5),
        infinite=np.float32("inf"),
        reason=Reason.BAD,
        partition=TopicPartition("prices", 0),
    )
    (line,) = json_lines(stream)
    assert (line["nan"], line["numpy"], line["infinite"], line["reason"]) == ("nan", 1.5, "inf", "bad")
    assert line["partition"] == ["prices", 0]


def test_text_is_one_aligned_line_a_record(stream: io.StringIO) -> None:
    logs.configure("info", "text", stream)
    structlog.get_logger("a").info("started", port=9108)
    structlog.get_logger("a").critical("gone", host="far away", said="")
    first, second = stream.getvalue().splitlines()
    assert first.index("started") == second.index("gone")
    assert first.index("port=9108") == second.index('host="far away"')
    assert second.endswith('said="" [a]')


@pytest.mark.parametrize("hostile", ["a\nerror forged", "\x1b[2Jcleared", "a\x7f\x9b1mb", "a\u202eb"])
def test_no_value_can_forge_a_line_or_steer_the_terminal(hostile: str, stream: io.StringIO) -> None:
    logs.configure("info", "text", stream)
    structlog.get_logger("a").info(f"got {hostile}", **{"key": hostile, hostile: 1})
    assert stream.getvalue().removesuffix("\n").isprintable()


def test_a_traceback_in_text_is_indented_and_its_message_cannot_forge_a_line(stream: io.StringIO) -> None:
    logs.configure("info", "text", stream)
    try:
        raise ValueError("x\n2026-01-01 error forged \x1b[31m")
    except ValueError:
        structlog.get_logger("a").exception("failed")
    _, *traceback = stream.getvalue().splitlines()
    assert len(traceback) >= 4
    assert all(line.startswith("    ") and line.isprintable() for line in traceback)


def test_colours_are_for_terminals_only(stream: io.StringIO) -> None:
    terminal = Terminal()
    for target in (stream, terminal):
        logs.configure("info", "text", target)
        structlog.get_logger("a").error("red")
    assert "\x1b[" not in stream.getvalue()
    assert "\x1b[31merror" in terminal.getvalue()


def test_records_below_the_level_are_dropped(stream: io.StringIO) -> None:
    logs.configure("warning", "json", stream)
    structlog.get_logger("a").info("quiet")
    logging.getLogger("b").info("quiet")
    structlog.get_logger("a").warning("loud")
    assert [line["event"] for line in json_lines(stream)] == ["loud"]


def test_a_second_call_replaces_the_first_and_leaves_other_handlers_alone(stream: io.StringIO) -> None:
    other = logging.NullHandler()
    logging.getLogger().addHandler(other)
    log = structlog.get_logger("a")  # before, as a module's is
    first = io.StringIO()
    logs.configure("error", "text", first)
    log.error("one")
    logs.configure("info", "json", stream)
    log.info("two")
    logs.configure("info", "json", stream)
    log.info("three")
    assert "one" in first.getvalue()
    assert "two" not in first.getvalue()
    assert [line["event"] for line in json_lines(stream)] == ["two", "three"]
    assert other in logging.getLogger().handlers


@pytest.mark.parametrize(
    "cause",
    [
        aiokafka.errors.NotEnoughReplicasError,
        "Unable to verify the partition has been added to the transaction. Underlying error: CONCURRENT_TRANSACTIONS",
    ],
)
def test_the_retry_that_waits_for_transaction_markers_is_shown_at_debug_only(cause: object) -> None:
    """By its class, as aiokafka names it now, and by the broker's own words."""
    seen = {}
    for level in ("info", "debug"):
        stream = io.StringIO()
        logs.configure(level, "json", stream)
        logger = logging.getLogger("aiokafka.producer.sender")
        logger.warning(PRODUCE_LINE, TopicPartition("forecasts", 0), cause)
        seen[level] = [line["level"] for line in json_lines(stream)]
    assert seen == {"info": [], "debug": ["debug"]}


def test_other_retries_of_the_producer_stay_warnings(stream: io.StringIO) -> None:
    logs.configure("info", "json", stream)
    logger = logging.getLogger("aiokafka.producer.sender")
    logger.warning(PRODUCE_LINE, TopicPartition("forecasts", 0), aiokafka.errors.NotLeaderForPartitionError)
    assert [line["level"] for line in json_lines(stream)] == ["warning"]


def test_what_is_asked_for_again_is_an_error_unless_a_topic_is_new(stream: io.StringIO) -> None:
    logs.configure("info", "json", stream)
    unknown = aiokafka.errors.UnknownError()
    for error in (aiokafka.errors.NotLeaderForPartitionError(), unknown):
        logging.getLogger("aiokafka.consumer.fetcher").error("Failed fetch offsets from %s: %s", 1, error)
    for error in (aiokafka.errors.GroupCoordinatorNotAvailableError(), unknown):
        logger = logging.getLogger("aiokafka.consumer.group_coordinator")
        logger.error("Group Coordinator Request failed: %s", error)
    assert [line["event"] for line in json_lines(stream)] == [
        f"Failed fetch offsets from 1: {unknown}",
        f"Group Coordinator Request failed: {unknown}",
    ]


def test_futures_that_aiokafka_leaves_behind_are_no_errors_of_ours_and_our_own_are(stream: io.StringIO) -> None:
    logs.configure("info", "json", stream)
    fenced = aiokafka.errors.ProducerFenced()
    for text, error in (
        ("Future exception was never retrieved", fenced),
        ("Future exception was never retrieved", ValueError("ours")),
        ("Task exception was never retrieved", fenced),
    ):
        logging.getLogger("asyncio").error(text, exc_info=error)
    lines = json_lines(stream)
    assert [line["event"] for line in lines] == [
        "Future exception was never retrieved",
        "Task exception was never retrieved",
    ]
    assert "ours" in lines[0]["exception"]


def test_a_connection_that_was_collected_while_it_read_is_no_error_and_what_else_fails_there_is(
    stream: io.StringIO,
) -> None:
    logs.configure("info", "json", stream)
    for error in (RuntimeError("cannot reuse already awaited coroutine"), ValueError("no frame")):
        try:
            raise error
        except Exception:
            logging.getLogger("aiokafka.conn").exception("Unexpected exception in AIOKafkaConnection")
    (line,) = json_lines(stream)
    assert "no frame" in line["exception"]


def test_what_aiokafka_says_again_and_again_is_shown_once_in_a_while_with_a_count(stream: io.StringIO) -> None:
    """With the broker away it writes a hundred lines a second, which would fill a disk in days."""
    now = 0.0
    logs.configure("info", "json", stream, clock=lambda: now)
    logger = logging.getLogger("aiokafka")
    for now in (0.0, 1.0, 2.0, logs.REPEAT_SECONDS, logs.REPEAT_SECONDS + 1.0):
        logger.error("Unable connect to node with id %s: %s", 1, f"refused at {now:g} s")
        logger.error("Unable to update metadata from %s", [1])
    assert [line["event"] for line in json_lines(stream)] == [
        "Unable connect to node with id 1: refused at 0 s",
        "Unable to update metadata from [1]",
        "Unable connect to node with id 1: refused at 10 s (and 2 more like it)",
        "Unable to update metadata from [1] (and 2 more like it)",
    ]


def test_what_others_say_again_and_again_is_shown_each_time(stream: io.StringIO) -> None:
    logs.configure("info", "json", stream, clock=lambda: 0.0)
    for _ in range(3):
        structlog.get_logger("streamer.service.worker").warning("partition begins anew", partition="prices-0")
    assert len(json_lines(stream)) == 3


def test_a_client_that_does_not_speak_http_is_no_error_of_ours(stream: io.StringIO) -> None:
    logs.configure("info", "json", stream)
    logger = logging.getLogger("aiohttp.server")
    logger.error("Error handling request", exc_info=BadStatusLine("x"))
    logger.error("Error handling request", exc_info=ValueError("ours"))
    assert len(json_lines(stream)) == 1
