"""What several commands take: types of arguments (out of range is wrong usage), and settings without a broker."""

import math
import os
from argparse import ArgumentTypeError
from pathlib import Path


def rate(text: str) -> float:
    """A number a second; 0 stands for as fast as possible."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise ArgumentTypeError(f"found {text!r}, expected a number from 0 on")
    return value


def count(text: str) -> int:
    """A whole number from 1 on."""
    value = natural(text)
    if value == 0:
        raise ArgumentTypeError("found 0, expected a whole number from 1 on")
    return value


def natural(text: str) -> int:
    """A whole number from 0 on."""
    if not (text.isdecimal() and text.isascii() and len(text) < 10):
        raise ArgumentTypeError(f"found {text!r}, expected a whole number")
    return int(text)


def port(text: str) -> int:
    """A TCP port; 0 stands for any free one."""
    value = natural(text)
    if value > 65535:
        raise ArgumentTypeError(f"found {text}, expected a port up to 65535")
    return value


def share(text: str) -> float:
    """A number between 0 and 1, both left out."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < 1:
        raise ArgumentTypeError(f"found {text!r}, expected a number between 0 and 1")
    return value


def ratio(text: str) -> float:
    """A number that prices can be multiplied by."""
    from streamer.core.adjustment import RATIO, is_ratio

    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not is_ratio(value):
        raise ArgumentTypeError(f"found {text!r}, expected {RATIO}")
    return value


def split(text: str) -> float:
    """A split such as 4:1 (four new ones for an old one), as the ratio of prices: 0.25."""
    new, _, old = text.partition(":")
    try:
        value = float(old) / float(new)
    except (ValueError, ZeroDivisionError):
        raise ArgumentTypeError(f"found {text!r}, expected such as 4:1") from None
    return ratio(repr(value))


def broker_unless_given(config: Path | None) -> dict[str, str]:
    """Overrides for a command that needs no broker, so that it works without a configuration."""
    given = config is not None or "STREAMER_KAFKA__BOOTSTRAP_SERVERS" in os.environ
    return {} if given else {"kafka.bootstrap_servers": "127.0.0.1:9092"}
