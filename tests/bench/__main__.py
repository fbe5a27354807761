"""Runs the benchmarks: `scripts/bench`."""

import argparse
import ast
import importlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from streamer.errors import UsageError
from tests.bench import _report, _result
from tests.bench._result import Result, StoredError
from tests.support import CHECKOUT

_RESULT, _REPORT = "result.json", "report.html"
_FAILED, _USAGE, _INTERRUPTED = 1, 2, 130

_EPILOG = """\
examples:
  scripts/bench                            all of them, one after the other (hours)
  scripts/bench --only tick,latency        some
  scripts/bench tick --ticks 2000          one, with options of its own; scripts/bench tick --help names them
  scripts/bench -o before                  keep the figures, and plots, in before/result.json and before/report.html
  scripts/bench --compare before/result.json

A figure counts as a ratio: of two things that take turns in one run, as median and spread of the rounds. `--compare`
prints by what each ratio has changed, and marks as moved what lies outside of both spreads. They are no tests: the
machine's load is in all values, less so in the ratios.
"""


def main(argv: Sequence[str]) -> int:
    """Run what is asked for; returns the exit code."""
    benches = _benches()
    # Otherwise TensorFlow's notes stand in the output; in effect only before the first import, so for children too.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    try:
        return _one(argv[0], argv[1:]) if argv and argv[0] in benches else _several(argv, benches)
    except (StoredError, UsageError) as error:
        print(f"scripts/bench: {error}", file=sys.stderr)
        return _USAGE
    except KeyboardInterrupt:
        return _INTERRUPTED


def _benches() -> dict[str, str]:
    """What each is about, by name."""
    files = sorted(Path(__file__).parent.glob("[!_]*.py"))
    return {file.stem: (ast.get_docstring(ast.parse(file.read_text())) or "").splitlines()[0] for file in files}


def _one(name: str, argv: Sequence[str]) -> int:
    bench = importlib.import_module(f"tests.bench.{name}")
    parser = _parser(f"scripts/bench {name}", bench.__doc__)
    bench.add_arguments(parser)
    arguments = parser.parse_args(argv)
    earlier = _prepared(arguments)
    before = _result.load()
    result: Result = bench.run(arguments)
    _show([_with_load(result, before)], earlier, arguments)
    return 0


def _with_load(result: Result, before: float) -> Result:
    return replace(result, load=(before, _result.load()))


def _several(argv: Sequence[str], benches: Mapping[str, str]) -> int:
    width = max(map(len, benches))
    listed = "\n".join(f"  {name:{width}}  {about}" for name, about in benches.items())
    parser = _parser("scripts/bench [NAME]", f"Benchmarks: figures as ratios within one run.\n\n{listed}", _EPILOG)
    parser.add_argument("--only", metavar="NAMES", help="those, with commas (all)")
    arguments = parser.parse_args(argv)
    chosen = list(benches) if arguments.only is None else arguments.only.split(",")
    for name in chosen:
        if name not in benches:
            parser.error(f"--only: there is no benchmark {name!r}; there are {', '.join(benches)}")
    earlier = _prepared(arguments)
    results, code = _run_each(chosen)
    _show(results, earlier, arguments)
    return code


def _run_each(names: Sequence[str]) -> tuple[list[Result], int]:
    """Each in a process of its own, so that none meets another's memory; what failed is said, and the rest goes on."""
    results: list[Result] = []
    code = 0
    with tempfile.TemporaryDirectory(prefix="streamer-bench-") as folder:
        for name in names:
            print(f"{name} ...", file=sys.stderr)
            command = [sys.executable, "-m", "tests.bench", name, "-o", folder]
            try:
                done = subprocess.run(command, stdout=subprocess.DEVNULL, check=False, cwd=CHECKOUT)
            except KeyboardInterrupt:
                return results, _INTERRUPTED  # what is done is shown
            if done.returncode:
                print(f"{name} failed with {done.returncode}", file=sys.stderr)
                code = _FAILED
            else:
                results += _result.read(Path(folder) / _RESULT)
    return results, code


def _parser(name: str, text: str | None, epilog: str | None = None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=name, description=text, epilog=epilog, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true", help="print JSON in place of the table")
    parser.add_argument("-o", "--out", type=Path, metavar="FOLDER", help=f"write {_RESULT} and {_REPORT} there")
    parser.add_argument("--compare", type=Path, metavar="FILE", help=f"set it beside the {_RESULT} of an earlier run")
    return parser


def _prepared(arguments: argparse.Namespace) -> _report.Earlier | None:
    """The figures to compare with. What is wrong with FILE or FOLDER is said here, and not after hours."""
    if arguments.out is not None:
        try:
            arguments.out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(f"--out {arguments.out}: {error.strerror}") from error
    return None if arguments.compare is None else _report.earlier_figures(_result.read(arguments.compare))


def _show(results: Sequence[Result], earlier: _report.Earlier | None, arguments: argparse.Namespace) -> None:
    if arguments.json:
        print(json.dumps(_result.to_json(results) | _report.changes(results, earlier)))
    else:
        print(_report.table(results, earlier))
    if arguments.out is not None:
        _result.save(arguments.out / _RESULT, results)
        (arguments.out / _REPORT).write_text(_report.html(results, earlier))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
