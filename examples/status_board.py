"""A board that shows which stations are there and what they last said, over Channels.

    python examples/status_board.py [mqtt://127.0.0.1]

Each station would be a program of its own; here they are three in one, so that it runs anywhere.
"""

import sys
import threading

from ate_dispatcher.channels import Channels

URL = sys.argv[1] if len(sys.argv) > 1 else "memory://floor"


class Board:
    """The last word of every station."""

    def __init__(self, channels, expected):
        self.lines = {}
        self.full = threading.Event()
        self._expected = expected
        channels.register("stations", "*", self.heard)

    def heard(self, channel, event, data):
        self.lines[data["station"]] = f"{event}: {data['says']}"
        if sum(line.startswith("done") for line in self.lines.values()) == self._expected:
            self.full.set()


def station(name, results):
    """Measure, and tell the board how it goes."""
    with Channels(URL, namespace="floor2") as channels:
        channels.publish("stations", "testing", {"station": name, "says": f"{len(results)} parts"})
        good = sum(results)
        channels.publish("stations", "done", {"station": name, "says": f"{good} good"})


if __name__ == "__main__":
    with Channels(URL, namespace="floor2") as floor:
        board = Board(floor, expected=3)
        stations = [
            threading.Thread(target=station, args=(f"station{number}", [1, 1, number % 2]))
            for number in range(3)
        ]
        for thread in stations:
            thread.start()
        if not board.full.wait(30):
            sys.exit(f"not every station came to an end: {board.lines}")
    for name in sorted(board.lines):
        print(name, board.lines[name])
