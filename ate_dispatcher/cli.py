"""The command ``ate-dispatcher``. Each subcommand imports what it needs when it is run."""

from __future__ import annotations

import argparse
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import List, Optional

from ._exceptions import ATEDispatcherError, MissingExtraError
from ._version import __version__

__all__ = ["main"]


def main(argv: Optional[List[str]] = None) -> int:
    """Run the command line.

    Parameters
    ----------
    argv : list of str, optional
        The arguments; those of the process if not given.

    Returns
    -------
    int
        The exit code: 0 if all went well, 1 if not, 2 for a mistake in the arguments.
    """
    parser = _parser()
    arguments = parser.parse_args(argv)
    if not hasattr(arguments, "run"):
        parser.print_help()
        return 2
    try:
        code: int = arguments.run(arguments)
    except (ATEDispatcherError, OSError) as error:
        print(f"ate-dispatcher: {error}", file=sys.stderr)
        return 1
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="ate-dispatcher", description="Thread-based dispatcher for test-equipment scripts."
    )
    parser.add_argument("--version", action="version", version=_version())
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    demo = commands.add_parser(
        "demo",
        help="run a bench of simulated instruments",
        description="Scatter measurements over simulated SCPI instruments behind PyVISA.",
    )
    demo.add_argument("--devices", type=_at_least_one, default=8, help="instruments (8)")
    demo.add_argument("--rounds", type=_at_least_one, default=10, help="rounds (10)")
    demo.add_argument("--seed", type=int, default=1, help="of values and faults (1)")
    demo.add_argument("--no-color", action="store_true", help="plain text")
    demo.add_argument(
        "--output", type=Path, default=Path("results.csv"), help="CSV file (results.csv)"
    )
    demo.set_defaults(run=_demo)
    return parser


def _version() -> str:
    return f"ate-dispatcher {__version__}"


def _at_least_one(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, not {number}")
    return number


def _demo(arguments: argparse.Namespace) -> int:
    missing = [name for name in ("pyvisa", "pyvisa_sim", "rich") if find_spec(name) is None]
    if missing:
        raise MissingExtraError(
            f'the demo needs {", ".join(missing)}: pip install "ate-dispatcher[demo]"'
        )
    from .demo import run_demo

    color = not arguments.no_color
    return run_demo(arguments.devices, arguments.rounds, arguments.seed, color, arguments.output)
