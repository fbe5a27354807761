"""The codec that streamer/codecs/README.md shows, installed as its reader would."""

import re
import subprocess
import sys
from pathlib import Path

from tests.support import CHECKOUT

README = CHECKOUT / "streamer" / "codecs" / "README.md"


def blocks(language: str) -> list[str]:
    """The blocks of code of the page in one language."""
    return re.findall(rf"^```{language}\n(.*?)^```", README.read_text(), re.DOTALL | re.MULTILINE)


def install(folder: Path) -> Path:
    """Build and install it; returns the folder to have on the path."""
    source, target = folder / "pairs-codec", folder / "installed"
    source.mkdir()
    [project], [module] = blocks("toml"), blocks("python")
    (source / "pyproject.toml").write_text(project)
    (source / "pairs_codec.py").write_text(module)
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check"]
    done = subprocess.run(
        [sys.executable, "-m", "pip", "install", *options, "--target", target, source],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return target
