"""What the monitor costs, and how it holds under load.

    python benchmarks/monitor.py [page | pairs | many]...

page    1000 results/s for 30 s with the page open in Chromium (needs playwright): how long a click
        on a filter takes to be painted (p95), and the greatest gap between two frames
pairs   20 interleaved pairs of a dispatcher at full speed, without and with a monitor that one
        client reads: the ratio, with its 95 % interval
many    200 clients of the stream for 30 s, 20 of them stalled: what the others miss, memory, and
        what is left afterwards
"""

from __future__ import annotations

import json
import math
import os
import selectors
import shutil
import socket
import statistics
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from typing import Any, Dict, List, NamedTuple, Tuple

from ate_dispatcher import ATEDispatcher, Producer, ResultListener, TopicFilter
from ate_dispatcher.monitor import Monitor
from ate_dispatcher.sse import EventParser

TOPICS = ("voltage", "current", "temperature", "resistance")
T95 = {19: 2.093}
"""Student's t for the interval, by degrees of freedom."""


class Measure(Producer):
    def produce_dispatcher_output(self, topic: str, number: int) -> float:
        return number / 7


class Count(ResultListener):
    def process_dispatcher_result(self, topic: str, response: Any) -> None:
        pass


def station(producers: int = 4, listeners: int = 1) -> ATEDispatcher:
    dispatcher = ATEDispatcher(high_water=10**9)
    for number in range(producers):
        dispatcher.add(Measure(name=f"dmm{number}", site=number), *TOPICS)
    for number in range(listeners):
        dispatcher.add(Count(name=f"log{number}"), TopicFilter("#"))
    dispatcher.start()
    return dispatcher


def work(dispatcher: ATEDispatcher, rate: float, seconds: float) -> int:
    """Have four producers give so many results a second; say how many there were."""
    begun = time.monotonic()
    sent = 0
    while time.monotonic() - begun < seconds:
        dispatcher.send_request(TOPICS[sent % 4], sent, ttl=60_000)
        sent += 1
        time.sleep(max(0.0, begun + 4 * sent / rate - time.monotonic()))
    return 4 * sent


# ---- the page ----

WATCH_FRAMES = """
window.gaps = []; let last = performance.now();
(function frame() {
  const now = performance.now(); gaps.push(now - last); last = now; requestAnimationFrame(frame);
})();
window.took = [];
addEventListener("click", (event) => {
  const at = event.timeStamp;
  requestAnimationFrame(() => setTimeout(() => {
    const shown = document.querySelectorAll("#outcomes tbody tr td:nth-child(3)");
    const right = !filter.producer || [...shown].every((c) => c.textContent === filter.producer);
    took.push(right ? performance.now() - at : 1e9);
  }));
}, true);
"""


def page(rate: float = 1000.0, seconds: float = 30.0) -> Dict[str, float]:
    from playwright.sync_api import sync_playwright

    with ExitStack() as stack:
        served = stack.enter_context(
            subprocess.Popen(
                [sys.executable, __file__, "serve", str(rate), str(seconds + 5)],
                stdout=subprocess.PIPE,
                text=True,
            )
        )
        assert served.stdout is not None
        url = served.stdout.readline().strip()
        playwright = stack.enter_context(sync_playwright())
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"]
        )
        tab = browser.new_page(viewport={"width": 1366, "height": 768})
        tab.goto(url)
        tab.wait_for_function("() => rows.length > 1000")
        tab.evaluate(f"() => {{ {WATCH_FRAMES} }}")
        end = time.monotonic() + seconds
        clicks = 0
        while time.monotonic() < end:
            tab.click(f"#producers tbody tr:nth-child({clicks % 4 + 1})")
            clicks += 1
            tab.wait_for_timeout(150)
        gaps, took = tab.evaluate("() => [gaps.slice(1), took]")
        rows = tab.evaluate("() => rows[rows.length - 1][0]")
        browser.close()
        rest = served.stdout.read().split()
    took.sort()
    return {
        "results": float(rest[0]),
        "results known to the page": rows,
        "clicks": len(took),
        "click p50 ms": took[len(took) // 2],
        "click p95 ms": took[math.ceil(len(took) * 0.95) - 1],
        "click max ms": took[-1],
        "frames": len(gaps),
        "greatest gap ms": max(gaps),
    }


def serve(rate: float, seconds: float) -> None:
    with station() as dispatcher, Monitor(dispatcher) as monitor:
        print(monitor.url, flush=True)
        print(work(dispatcher, rate, seconds), flush=True)


# ---- the dispatcher's speed ----

READ = """
import socket, sys
with socket.create_connection(("127.0.0.1", int(sys.argv[1]))) as connection:
    connection.sendall(b"GET /events HTTP/1.1\\r\\nHost: 127.0.0.1:%s\\r\\n\\r\\n"
                       % sys.argv[1].encode())
    print("reading", flush=True)
    while connection.recv(65536):
        pass
"""


def throughput(shape: Tuple[int, int], requests: int, watched: bool) -> Tuple[float, float]:
    """Requests per second, flat out, and per second of this process's time on the processors."""
    with ExitStack() as stack:
        dispatcher = stack.enter_context(station(*shape))
        if watched:
            monitor = stack.enter_context(Monitor(dispatcher))
            port = monitor.url.split(":")[-1].strip("/")
            reader = subprocess.Popen(
                [sys.executable, "-c", READ, port], stdout=subprocess.PIPE, text=True
            )
            stack.callback(reader.communicate)
            stack.callback(monitor.stop)  # which ends the reader
            assert reader.stdout is not None
            reader.stdout.readline()
        begun, spent = time.perf_counter(), time.process_time()
        for number in range(requests):
            dispatcher.send_request("voltage", number, ttl=600_000)
        assert dispatcher.flush(300)
        took, spent = time.perf_counter() - begun, time.process_time() - spent
        return requests / took, requests / spent


def pairs(shape: Tuple[int, int], requests: int, count: int = 20) -> List[Tuple[float, ...]]:
    """Ratio with : without and its 95 % interval, by the clock and by the processors' time.

    The second is what matters on a machine that has other things to do.
    """
    logs: List[Tuple[float, float]] = []
    throughput(shape, requests // 4, True)
    for number in range(count):
        order = (False, True) if number % 2 else (True, False)
        rates = {watched: throughput(shape, requests, watched) for watched in order}
        ratios = [with_ / without for with_, without in zip(rates[True], rates[False])]
        logs.append((math.log(ratios[0]), math.log(ratios[1])))
    found = []
    for kind in zip(*logs):
        mean, error = statistics.mean(kind), statistics.stdev(kind) / math.sqrt(count)
        reach = T95.get(count - 1, 2.2) * error
        found.append((math.exp(mean), math.exp(mean - reach), math.exp(mean + reach)))
    return found


# ---- many clients ----


class Many(NamedTuple):
    results: int
    complete: int
    """Clients that have every outcome, in order, once."""
    dropped: int
    grown_kib: int
    """Resident memory at its most, above what it was before the clients came."""
    threads_left: int
    files_left: int


class Reader:
    """One client: what it was told of, by number."""

    def __init__(self, port: int, stalled: bool) -> None:
        self.socket = socket.socket()
        if stalled:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self.socket.connect(("127.0.0.1", port))
        host = f"127.0.0.1:{port}"
        self.socket.sendall(f"GET /events HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        self.parser = EventParser()
        self.numbers: List[int] = []

    def read(self) -> None:
        for event in self.parser.feed(self.socket.recv(262_144)):
            said = json.loads(event.data)
            self.numbers += [row[0] for row in said.get("rows", ())]


READERS = "import sys; from monitor import readers; readers(*map(int, sys.argv[1:]))"


def readers(port: int, good: int, stalled: int) -> None:
    """Be the clients, in a process of their own, until told how many outcomes there were."""
    selector = selectors.DefaultSelector()
    clients = [Reader(port, False) for _ in range(good)]
    idle = [Reader(port, True) for _ in range(stalled)]
    for client in clients:
        selector.register(client.socket, selectors.EVENT_READ, client)
    selector.register(sys.stdin, selectors.EVENT_READ, None)
    print("here", flush=True)
    wanted = None
    limit = math.inf
    while wanted is None or (
        any(len(client.numbers) < wanted for client in clients) and time.monotonic() < limit
    ):
        for key, _ in selector.select(1.0):
            if key.data is None:
                wanted = int(sys.stdin.readline())
                selector.unregister(sys.stdin)
                limit = time.monotonic() + 30
            else:
                key.data.read()
    right = list(range(1, wanted + 1))
    print(sum(client.numbers == right for client in clients), len(idle), flush=True)


def resident_kib() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") // 1024


def held() -> Tuple[int, int]:
    return threading.active_count(), len(os.listdir("/proc/self/fd"))


def many(good: int = 180, stalled: int = 20, rate: float = 200.0, seconds: float = 30.0) -> Many:
    """Serve many clients, and look at what they got and what is left."""
    with station() as dispatcher:
        with Monitor(dispatcher):  # what is made once and kept is made now
            work(dispatcher, rate, 0.5)
        before, memory = held(), resident_kib()
        with Monitor(dispatcher) as monitor:
            port = monitor.url.split(":")[-1].strip("/")
            child = subprocess.Popen(
                [sys.executable, "-c", READERS, port, str(good), str(stalled)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                cwd=os.path.dirname(os.path.abspath(__file__)),
            )
            assert child.stdout is not None
            child.stdout.readline()
            most = 0
            over = threading.Event()

            def watch() -> None:
                nonlocal most
                while not over.wait(0.2):
                    most = max(most, resident_kib())

            watcher = threading.Thread(target=watch)
            watcher.start()
            results = work(dispatcher, rate, seconds)
            limit = time.monotonic() + 30
            while monitor.dropped < stalled and time.monotonic() < limit:
                results += work(dispatcher, rate, 0.5)
            over.set()
            watcher.join()
            said, _ = child.communicate(f"{results}\n", timeout=120)
            dropped = monitor.dropped
        after = held()
    complete = int(said.split()[0])
    left = [now - then for now, then in zip(after, before)]
    return Many(results, complete, dropped, most - memory, left[0], left[1])


def main(parts: List[str]) -> None:
    if parts[:1] == ["serve"]:
        serve(float(parts[1]), float(parts[2]))
        return
    for part in parts or ["page", "pairs", "many"]:
        if part == "page":
            for name, value in page().items():
                print(f"{name}: {value:,.1f}", flush=True)
        elif part == "pairs":
            for shape, requests in (((1, 1), 400_000), ((4, 4), 150_000)):
                for clock, figures in zip(("by the clock", "CPU"), pairs(shape, requests)):
                    ratio, low, high = figures
                    shown = f"{shape[0]}x{shape[1]}, {clock}: {ratio:.3f} ({low:.3f} to {high:.3f})"
                    print(f"speed with a monitor : without, {shown}", flush=True)
        elif part == "many":
            print(many(), flush=True)
        else:
            raise SystemExit(f"unknown part {part!r}: page, pairs or many")


if __name__ == "__main__":
    main(sys.argv[1:])
