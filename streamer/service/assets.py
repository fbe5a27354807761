"""The files of the live page, in memory from the start on: an upgrade beneath a running daemon mixes no versions."""

from dataclasses import dataclass
from pathlib import Path

_FOLDER = Path(__file__).parent / "page"
_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}


@dataclass(frozen=True, slots=True)
class Asset:
    """A file as it is sent."""

    body: bytes
    content_type: str


def load() -> dict[str, Asset]:
    """Each file by its path, `/page/<name>`; index.html is `/`."""
    found = {}
    for path in sorted(_FOLDER.iterdir()):
        if path.suffix in _TYPES:
            address = "/" if path.name == "index.html" else f"/page/{path.name}"
            found[address] = Asset(path.read_bytes(), _TYPES[path.suffix])
    return found
