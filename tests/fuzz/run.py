"""Coverage-guided fuzzing by Atheris (libFuzzer): `scripts/fuzz codec --seconds 180`.

Begins with the inputs of tests/fuzz/corpus.py. One that breaks a promise is written to the folder of `--findings` and
named; once mended, it belongs into tests/fuzz/found.
"""

import argparse
import sys
import tempfile
from pathlib import Path

import atheris

from tests.fuzz.corpus import dictionary, seeds

_MODULES = ["streamer"]


def main() -> None:
    """Fuzz one target; libFuzzer ends the process: 0 when the time is over, else it has found something."""
    parser = argparse.ArgumentParser(prog="scripts/fuzz", description="Fuzz the codec or the configuration.")
    parser.add_argument("target", choices=("codec", "config"))
    parser.add_argument("--seconds", type=int, default=60, help="how long (default 60)")
    parser.add_argument("--seed", type=int, default=0, help="of libFuzzer; 0: any, which it prints")
    parser.add_argument("--findings", type=Path, default=Path(tempfile.gettempdir()), help="folder for what it finds")
    arguments = parser.parse_args()
    with atheris.instrument_imports(include=_MODULES):
        from tests.fuzz.targets import TARGETS
    with tempfile.TemporaryDirectory(prefix="streamer-fuzz-") as name:
        folder = Path(name)
        for number, seed in enumerate(seeds(arguments.target)):
            (folder / f"seed-{number}").write_bytes(seed)
        words = folder.with_suffix(".dict")
        words.write_text(dictionary(arguments.target))
        options = [
            f"-max_total_time={arguments.seconds}",
            f"-seed={arguments.seed}",
            f"-dict={words}",
            f"-artifact_prefix={arguments.findings}/{arguments.target}-",
            *("-max_len=4200", "-timeout=10", "-rss_limit_mb=2048", "-print_final_stats=1", "-verbosity=1"),
        ]
        atheris.Setup([sys.argv[0], *options, str(folder)], TARGETS[arguments.target])
        atheris.Fuzz()


if __name__ == "__main__":
    main()
