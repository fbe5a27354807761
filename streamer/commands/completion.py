"""`streamer completion`: lets the shell complete commands, options and files."""

import argparse
from pathlib import Path
from typing import Any

from streamer.errors import ExitCode

_SHELLS = ("bash", "zsh", "fish", "tcsh")

_EPILOG = """\
examples:
  source <(streamer completion bash)                                           # this shell
  streamer completion bash > ~/.local/share/bash-completion/completions/streamer
  streamer completion zsh > ~/.zfunc/_streamer                                 # a folder of $fpath
  streamer completion fish > ~/.config/fish/completions/streamer.fish
"""


def add_parser(commands: Any) -> None:
    """Add `completion` to the commands."""
    parser = commands.add_parser(
        "completion",
        help="let the shell complete commands, options and files",
        description="Print a script that teaches a shell to complete the arguments of streamer.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("shell", choices=_SHELLS, metavar="SHELL", help=", ".join(_SHELLS))
    parser.set_defaults(handler=handle)


def handle(arguments: argparse.Namespace) -> int:
    """Print the script."""
    import shtab

    _complete_paths(arguments.root)
    print(shtab.complete(arguments.root, arguments.shell))
    return ExitCode.STOPPED


def _complete_paths(parser: argparse.ArgumentParser) -> None:
    """Mark what takes a path, here and in all subparsers, where shtab looks for it."""
    import shtab

    action: Any  # which has no such attribute of itself
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for each in action.choices.values():
                _complete_paths(each)
        elif action.metavar == "FOLDER":
            action.complete = shtab.DIRECTORY
        elif action.type is Path or action.metavar == "FILE":
            action.complete = shtab.FILE
