"""Reading price files, and sending them to a broker inside this process."""

import asyncio
import itertools
import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from streamer import testing
from streamer.codec import DecodeLimits, format_time
from streamer.core.tick import Tick
from streamer.errors import BrokerError, UsageError
from streamer.feeding import Publisher, Route, encode_tick, shift_to, shifted
from streamer.pricefile import PriceFile, Survey
from tests.messages import decode
from tests.support import CHECKOUT, free_port, read_all

MINUTE = 60_000
LIMITS = DecodeLimits(message_bytes=2**20, symbols=100, symbol_length=64)


def at(text: str) -> int:
    return round(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


def price_file(folder: Path, text: str) -> PriceFile:
    path = folder / "prices.csv"
    path.write_text(text)
    return PriceFile(path)


class TestPriceFile:
    def test_rows_are_ticks_and_a_blank_cell_is_a_blank_price(self, tmp_path: Path) -> None:
        file = price_file(tmp_path, "timestamp,A,B C\n2018-01-01T00:00:00Z,1.5,\n2018-01-01T00:01:00Z, 2 ,nan\n")
        first, second = file.ticks()
        assert first.time == at("2018-01-01T00:00")
        assert second.time == first.time + MINUTE
        assert list(first.prices) == ["A", "B C"]
        assert (first.prices["A"], second.prices["A"]) == (1.5, 2.0)
        assert math.isnan(first.prices["B C"])
        assert math.isnan(second.prices["B C"])

    @pytest.mark.parametrize(
        "time",
        [
            "2018-01-01T00:00:00Z",
            "2018-01-01 00:00:00",
            "2018-01-01 01:00:00+01:00",
            "2018-01-01",
            "1514764800000",
        ],
    )
    def test_a_time_without_a_zone_is_in_utc(self, tmp_path: Path, time: str) -> None:
        [tick] = price_file(tmp_path, f"t,A\n{time},1\n").ticks()
        assert tick.time == at("2018-01-01T00:00")

    def test_a_survey_has_the_span_of_the_rows_that_will_be_sent(self, tmp_path: Path) -> None:
        file = price_file(tmp_path, "t,A\n\n1000,1\n2000,\n2000,3\n5000,4\n")
        assert file.survey() == Survey(rows=4, first=1000, last=5000)
        assert file.survey(limit=2) == Survey(rows=2, first=1000, last=2000)

    def test_the_mark_that_spreadsheets_put_first_is_no_part_of_the_header(self, tmp_path: Path) -> None:
        path = tmp_path / "prices.csv"
        path.write_bytes(b'\xef\xbb\xbf"open, UTC",A\r\n1000,1\r\n')
        [tick] = PriceFile(path).ticks()
        assert tick == Tick(1000, {"A": 1.0})

    @pytest.mark.parametrize(
        ("content", "problem"),
        [
            ("", "no row below the header"),
            ("t,A\n", "no row below the header"),
            ("t;A\n1000;1\n", ":1: no price column"),
            ("t,A,A\n1000,1,1\n", ":1: header: the column 'A' stands twice"),
            ("t,A,\n1000,1,1\n", ":1: header: '' is no symbol"),
            ("t,A,B\n1000,,\n2000,,\n", "no price in any column"),
            ("t,A\n1000,1\n2000,1,2\n", ":3: 3 cells, 2 in the header"),
            ("t,A\n1000,1\nnoon,1\n", ":3: first column: found 'noon'"),
            ("t,A\n1000,1\n2000,n/a\n", ":3: column 'A': found 'n/a', expected a price or nothing"),
            ("t,A\n2000,1\n1000,1\n", ":3: 1000 is earlier than the row before: sort the rows by time"),
        ],
    )
    def test_a_fault_is_named_with_its_line(self, tmp_path: Path, content: str, problem: str) -> None:
        with pytest.raises(UsageError) as caught:
            price_file(tmp_path, content).survey()
        assert str(caught.value).startswith(str(tmp_path / "prices.csv"))
        assert problem in str(caught.value)

    @pytest.mark.parametrize("content", [b"t,A\n1000,\xff\n", b'"' + b"x" * 200_000])
    def test_a_file_that_is_no_text_is_refused(self, tmp_path: Path, content: bytes) -> None:
        path = tmp_path / "prices.csv"
        path.write_bytes(content)
        with pytest.raises(UsageError, match=r"prices\.csv"):
            PriceFile(path).survey()

    def test_a_file_that_is_not_there_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match="cannot be read: No such file or directory"):
            PriceFile(tmp_path / "none.csv").survey()
        with pytest.raises(UsageError, match="cannot be read: Is a directory"):
            PriceFile(tmp_path).survey()


class TestShift:
    def test_the_last_row_falls_into_the_present_step(self) -> None:
        now = at("2026-03-01T12:34:56")
        last = at("2018-01-31T23:59:00")
        assert last + shift_to(now, last, MINUTE) == at("2026-03-01T12:34:00")

    @pytest.mark.parametrize("step", [1000, MINUTE, 5 * MINUTE])
    def test_times_keep_their_place_on_the_grid(self, step: int) -> None:
        """Also those off the grid: what floors together stays together."""
        times = [at("2018-01-01T00:00"), at("2018-01-01T00:00:00.250"), at("2018-01-01T00:07:30")]
        shift = shift_to(at("2026-03-01T12:34:56.789"), times[-1], step)
        moved = [tick.time for tick in shifted([Tick(time, {}) for time in times], shift)]
        assert [time % step for time in moved] == [time % step for time in times]
        assert [b - a for a, b in itertools.pairwise(moved)] == [250, 449_750]


def test_what_is_sent_is_what_the_daemon_reads() -> None:
    tick = Tick(at("2018-01-01T00:00:00.250"), {"A": 0.1 + 0.2, "B": math.nan})
    assert json.loads(encode_tick(tick)) == {
        "ts": "2018-01-01T00:00:00.250Z",
        "prices": {"A": 0.1 + 0.2, "B": None},
    }
    read = decode(encode_tick(tick), LIMITS)
    assert (read.time, read.prices["A"]) == (tick.time, tick.prices["A"])
    assert math.isnan(read.prices["B"])


@pytest.fixture
def broker() -> Iterator[str]:
    with testing.broker("prices") as address:
        yield address


@pytest.fixture
def stop() -> asyncio.Event:
    return asyncio.Event()


def minutes(count: int) -> list[Tick]:
    return [Tick(row * MINUTE, {"A": 1.0 + row}) for row in range(count)]


class TestPublisher:
    async def test_all_ticks_arrive_in_order_in_one_partition(self, broker: str, stop: asyncio.Event) -> None:
        sent = minutes(3000)
        async with Publisher(broker, Route("prices"), timeout=20) as publisher:
            assert await publisher.publish(sent[:1000], 0, stop) == 1000
            assert await publisher.publish(sent[1000:], 0, stop) == 2000
            assert publisher.acknowledged == 3000
        records = await read_all(broker, "prices")
        assert [record.value for record in records] == [encode_tick(tick) for tick in sent]
        assert {(record.partition, record.key) for record in records} == {(0, None)}

    async def test_a_key_names_the_stream_and_chooses_one_partition(self, broker: str, stop: asyncio.Event) -> None:
        async with Publisher(broker, Route("prices", key=b"eu"), timeout=20) as publisher:
            await publisher.publish(minutes(50), 0, stop)
        records = await read_all(broker, "prices")
        assert len(records) == 50
        assert {record.key for record in records} == {b"eu"}
        assert len({record.partition for record in records}) == 1

    async def test_records_are_stamped_with_the_clock_so_that_retention_lets_them_live(
        self, broker: str, stop: asyncio.Event
    ) -> None:
        before = datetime.now(UTC).timestamp() * 1000
        async with Publisher(broker, Route("prices", partition=2), timeout=20) as publisher:
            await publisher.publish(minutes(1), 0, stop)
        [record] = await read_all(broker, "prices")
        assert record.partition == 2
        assert record.timestamp >= before - 1

    async def test_ticks_are_never_sent_faster_than_the_rate(self, broker: str, stop: asyncio.Event) -> None:
        loop = asyncio.get_running_loop()
        times: list[float] = []
        async with Publisher(broker, Route("prices"), timeout=20) as publisher:
            began = loop.time()
            await publisher.publish(minutes(20), 100, stop, lambda count: times.append(loop.time() - began))
        assert all(time >= count / 100 for count, time in enumerate(times))

    async def test_without_a_rate_ticks_wait_for_their_time_and_those_of_the_past_for_nothing(
        self, broker: str, stop: asyncio.Event
    ) -> None:
        now = time.time_ns() // 1_000_000
        ticks = [Tick(now + later, {"A": 1.0}) for later in (-60_000, -30_000, 500)]
        async with Publisher(broker, Route("prices"), timeout=10) as publisher:
            await publisher.publish(ticks, None, stop)
        assert time.time() * 1000 >= now + 500
        records = await read_all(broker, "prices")
        assert [json.loads(record.value)["ts"] for record in records] == [format_time(tick.time) for tick in ticks]

    async def test_a_stop_ends_it_and_the_number_is_what_the_broker_holds(
        self, broker: str, stop: asyncio.Event
    ) -> None:
        def stop_at_seven(count: int) -> None:
            if count == 7:
                stop.set()

        async with Publisher(broker, Route("prices"), timeout=20) as publisher:
            assert await publisher.publish(minutes(100), 50, stop, stop_at_seven) == 7
        assert len(await read_all(broker, "prices")) == 7

    async def test_a_stop_while_the_broker_is_behind_loses_no_count(self, broker: str, stop: asyncio.Event) -> None:
        def stop_at_1500(count: int) -> None:
            if count == 1500:
                stop.set()

        async with Publisher(broker, Route("prices"), timeout=20) as publisher:
            acknowledged = await publisher.publish(minutes(5000), 0, stop, stop_at_1500)
        assert 1500 <= acknowledged == len(await read_all(broker, "prices")) < 5000

    async def test_a_partition_that_is_not_there_is_wrong_usage(self, broker: str) -> None:
        with pytest.raises(UsageError, match="'prices' has 4 partitions, there is no partition 4"):
            async with Publisher(broker, Route("prices", partition=4), timeout=20):
                pass

    async def test_a_broker_that_goes_away_is_an_error_and_no_endless_wait(self, stop: asyncio.Event) -> None:
        with testing.broker("prices") as address:
            publisher = Publisher(address, Route("prices"), timeout=2)
            await publisher.__aenter__()
            assert await publisher.publish(minutes(3), 0, stop) == 3
        with pytest.raises(BrokerError, match=address):
            await publisher.publish(minutes(3), 0, stop)
        await publisher.__aexit__(None, None, None)
        assert publisher.acknowledged == 3


class TestCommand:
    def feed(self, folder: Path, *arguments: str, data: str = "t,A\n1000,1\n") -> tuple[int, list[str]]:
        """Exit code and lines on standard error, with no broker at the address given."""
        file = price_file(folder, data)
        environment = {
            "STREAMER_KAFKA__BOOTSTRAP_SERVERS": f"127.0.0.1:{free_port()}",
            "STREAMER_KAFKA__STARTUP_TIMEOUT": "0s",
        }
        done = subprocess.run(
            [sys.executable, "-m", "streamer", "feed", str(file.path), *arguments],
            cwd=CHECKOUT,
            env=os.environ | environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.stdout == ""
        return done.returncode, done.stderr.splitlines()

    def test_a_broker_that_is_away_is_one_line_and_exit_code_1(self, tmp_path: Path) -> None:
        code, lines = self.feed(tmp_path)
        assert code == 1
        assert lines[-1].startswith("streamer: no Kafka broker answers at 127.0.0.1:")

    def test_a_faulty_file_is_wrong_usage_before_any_broker_is_asked(self, tmp_path: Path) -> None:
        code, lines = self.feed(tmp_path, data="t,A\n2000,1\n1000,1\n")
        assert code == 2
        assert lines == [
            f"streamer: {tmp_path}/prices.csv:3: 1000 is earlier than the row before: sort the rows by time"
        ]

    def test_a_fault_beyond_the_limit_does_not_matter(self, tmp_path: Path) -> None:
        code, _ = self.feed(tmp_path, "--limit", "1", data="t,A\n2000,1\n1000,1\n")
        assert code == 1

    @pytest.mark.parametrize(
        "arguments",
        [("--rate", "-1"), ("--rate", "nan"), ("--rate", "inf"), ("--limit", "0"), ("--partition", "-1")],
    )
    def test_a_number_out_of_range_is_wrong_usage(self, tmp_path: Path, arguments: tuple[str, str]) -> None:
        code, lines = self.feed(tmp_path, *arguments)
        assert code == 2
        assert "expected" in lines[-1]
