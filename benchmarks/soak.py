"""A week on the floor, in as long as you have: a station under load while everything breaks.

    python benchmarks/soak.py [--minutes 60] [--seed 1] [--rate 40]

Supervised instruments, some in processes of their own, some behind a broker, answer, fail, hang and
crash at random. Meanwhile the broker is killed, another is frozen or cut off, agents are killed,
clocks step, the disk of one recorder is full, sites go out of service. Every request is looked at
when it ends; the end proves the rest:

- every request ended, with one outcome of each producer on its roster and none besides;
- the recording holds exactly these outcomes and ends, in the order of the stamps;
- every message that a broker confirmed has arrived;
- every stalled or failed instrument came back, and none was given up;
- memory stays where it was after the first tenth of the run;
- afterwards no thread, process, file descriptor or temporary file is left, and no request.

Needs mosquitto and the `bus` extra. The exit code is 1 if anything of this does not hold.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import errno
import functools
import gc
import os
import pathlib
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from multiprocessing import resource_tracker
from typing import Any, Callable, Counter, Dict, Iterator, List, Optional, Tuple

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from brokers import Mosquitto, Proxy  # noqa: E402

from ate_dispatcher import (  # noqa: E402
    ATEDispatcher,
    BusConnectionError,
    Outcome,
    Producer,
    Request,
    TopicFilter,
)
from ate_dispatcher.bridge import Bridge  # noqa: E402
from ate_dispatcher.bus import Distributer  # noqa: E402
from ate_dispatcher.record import Gap, JSONLinesRecorder, read  # noqa: E402
from ate_dispatcher.supervision import ProcessProducer, Restart, Supervisor  # noqa: E402
from ate_dispatcher.timeline import Timeline  # noqa: E402

SENDERS = 16
SITES = 4
REMOTE = ("remote0", "remote1", "remote2")
PATIENCE = 60.0
"""Seconds that anything may take before it counts as hanging."""

AGENTS = """
import sys
from ate_dispatcher.bridge import AgentHost
from ate_dispatcher.testing import ScriptedProducer

with AgentHost(sys.argv[1], name="far", heartbeat=0.5) as host:
    for name in sys.argv[2:]:
        host.add(ScriptedProducer(lambda topic, what, number: number, name=name), "remote")
    sys.stdin.read()
"""


# ---- the instruments -----------------------------------------------------------------------------


class Instrument(Producer):
    """Does what it is told, for good or ill."""

    def __init__(self, name: str, site: int, released: threading.Event, **options: Any) -> None:
        super().__init__(name=name, site=site, **options)
        self.released = released

    def produce_dispatcher_output(self, topic: str, what: str, number: int) -> Any:
        if what == "fail":
            raise ValueError(f"no reading {number}")
        if what == "die":
            raise SystemExit(f"contact lost at {number}")
        if what == "hang":
            self.released.wait(PATIENCE)
        if what == "slow":
            self.released.wait(0.05)
        if what == "stream":
            return iter_values(number)
        return number


def iter_values(number: int) -> Iterator[int]:
    yield from (number, number)


class Driver(Producer):
    """The same in a process of its own, where a crash is a crash."""

    def produce_dispatcher_output(self, topic: str, what: str, number: int) -> Any:
        if what == "fail":
            raise ValueError(f"no reading {number}")
        if what == "die":
            os._exit(3)
        if what == "hang":
            time.sleep(PATIENCE)
        return number


LOADS = {
    "measure": (("ok", "slow", "stream", "fail", "die", "hang"), (800, 100, 60, 30, 5, 2)),
    "driver": (("ok", "fail", "die", "hang"), (900, 30, 3, 1)),
    "remote": (("ok",), (1,)),
    "nobody": (("ok",), (1,)),
}
"""What is asked for on each topic, and how often; a hang is given up or called off."""

TOPICS = (tuple(LOADS), (70, 12, 16, 2))


# ---- what is counted -----------------------------------------------------------------------------


class Books:
    """What was seen, and what was wrong. Every method may be called by any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.requests: Counter[str] = collections.Counter()
        self.outcomes: Counter[str] = collections.Counter()
        self.events: Counter[str] = collections.Counter()
        self.wrong: List[str] = []

    def enter(self, request: Request) -> None:
        """Check an ended request against the contract."""
        names = tuple(outcome.producer for outcome in request.outcomes)
        problem = ""
        if names != request.roster:
            problem = f"{request!r} has the roster {request.roster} and outcomes of {names}"
        number = request.args[1]
        good = {outcome.producer for outcome in request.succeeded}
        for name, value in request.values.items():
            begun = value == [number] and name not in good  # a stream cut off after its first value
            if value not in (number, [number, number]) and not begun:
                problem = f"{name} gave {value!r} for {number} on {request.topic!r}"
        with self._lock:
            self.requests[request.status.value] += 1
            for outcome in request.outcomes:
                self.outcomes[outcome.status.value] += 1
        if problem:
            self.complain(problem)

    def count(self, event: str, number: int = 1) -> None:
        with self._lock:
            self.events[event] += number

    def complain(self, problem: str) -> None:
        with self._lock:
            self.wrong.append(problem)
        print(f"violation: {problem}", flush=True)


class Numbers:
    """Which numbers were confirmed, and which arrived: one bit of a byte each.

    The publisher's thread sets the first bit, the subscription's thread the second; each byte is
    changed under the lock, because setting one bit reads the byte before.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._marks = bytearray()

    def mark(self, number: int, bit: int) -> None:
        with self._lock:
            if number >= len(self._marks):
                self._marks.extend(bytes(number + 1 - len(self._marks)))
            self._marks[number] |= bit

    def confirmed(self, number: int) -> None:
        self.mark(number, 1)

    def arrived(self, number: int) -> None:
        self.mark(number, 2)

    def tally(self) -> Dict[str, int]:
        with self._lock:
            marks = collections.Counter(self._marks)
        return {"confirmed": marks[1] + marks[3], "lost": marks[1], "unconfirmed": marks[2]}


class SteppingClock:
    """A monotonic clock that leaps ahead now and then, as after a machine has slept."""

    def __init__(self) -> None:
        self.ahead = 0.0  # only ever replaced, by the chaos thread alone

    def __call__(self) -> float:
        return time.monotonic() + self.ahead


class Baseline:
    """What this process holds: compared before and after."""

    def __init__(self, folder: pathlib.Path) -> None:
        gc.collect()
        self.threads = sorted(thread.name for thread in threading.enumerate())
        self.descriptors = len(os.listdir("/proc/self/fd"))
        self.processes = children()
        self.files = sorted(path.name for path in folder.iterdir())
        self.requests = sum(isinstance(one, (Request, Outcome)) for one in gc.get_objects())

    def differences(self, before: Baseline) -> List[str]:
        return [
            f"{name}: {getattr(before, name)} before, {getattr(self, name)} after"
            for name in vars(self)
            if getattr(self, name) != getattr(before, name)
        ]


def children() -> int:
    """How many processes are below this one, but for multiprocessing's own tracker."""
    listing = subprocess.run(
        ["ps", "--ppid", str(os.getpid()), "-o", "args="], capture_output=True, text=True
    ).stdout.splitlines()
    return sum("ps --ppid" not in line and "resource_tracker" not in line for line in listing)


def resident() -> float:
    """Megabytes of memory in use."""
    pages = int(pathlib.Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e6


# ---- the threads that make the load --------------------------------------------------------------


class Sender(threading.Thread):
    """Sends requests of random kinds and checks each when it ends."""

    def __init__(
        self, dispatcher: ATEDispatcher, books: Books, seed: str, rate: float, over: Any
    ) -> None:
        super().__init__(name=f"sender {seed}", daemon=True)
        self.dispatcher, self.books, self.rate, self.over = dispatcher, books, rate, over
        self.random = random.Random(seed)

    def run(self) -> None:
        number = 0
        while not self.over.wait(self.random.expovariate(self.rate)):
            number += 1
            self.one(number)

    def one(self, number: int) -> None:
        draw = self.random
        (topic,) = draw.choices(*TOPICS)
        (what,) = draw.choices(*LOADS[topic])
        options: Dict[str, Any] = {}
        if draw.random() < 0.3:
            options["priority"] = draw.randrange(3)
        if draw.random() < 0.2:
            options["sites"] = [draw.randrange(SITES)]
        if draw.random() < 0.05:
            options["until"] = 1
        target = self.dispatcher.with_options(**options) if options else self.dispatcher
        request = target.send_request(topic, what, number, ttl=draw.choice((30, 300, 2000)))
        if draw.random() < 0.02:
            request.cancel()
        if not request.wait(PATIENCE):
            self.books.complain(f"{request!r} never ended")
        self.books.enter(request)


class Publisher(threading.Thread):
    """Publishes numbers; what was confirmed must arrive."""

    def __init__(self, bus: Distributer, numbers: Numbers, rate: float, over: Any) -> None:
        super().__init__(name="publisher", daemon=True)
        self.bus, self.numbers, self.rate, self.over = bus, numbers, rate, over
        self.refused = 0

    def run(self) -> None:
        number = 0
        while not self.over.wait(1 / self.rate):
            try:
                self.bus.publish(number, "soak.numbers")
            except BusConnectionError:
                self.refused += 1
            else:
                self.numbers.confirmed(number)
            number += 1


class Chaos(threading.Thread):
    """Breaks one thing after the other, and mends it."""

    def __init__(self, station: Station, seed: int, over: Any) -> None:
        super().__init__(name="chaos", daemon=True)
        self.station, self.over = station, over
        self.random = random.Random(f"chaos {seed}")

    def run(self) -> None:
        station = self.station
        deeds: List[Callable[[], None]] = [
            station.kill_broker,
            station.freeze_broker,
            station.cut_network,
            station.kill_agents,
            station.step_clock,
            station.fill_disk,
            station.disable_site,
        ]
        while not self.over.wait(self.random.uniform(2.0, 6.0)):
            deed = self.random.choice(deeds)
            try:
                deed()
            except Exception as error:
                station.books.complain(f"{deed.__name__}: {type(error).__name__}: {error}")
            station.books.count(deed.__name__)


# ---- the station ---------------------------------------------------------------------------------


class Station:
    """Everything together; a context manager that leaves nothing behind."""

    def __init__(self, folder: pathlib.Path, seed: int, rate: float) -> None:
        self.folder, self.rate = folder, rate
        self.books, self.numbers = Books(), Numbers()
        self.clock, self.wall = SteppingClock(), 0.0
        self.random = random.Random(f"station {seed}")
        self.released = threading.Event()
        self.over = threading.Event()
        self.agents: Optional[subprocess.Popen[bytes]] = None
        self.lost_rows = 0

    def __enter__(self) -> Station:
        with contextlib.ExitStack() as stack:
            self.broker = stack.enter_context(Mosquitto())
            self.second = stack.enter_context(Mosquitto())
            self.proxy = stack.enter_context(Proxy(self.second.port))
            self.dispatcher = stack.enter_context(ATEDispatcher(name="soak", clock=self.clock))
            self.supervisor = stack.enter_context(Supervisor(self.dispatcher))
            stack.callback(self.released.set)
            self._instruments()
            self.recording = self.folder / "soak.jsonl"
            recorder = JSONLinesRecorder(self.recording, rotate_bytes=20_000_000)
            self.dispatcher.add(recorder, TopicFilter("#"))
            self.timeline = stack.enter_context(Timeline(self.dispatcher, limit=5000))
            self.bridge = stack.enter_context(
                Bridge(self.dispatcher, f"{self.broker.url}?timeout=2", expect={"remote": REMOTE})
            )
            self._start_agents()
            stack.callback(self._end_agents)
            far = self.second.url.replace(str(self.second.port), str(self.proxy.port))
            self.publishing = stack.enter_context(Distributer(f"{far}?timeout=2"))
            self.listening = stack.enter_context(Distributer(self.second.url))
            self.listening.subscribe(self.numbers.arrived, "soak.numbers", subscriber_group="soak")
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *error: Any) -> None:
        self._stack.close()

    def _instruments(self) -> None:
        restart = functools.partial(Restart, attempts=1_000_000, per=1.0)
        for number in range(8):
            resources = ("GPIB0",) if number in (0, 1) else ()
            make = functools.partial(
                Instrument,
                f"dmm{number}",
                number % SITES,
                self.released,
                resources=resources,
            )
            self.supervisor.run(make, "measure", restart=restart(), stall_after=3.0)
        for number in range(2):
            make = functools.partial(
                ProcessProducer, Driver, name=f"driver{number}", site=number, grace=0.5
            )
            self.supervisor.run(make, "driver", restart=restart(), stall_after=30.0)

    def load(self, seed: int) -> List[threading.Thread]:
        rate = self.rate / SENDERS
        return [
            *(
                Sender(self.dispatcher, self.books, f"{seed}.{n}", rate, self.over)
                for n in range(SENDERS)
            ),
            Publisher(self.publishing, self.numbers, self.rate, self.over),
            Chaos(self, seed, self.over),
        ]

    def _start_agents(self) -> None:
        self.agents = subprocess.Popen(
            [sys.executable, "-c", AGENTS, f"{self.broker.url}?timeout=2", *REMOTE],
            stdin=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )

    def _end_agents(self) -> None:
        if self.agents is not None:
            self.agents.kill()
            self.agents.communicate()

    # ---- deeds, on the chaos thread ----

    def kill_broker(self) -> None:
        self.broker.kill()
        self.over.wait(self.random.uniform(0.0, 3.0))
        self.broker.start()

    def freeze_broker(self) -> None:
        self.second.freeze()
        self.over.wait(self.random.uniform(0.0, 4.0))
        self.second.thaw()

    def cut_network(self) -> None:
        self.proxy.cut()
        self.over.wait(self.random.uniform(0.0, 3.0))
        self.proxy.restore()

    def kill_agents(self) -> None:
        self._end_agents()
        self.over.wait(self.random.uniform(0.0, 2.0))
        self._start_agents()

    def step_clock(self) -> None:
        self.clock.ahead += self.random.uniform(0.1, 2.0)

    def disable_site(self) -> None:
        site = self.random.randrange(SITES)
        self.dispatcher.disable_site(site)
        self.over.wait(self.random.uniform(0.0, 2.0))
        self.dispatcher.enable_site(site)

    def fill_disk(self) -> None:
        """Record where there is no room for a while: it is told, and the gap is recorded."""
        path = self.folder / "full.jsonl"
        told = threading.Event()
        recorder = JSONLinesRecorder(path, on_error=lambda error: told.set())
        self.dispatcher.add(recorder, TopicFilter("#"))
        with no_room(path):
            if not told.wait(PATIENCE):
                self.books.complain("a recorder on a full disk told nobody")
        if not self.dispatcher.remove(recorder, wait=True, timeout=PATIENCE):
            self.books.complain("a recorder on a full disk did not end")
        if not any(isinstance(event, Gap) and event.lost for event in read(path)):
            self.books.complain("a recorder on a full disk lost events and did not record it")
        path.unlink()


@contextlib.contextmanager
def no_room(path: pathlib.Path) -> Iterator[None]:
    """Have every write to this file fail, as on a full disk. Other files are written as ever."""
    write, there = os.write, path.stat().st_ino

    def full(descriptor: int, data: Any) -> int:
        if os.fstat(descriptor).st_ino == there:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(descriptor, data)

    os.write = full
    try:
        yield
    finally:
        os.write = write


# ---- the proof -----------------------------------------------------------------------------------


def audit(station: Station) -> Dict[str, int]:
    """Hold the recording, read as a stream, against the books."""
    outcomes: Counter[str] = collections.Counter()
    ends: Counter[str] = collections.Counter()
    for event in read(station.recording):
        if isinstance(event, Outcome):
            outcomes[event.status.value] += 1
        elif isinstance(event, Request):
            ends[event.status.value] += 1
        else:
            station.books.complain(f"the recording has a gap: {event}")
    books = station.books
    values = outcomes.pop("PARTIAL", 0)  # of streams; the books hold what is final
    if ends != books.requests:
        books.complain(f"recorded ends {dict(ends)}, seen {dict(books.requests)}")
    if outcomes != books.outcomes:
        books.complain(f"recorded outcomes {dict(outcomes)}, seen {dict(books.outcomes)}")
    return {
        "recorded ends": sum(ends.values()),
        "recorded outcomes": sum(outcomes.values()),
        "recorded values of streams": values,
    }


def settle(condition: Callable[[], bool]) -> bool:
    """Wait for what other threads do by themselves."""
    limit = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > limit:
            return False
        time.sleep(0.05)
    return True


def work(
    folder: pathlib.Path, minutes: float, seed: int, rate: float, memory: List[float]
) -> Tuple[Books, Dict[str, int]]:
    """Run the station for its time; give what was seen of it, and nothing that keeps it alive."""
    with Station(folder, seed, rate) as station:
        books, numbers, supervised = station.books, station.numbers, station.supervisor.supervised
        threads = station.load(seed)
        for thread in threads:
            thread.start()
        began = shown = time.monotonic()
        while time.monotonic() < began + 60 * minutes:
            threading.Event().wait(1.0)
            memory.append(resident())
            if time.monotonic() - shown > 10:
                shown = time.monotonic()
                show(station, shown - began, memory[-1])
        station.over.set()
        for thread in threads:
            thread.join(PATIENCE)
            if thread.is_alive():
                books.complain(f"the thread {thread.name!r} did not end")
        if not station.dispatcher.flush(PATIENCE):
            books.complain(f"not flushed: {station.dispatcher.laggards}")
        if not settle(lambda: all(ward.state.value == "ready" for ward in supervised.values())):
            books.complain(f"states at the end: {station.supervisor.states}")
        books.count("restarts", sum(ward.restarts for ward in supervised.values()))
        if not settle(lambda: not numbers.tally()["lost"]):
            books.complain(f"confirmed and lost: {numbers.tally()}")
        station.timeline.save(folder / "trace.json")
    return books, {**numbers.tally(), **audit(station)}


def run(minutes: float, seed: int, rate: float) -> int:
    parent = pathlib.Path(tempfile.mkdtemp(prefix="ate-soak-"))
    tempfile.tempdir = str(parent)  # whatever is left there is seen
    folder = parent / "results"
    folder.mkdir()
    resource_tracker.ensure_running()  # the standard library's own, which stays
    before = Baseline(parent)
    memory: List[float] = []
    try:
        books, tally = work(folder, minutes, seed, rate, memory)
        wrong = books.wrong
        shutil.rmtree(folder)
        folder.mkdir()
        if not settle(lambda: not Baseline(parent).differences(before)):
            wrong += Baseline(parent).differences(before)
        tenth = max(1, len(memory) // 10)
        if memory[-1] - max(memory[: 2 * tenth]) > 10:
            wrong.append(f"memory: {memory[tenth]:.1f} MB became {memory[-1]:.1f} MB")
    finally:
        tempfile.tempdir = None
        shutil.rmtree(parent, ignore_errors=True)
    print(f"\n{minutes:g} minutes, seed {seed}")
    for title, counts in (
        ("requests", books.requests),
        ("outcomes", books.outcomes),
        ("events", books.events),
        ("bus and recording", tally),
    ):
        print(f"{title}: {', '.join(f'{k} {v}' for k, v in sorted(counts.items()))}")
    print(f"memory: {memory[tenth]:.1f} MB after a tenth, {memory[-1]:.1f} MB at the end")
    print(f"violations: {len(wrong)}")
    for problem in wrong[:20]:
        print(f"  {problem}")
    return 1 if wrong else 0


def show(station: Station, seconds: float, megabytes: float) -> None:
    books = station.books
    print(
        f"{seconds / 60:6.1f} min: {sum(books.requests.values())} requests, "
        f"{sum(books.outcomes.values())} outcomes, {sum(books.events.values())} deeds, "
        f"{sum(ward.restarts for ward in station.supervisor.supervised.values())} restarts, "
        f"{megabytes:.1f} MB, {len(books.wrong)} violations",
        flush=True,
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rate", type=float, default=40.0, help="requests a second")
    arguments = parser.parse_args()
    return run(arguments.minutes, arguments.seed, arguments.rate)


if __name__ == "__main__":  # a child process of the station imports this file
    sys.exit(main())
