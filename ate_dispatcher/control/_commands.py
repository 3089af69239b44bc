"""The command ``ctl``: a control socket for a person at a terminal."""

from __future__ import annotations

import json
import sys
from typing import Any, Mapping, Optional, Sequence

from .._codec import encode
from .._outcomes import OutcomeStatus
from .._words import arguments, escaped, site_of
from ._client import SocketClient

__all__ = ["print_statistics", "send", "stop"]

GOOD = (OutcomeStatus.OK.value, OutcomeStatus.PARTIAL.value)


def send(
    path: str,
    topic: str,
    words: Sequence[str],
    ttl: float,
    priority: int,
    sites: Sequence[str],
    to: Sequence[str],
    as_json: bool,
) -> int:
    """Send one request, and print each outcome as it comes.

    Parameters
    ----------
    words : sequence of str
        Arguments: JSON, or text that is none; ``name=value`` is a keyword.
    ttl : float
        Milliseconds.
    sites : sequence of str
        Numbers or words; all if there are none.
    to : sequence of str
        Names of producers; all if there are none.

    Returns
    -------
    int
        0 if every producer answered well, and all answers came here.
    """
    args, kwargs = arguments(words)
    options = SocketClient(path).with_options(
        to=to or None, sites=[site_of(site) for site in sites] or None, priority=priority
    )
    failed = ended = False
    with options.send_request(topic, *args, ttl=ttl, **kwargs) as stream:
        for row in stream:
            if row["event"] == "outcome":
                text = encode(row).decode("utf-8") if as_json else _as_text(row)
                print(escaped(text), flush=True)
                failed = failed or row["status"] not in GOOD
            elif row["event"] == "lost":
                print(f"ate-dispatcher: {row['count']} outcomes were lost", file=sys.stderr)
                failed = True
            else:
                ended = True
                if not row["roster"]:
                    why = row.get("reason", row["status"])
                    print(f"ate-dispatcher: {escaped(str(why))}", file=sys.stderr)
                    failed = True
    if not ended:  # the server was shut down, or has let go of us
        print(f"ate-dispatcher: {escaped(stream.reason)}", file=sys.stderr)
    return 0 if ended and not failed else 1


def print_statistics(path: str) -> int:
    """Print what the dispatcher has counted, as JSON."""
    text = json.dumps(SocketClient(path).statistics(), indent=2, ensure_ascii=False)
    print("\n".join(map(escaped, text.split("\n"))))
    return 0


def stop(path: str, drain: bool, timeout: Optional[float]) -> int:
    """Stop the dispatcher and the server; say what could not be ended well.

    Returns
    -------
    int
        0 if all was delivered and every thread has ended.
    """
    report = SocketClient(path).stop(drain, timeout)
    if report is None:
        print("stopped; there was no dispatcher")
        return 0
    print(f"stopped; {report['delivered']} delivered")
    wrong = {name: report[name] for name in ("undelivered", "alive", "unsafe") if report[name]}
    for name, what in wrong.items():
        print(f"{name}: {escaped(json.dumps(what, ensure_ascii=False))}", file=sys.stderr)
    return 1 if wrong or not report["finished"] else 0


def _as_text(row: Mapping[str, Any]) -> str:
    if row["status"] in GOOD:
        return f"{row['producer']}: {json.dumps(row.get('value'), ensure_ascii=False)}"
    return f"{row['producer']}: {row['status']} {row.get('reason', '')}".rstrip()
