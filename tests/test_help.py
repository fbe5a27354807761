"""Help, hints and completion: what the command line says about itself, held against its own parser."""

import argparse
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from streamer import cli
from tests.support import CHECKOUT
from tests.terminals import terminal

SHELLS = ("bash", "zsh", "fish", "tcsh")


def parsers(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """`parser` and all below it."""
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for each in action.choices.values():
                yield from parsers(each)


def examples(parser: argparse.ArgumentParser) -> list[str]:
    """The indented lines below `examples:` that call streamer, without what a comment behind two blanks says."""
    _, _, behind = (parser.epilog or "").partition("examples:\n")
    lines = behind.partition("\n\n")[0].splitlines()
    assert all(line.startswith("  ") for line in lines), lines
    return [re.split(r"\s{2,}", line.strip())[0] for line in lines]


EVERY = list(parsers(cli._parser()))
ALL = [(parser.prog, line) for parser in EVERY for line in examples(parser)]


def arguments_of(line: str) -> list[str]:
    """The arguments that a shell would pass to streamer: up to a pipe, a redirection or a bracket."""
    match = re.search(r"(?:^|[\s(])streamer (?P<rest>[^|>)]*)", line)
    assert match, f"{line!r} does not call streamer"
    return shlex.split(match["rest"])


@pytest.mark.parametrize(("prog", "line"), ALL, ids=[line for _, line in ALL])
def test_each_example_is_understood(prog: str, line: str) -> None:
    """An option that was renamed, or a value out of range, makes an example stale."""
    arguments = arguments_of(line)
    if "--help" in arguments:
        with pytest.raises(SystemExit, match="0"):
            cli._parser().parse_args(arguments)
        return
    assert callable(cli._parser().parse_args(arguments).handler), f"{prog}: {line}"


@pytest.mark.parametrize("parser", EVERY, ids=lambda parser: parser.prog)
def test_each_command_and_action_has_an_example_and_a_description(parser: argparse.ArgumentParser) -> None:
    assert parser.description
    assert examples(parser)
    assert any(
        arguments_of(line)[: len(parser.prog.split()) - 1] == parser.prog.split()[1:] for line in examples(parser)
    )


@pytest.mark.parametrize("parser", EVERY, ids=lambda parser: parser.prog)
def test_each_argument_says_what_it_is(parser: argparse.ArgumentParser) -> None:
    spoken = [action for action in parser._actions if not isinstance(action, argparse._SubParsersAction)]
    assert [action.dest for action in spoken if not action.help] == []


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["tial"], "tail"),
        (["tail", "--jsn"], "--json"),
        (["tail", "--frm=earliest"], "--from"),
        (["tail", "forcasts"], "forecasts"),
        (["dlq", "lst"], "list"),
        (["--verion", "demo"], "--version"),
    ],
)
def test_what_was_perhaps_meant_is_said(arguments: list[str], hint: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments)
    assert ended.value.code == 2
    assert capsys.readouterr().err.endswith(f"; did you mean {hint}?\n")


def test_nothing_is_guessed_where_nothing_is_near(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["tail", "--qqqq"])
    assert "did you mean" not in capsys.readouterr().err


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The one for bash, as a process prints it."""
    path = tmp_path_factory.mktemp("completion") / "streamer.bash"
    command = [sys.executable, "-m", "streamer", "completion", "bash"]
    path.write_text(subprocess.run(command, capture_output=True, text=True, check=True, cwd=CHECKOUT).stdout)
    return path


class TestCompletion:
    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        (tmp_path / "prices.csv").touch()
        (tmp_path / "streamer.yaml").touch()
        (tmp_path / "results").mkdir()
        return tmp_path

    @pytest.mark.parametrize(
        ("line", "expected"),
        [
            ("streamer ba", {"backtest"}),
            ("streamer dlq ", {"list", "show"}),
            ("streamer tail --js", {"--json"}),
            ("streamer tail --from ", {"latest", "earliest"}),
            ("streamer completion ", set(SHELLS)),
            ("streamer run -c str", {"streamer.yaml"}),
            ("streamer backtest pri", {"prices.csv"}),
            ("streamer data sawtooth -o pri", {"prices.csv"}),
            ("streamer backtest prices.csv -o res", {"results"}),
        ],
    )
    def test_bash_completes(self, line: str, expected: set[str], script: Path, folder: Path) -> None:
        program = f"""
            source {shlex.quote(str(script))}
            COMP_LINE={shlex.quote(line)}; COMP_POINT=${{#COMP_LINE}}
            read -ra COMP_WORDS <<< "$COMP_LINE"
            [[ $COMP_LINE == *" " ]] && COMP_WORDS+=("")
            COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))
            name=$(complete -p streamer | sed 's/.*-F \\([^ ]*\\).*/\\1/')
            $name streamer "${{COMP_WORDS[COMP_CWORD]}}" "${{COMP_WORDS[COMP_CWORD - 1]}}" 2> /dev/null
            printf '%s\\n' "${{COMPREPLY[@]}}"
        """
        done = subprocess.run(["bash", "-c", program], cwd=folder, capture_output=True, text=True, check=True)
        assert expected <= set(done.stdout.split()), done
        assert all(word.startswith(line.rpartition(" ")[2]) for word in done.stdout.split())

    @pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
    def test_the_script_is_one_to_its_shell(self, shell: str, capsys: pytest.CaptureFixture[str]) -> None:
        if shutil.which(shell) is None:
            pytest.skip(f"no {shell} here")
        assert cli.main(["completion", shell]) == 0
        script = capsys.readouterr().out
        subprocess.run([shell, "-n"], input=script, text=True, check=True)

    @pytest.mark.parametrize("shell", SHELLS)
    def test_each_shell_is_told_of_each_command(self, shell: str, capsys: pytest.CaptureFixture[str]) -> None:
        assert cli.main(["completion", shell]) == 0
        script = capsys.readouterr().out
        for command in ("run", "check-config", "dlq", "models", "completion"):
            assert command in script


@pytest.mark.parametrize("environment", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_no_colour_where_none_is_wanted(environment: dict[str, str], tmp_path: Path) -> None:
    """Bold and the like is none; what moves the cursor belongs to the bar, which a dumb terminal does not get."""
    arguments = ("data", "sawtooth", "-o", str(tmp_path / "prices.csv"), "--rows", "20")
    with terminal(*arguments, environment=environment) as shown:
        assert shown.ended() == 0
    assert not re.search(r"\x1b\[[0-9;]*3[0-9]", shown.text)
    assert environment != {"TERM": "dumb"} or "\x1b" not in shown.text
