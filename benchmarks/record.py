"""What recording costs: events per second for each format and durability, and reading them.

    python benchmarks/record.py [EVENTS] [FOLDER]

Half of the events are outcomes, half are ends of requests. Each figure is the best of three, the
time from the first request until the last event is acknowledged; so the dispatcher's own time is in
it, which the first line shows. FOLDER says which disk is measured.
"""

from __future__ import annotations

import logging
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Dict, Tuple

from ate_dispatcher import ATEDispatcher, Producer, ResultListener
from ate_dispatcher.record import CSVRecorder, JSONLinesRecorder, SQLiteRecorder, read

KINDS: Dict[str, Any] = {
    "JSON Lines": JSONLinesRecorder,
    "CSV": CSVRecorder,
    "SQLite": SQLiteRecorder,
}
DURABLE = ("never", "request", "event")
REPEATS = 3


class Measure(Producer):
    def produce_dispatcher_output(self, topic: str, number: int) -> float:
        return number / 7


class Deaf(ResultListener):
    """As much of a listener as a recorder is, and nothing written."""

    def process_dispatcher_outcome(self, outcome: Any) -> None:
        pass

    def process_dispatcher_end(self, request: Any) -> None:
        pass


def rate(listener: ResultListener, events: int) -> float:
    """Events per second that one listener takes."""
    with ATEDispatcher(high_water=10**9) as dispatcher:
        dispatcher.add(Measure(site=0), "voltage")
        dispatcher.add(listener, "voltage")
        begun = time.perf_counter()
        for number in range(events // 2):
            dispatcher.send_request("voltage", number, ttl=600_000)
        assert dispatcher.flush(300)
        return events / (time.perf_counter() - begun)


def recording(name: str, durable: str, events: int, folder: Path) -> Tuple[float, float, float]:
    """Events per second written and read, and bytes an event."""
    best = reading = size = 0.0
    for repeat in range(REPEATS):
        path = folder / f"{name}-{durable}-{repeat}"
        recorder = KINDS[name](path, durable=durable)
        best = max(best, rate(recorder, events))
        assert (recorder.recorded, recorder.lost) == (events, 0)
        begun = time.perf_counter()
        assert sum(1 for _ in read(path)) == events
        reading = max(reading, events / (time.perf_counter() - begun))
        size = path.stat().st_size / events
        path.unlink()
    return best, reading, size


def main(events: int, folder: Path) -> None:
    print(f"nothing written: {max(rate(Deaf(), events) for _ in range(REPEATS)):,.0f} events/s")
    row = "{:<12}{:<10}{:>12}{:>14}{:>12}{:>17}"
    print(row.format("format", "durable", "events/s", "us an event", "read/s", "bytes an event"))
    for name in KINDS:
        for durable in DURABLE:
            count = events if durable == "never" else max(2, events // 10)
            written, reading, size = recording(name, durable, count, folder)
            cells = (f"{written:,.0f}", f"{1e6 / written:.1f}", f"{reading:,.0f}", f"{size:.0f}")
            print(row.format(name, durable, *cells), flush=True)


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)
    with tempfile.TemporaryDirectory(dir=sys.argv[2] if len(sys.argv) > 2 else None) as made:
        main(int(sys.argv[1]) if len(sys.argv) > 1 else 20_000, Path(made))
