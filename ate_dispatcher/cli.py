"""The command ``ate-dispatcher``. Each subcommand imports what it needs when it is run."""

from __future__ import annotations

import argparse
import signal
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any, List, Optional

from ._exceptions import ATEDispatcherError, MissingExtraError
from ._version import __version__
from ._words import escaped

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
        The exit code: 0 if all went well, 1 if not, 2 for a mistake in the arguments, 130 if Ctrl-C
        ended a command that is not meant to be ended so.
    """
    parser = _parser()
    arguments = parser.parse_args(argv)
    if not hasattr(arguments, "run"):
        parser.print_help()
        return 2
    try:
        code: int = arguments.run(arguments)
    except (ATEDispatcherError, OSError) as error:
        print(f"ate-dispatcher: {escaped(str(error))}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 128 + signal.SIGINT  # what a shell reports of a process that it ended
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="ate-dispatcher", description="Thread-based dispatcher for test-equipment scripts."
    )
    parser.add_argument("--version", action="version", version=f"ate-dispatcher {__version__}")
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
    demo.add_argument("--bus", metavar="URL", help="instruments as processes on this bus")
    demo.add_argument("--record", type=Path, metavar="FILE", help="record to it, as JSON Lines")
    demo.add_argument("--timeline", type=Path, metavar="FILE", help="draw a timeline for Perfetto")
    demo.add_argument(
        "--monitor", action="store_true", help="show it in a browser, until Ctrl-C ends it"
    )
    demo.set_defaults(run=_demo)
    _add_bridge(commands)
    _add_recordings(commands)
    _add_control(commands)
    _add_monitor(commands)
    return parser


def _add_bridge(commands: Any) -> None:
    """Add the commands that reach agents over a bus."""
    agent = commands.add_parser("agent", help="offer a producer to the dispatchers on a bus")
    agent.add_argument("url", metavar="URL", help="the bus, as in mqtt://127.0.0.1")
    agent.add_argument("target", metavar="MODULE:CLASS", help="the producer's class")
    agent.add_argument("--topic", action="append", required=True, help="may be given several times")
    agent.add_argument("--site", help="a number or a word")
    agent.add_argument("--name", help="the producer's name")
    agent.set_defaults(run=_agent)
    send = commands.add_parser("send", help="send a request to the agents on a bus")
    send.add_argument("url", metavar="URL")
    _add_request(send)
    send.add_argument("--expect", action="append", default=[], metavar="NAME", help="wait for it")
    send.add_argument("--wait", type=float, default=1.0, help="seconds to find agents (1)")
    send.set_defaults(run=_send)
    listen = commands.add_parser("listen", help="print the outcomes on topics of a bus")
    listen.add_argument("url", metavar="URL")
    listen.add_argument("topics", metavar="TOPIC", nargs="+", help="may have wildcards: 'site.*.v'")
    listen.set_defaults(run=_listen)
    for command in (agent, send, listen):
        command.add_argument("--namespace", default="ate", help="who meets on the bus (ate)")
    _add_json(listen)


def _add_recordings(commands: Any) -> None:
    """Add the commands that read recordings."""
    show = commands.add_parser("show", help="print a recording as a table")
    show.add_argument("file", metavar="FILE", type=Path, help="what a recorder wrote, any format")
    many = {"action": "append", "default": []}
    show.add_argument("--topic", metavar="TOPIC", help="may have wildcards: 'site.*.v'", **many)
    show.add_argument("--site", metavar="SITE", help="a number or a word", **many)
    show.add_argument("--outcome", metavar="STATUS", help="OK, ERROR, TIMEOUT, EXPIRED, …", **many)
    show.set_defaults(run=_show)
    replay = commands.add_parser("replay", help="print what was recorded, or give it to a listener")
    replay.add_argument("file", metavar="FILE", type=Path, help="what a recorder wrote, any format")
    replay.add_argument(
        "--speed", type=float, metavar="FACTOR", help="1 as it was, 2 twice as fast (at once)"
    )
    replay.add_argument(
        "--to",
        metavar="MODULE:CLASS",
        action="append",
        default=[],
        help="a ResultListener that gets the events instead; may be given several times",
    )
    replay.set_defaults(run=_replay)


def _add_control(commands: Any) -> None:
    """Add the commands that drive a dispatcher in another process."""
    control = commands.add_parser("ctl", help="drive a dispatcher over its control socket")
    control.add_argument("path", metavar="PATH", help="where its SocketServer listens")
    verbs = control.add_subparsers(title="verbs", metavar="VERB", required=True)
    send = verbs.add_parser("send", help="send a request and print its outcomes")
    _add_request(send)
    send.add_argument("--priority", type=int, default=0, help="the highest first (0)")
    many = {"action": "append", "default": []}
    send.add_argument("--site", metavar="SITE", help="a number or a word; several times", **many)
    send.add_argument("--to", metavar="NAME", help="a producer; several times", **many)
    send.set_defaults(run=_control_send)
    statistics = verbs.add_parser("statistics", help="print what the dispatcher has counted")
    statistics.set_defaults(run=_control_statistics)
    stop = verbs.add_parser("stop", help="stop the dispatcher and the server")
    stop.add_argument("--no-drain", action="store_true", help="end open requests at once")
    stop.add_argument("--timeout", type=float, help="seconds for all of it")
    stop.set_defaults(run=_control_stop)


def _add_monitor(commands: Any) -> None:
    """Add the command that shows a dispatcher in a browser."""
    monitor = commands.add_parser(
        "monitor",
        help="show a dispatcher of yours in a browser",
        description="Start a dispatcher and show it as a web page. Beyond this machine (--host) "
        "a browser must bring a token: that in ATE_MONITOR_TOKEN, or one that is printed.",
    )
    monitor.add_argument(
        "target", metavar="MODULE:NAME", help="a dispatcher, or a function that gives one"
    )
    monitor.add_argument("--host", default="127.0.0.1", help="where to listen (127.0.0.1)")
    monitor.add_argument("--port", type=int, default=0, help="of the page (a free one)")
    monitor.set_defaults(run=_monitor)


def _add_request(send: argparse.ArgumentParser) -> None:
    """Add what every command takes that sends a request."""
    send.add_argument("topic", metavar="TOPIC")
    send.add_argument(
        "words",
        metavar="ARG",
        nargs="*",
        default=[],
        help="JSON or text; name=value: a keyword",
    )
    send.add_argument("--ttl", type=float, default=5000.0, help="milliseconds (5000)")
    _add_json(send)


def _add_json(command: argparse.ArgumentParser) -> None:
    command.add_argument("--json", action="store_true", help="one JSON object a line")


def _at_least_one(text: str) -> int:
    try:
        number = int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be a whole number, not {text!r}") from None
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

    return run_demo(
        arguments.devices,
        arguments.rounds,
        arguments.seed,
        not arguments.no_color,
        arguments.output,
        arguments.bus,
        arguments.record,
        arguments.timeline,
        monitor=arguments.monitor,
    )


def _agent(arguments: argparse.Namespace) -> int:
    from .bridge._commands import run_agent

    return run_agent(
        arguments.url,
        arguments.target,
        arguments.topic,
        arguments.site,
        arguments.name,
        arguments.namespace,
    )


def _send(arguments: argparse.Namespace) -> int:
    from .bridge._commands import send

    return send(
        arguments.url,
        arguments.topic,
        arguments.words,
        arguments.ttl,
        arguments.expect,
        arguments.wait,
        arguments.json,
        arguments.namespace,
    )


def _listen(arguments: argparse.Namespace) -> int:
    from .bridge._commands import listen

    return listen(arguments.url, arguments.topics, arguments.json, arguments.namespace)


def _show(arguments: argparse.Namespace) -> int:
    from .record._commands import show

    return show(arguments.file, arguments.topic, arguments.site, arguments.outcome)


def _replay(arguments: argparse.Namespace) -> int:
    from .record._commands import replay_to_terminal

    return replay_to_terminal(arguments.file, arguments.speed, arguments.to)


def _control_send(arguments: argparse.Namespace) -> int:
    from .control._commands import send

    return send(
        arguments.path,
        arguments.topic,
        arguments.words,
        arguments.ttl,
        arguments.priority,
        arguments.site,
        arguments.to,
        arguments.json,
    )


def _control_statistics(arguments: argparse.Namespace) -> int:
    from .control._commands import print_statistics

    return print_statistics(arguments.path)


def _control_stop(arguments: argparse.Namespace) -> int:
    from .control._commands import stop

    return stop(arguments.path, not arguments.no_drain, arguments.timeout)


def _monitor(arguments: argparse.Namespace) -> int:
    from .monitor._command import run_monitor

    return run_monitor(arguments.target, arguments.host, arguments.port)
