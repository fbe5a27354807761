"""What the fuzzer begins with: messages and configurations that are valid, nearly valid, or once broke something."""

import json
import re
from pathlib import Path

from tests.support import CHECKOUT

FOUND = Path(__file__).parent / "found"
"""Inputs that broke a promise once, by target: a fuzzer's findings, kept so that they stay mended."""

_MESSAGES: list[object] = [
    {"ts": "2026-01-05T14:31:00Z", "prices": {"AAPL": 190.1, "MSFT": None}},
    {"ts": 1_700_000_040_000, "prices": {"A": 1e308, "B": -0.0, "C": 5e-324}},
    {"ts": 1.7e12, "prices": [1, 2.5], "venue": {"x": [True, False]}},
    {"ts": "2026-01-05 14:31+00", "prices": {"é": 10**400}},
    {"ts": 1_700_000_040.5, "prices": [{"A": "X", "B": 1.5}, {"A": "Y", "B": None}]},
    {"ts": "2026-10-25T02:30:00", "A": "X", "prices": {"A": "1.5", "B": 2}},
]
_TEXTS = [
    b'{"ts": 1, "ts": 2, "prices": {"A": 1, "A": 2}}',
    b'{"ts": 1, "prices": {"A": NaN, "B": Infinity, "C": -Infinity}}',
    b'{"ts": 1, "prices": {"\\ud800": 1, "\\u0000": 2}}',
    b"[" * 3000,
    b'{"a":' * 700,
    b"1" * 4090,
]
_CONFIGS = [
    b"kafka: {bootstrap_servers: 'a:1', security: {protocol: sasl_ssl, mechanism: PLAIN, username: u}}"
    b"\0KAFKA__SECURITY__PASSWORD=p\0MODELS__HMAC_KEY=0123456789abcdef0123456789abcdef",
    b"kafka: {bootstrap_servers: 'a:1'}",
    b'{"kafka": {"bootstrap_servers": ["a:1", "[::1]:2"]}, "network": {"layers": [{"units": 3}]}}',
    b"a: &a [x, x]\nb: &b [*a, *a]\nkafka: *b\n",
    b"kafka: {bootstrap_servers: 'a:1'}\nfeed: {step: 1e999, window: 0x10}\n",
    b"kafka: {bootstrap_servers: 'a:1'}\0HTTP__TOKEN=secret\0FEED__SYMBOLS=[A, B]\0NETWORK__LAYERS=[{units: 2}]",
    b"\0KAFKA__BOOTSTRAP_SERVERS=a:1\0FEED__STEP=500ms\0KAFKA__START=2026-01-05T14:31:00Z\0RETRAIN__MEMORY_LIMIT=1GiB",
    b"kafka:\n  bootstrap_servers: a:1\n  topics: {prices: a.b, state: a_b}\n",
    b"[" * 2000,
    b"{a: " * 2000,
]


def seeds(target: str) -> list[bytes]:
    """The corpus of `target`."""
    found = [path.read_bytes() for path in sorted((FOUND / target).glob("*"))]
    if target == "codec":
        values = [json.dumps(message).encode() for message in _MESSAGES] + _TEXTS
        tokens = [bytes([2, 0, 12, 25, 8, 13, 20, 2]), bytes([3, 1, 25, 8, 26, 3])]
        flags = [bytes([mapping << 2 | listed]) for mapping in range(6) for listed in (0, 1)]
        return [*found, *tokens, *(flag + value for value in values for flag in flags)]
    return [*found, *_CONFIGS, *_sections(CHECKOUT / "config" / "streamer.yaml")]


def _sections(shipped: Path) -> list[bytes]:
    """Each section of a configuration on its own, without comments: short inputs are tried more often."""
    lines = [line.partition("#")[0].rstrip() for line in shipped.read_text().splitlines()]
    text = "\n".join(line for line in lines if line)
    return [f"{part}\0KAFKA__BOOTSTRAP_SERVERS=a:1".encode() for part in re.split(r"\n(?=\S)", text)]


def dictionary(target: str) -> str:
    """Words that the fuzzer puts together, in libFuzzer's form."""
    if target == "codec":
        words = ['"ts"', '"prices"', ":", "null", "NaN", "1e999", "2026-01-05T14:31:00Z", "+00:00", "\\ud800", "T24:00"]
    else:
        from streamer.settings import keys

        words = sorted({part for path in keys.paths() for part in path})
        words += [
            "STREAMER_",
            "__",
            ": ",
            "- ",
            "500ms",
            "30d",
            "4GiB",
            "null",
            "!!str",
            "&a",
            "*a",
            "|",
            ">",
            "%YAML 1.2",
        ]
    return "".join(f'"{_escaped(word)}"\n' for word in words)


def _escaped(word: str) -> str:
    return word.replace("\\", "\\\\").replace('"', '\\"')
