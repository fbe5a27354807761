"""Placeholder while it is being written."""
from typing import Any


def add_parser(commands: Any) -> None:
    """Nothing yet."""
