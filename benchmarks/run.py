"""Everything side by side in one run, as ratios.

    python benchmarks/run.py [--quick] [--runs 7] [--markdown]

Each measurement runs in a fresh process; the contestants take turns, so that a machine whose speed
drifts treats all alike, and each figure is the median of its runs. The published 0.1.0 is installed
by pip into a folder of its own. ``--markdown`` prints the README's tables.
"""

from __future__ import annotations

import argparse
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import tempfile
from typing import Dict, List, Sequence

HERE = pathlib.Path(__file__).resolve().parent
OURS, OLD, FLOOR, LOOP = "ate-dispatcher", "0.1.0", "SimpleQueue", "asyncio"
NAMES = [OURS, OLD, FLOOR, LOOP, "thread pools", "pykka"]
SHAPES = {(1, 1): 20_000, (4, 4): 5_000, (16, 4): 1_500, (100, 10): 100}


class Bench:
    """Runs measurements in processes of their own and prints as it goes."""

    def __init__(self, runs: int, scale: float, markdown: bool, old: str) -> None:
        self.runs, self.scale, self.markdown, self.old = runs, scale, markdown, old

    def run(self, script: str, name: str, *arguments: object) -> List[float]:
        """Run one measurement; the numbers that it prints."""
        path = self.old if name == OLD else str(HERE.parent)
        # As installed: with compiled modules, whatever this shell says of them.
        environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
        done = subprocess.run(
            [sys.executable, str(HERE / script), name, *map(str, arguments)],
            env={**environment, "PYTHONPATH": path},
            stdout=subprocess.PIPE,
            text=True,
            check=True,
            timeout=600,
        )
        return [float(word) for word in done.stdout.split()]

    def interleaved(
        self, names: Sequence[str], script: str, *arguments: object
    ) -> Dict[str, List[List[float]]]:
        """Let the contestants take turns, so many times each."""
        found: Dict[str, List[List[float]]] = {name: [] for name in names}
        for _ in range(self.runs):
            for name in names:
                found[name].append(self.run(script, name, *arguments))
        return found

    def table(self, title: str, head: Sequence[str], rows: List[Sequence[str]]) -> None:
        """Print one table."""
        if self.markdown:
            print(f"\n**{title}**\n")
            print("| " + " | ".join(head) + " |")
            print("|" + "---|" + "---:|" * (len(head) - 1))
            for row in rows:
                print("| " + " | ".join(row) + " |")
        else:
            widths = [max(len(row[n]) for row in [head, *rows]) for n in range(len(head))]
            print(f"\n{title}")
            for row in [head, *rows]:
                print("  ".join(cell.rjust(width) for cell, width in zip(row, widths)))
        sys.stdout.flush()


def verdict(ratio: float, target: float, at_most: bool = False) -> str:
    """Say whether a target was reached."""
    reached = ratio <= target if at_most else ratio >= target
    return "reached" if reached else f"missed ({ratio:.2f} of {target:g})"


def median_ratio(found: Dict[str, List[List[float]]], top: str, bottom: str) -> float:
    """Give the median of the ratios within each turn."""
    pairs = zip(found[top], found[bottom])
    return statistics.median(upper[0] / lower[0] for upper, lower in pairs)


def throughputs(bench: Bench, names: List[str]) -> None:
    rows, verdicts = [], []
    for (producers, listeners), requests in SHAPES.items():
        count = max(20, int(requests * bench.scale))
        found = bench.interleaved(
            names, "contestants.py", "throughput", producers, listeners, count
        )
        deliveries = count * producers * listeners
        rates = [deliveries / statistics.median(t[0] for t in found[n]) / 1000 for n in names]
        shape = f"{producers}x{listeners}"
        rows.append([shape, *(f"{rate:.0f}" for rate in rates)])
        against = [median_ratio(found, other, OURS) for other in (OLD, LOOP, FLOOR)]
        floor = verdict(against[2], 0.5) if producers > 1 else "no target"
        verdicts.append(
            [
                shape,
                f"{against[0]:.1f}, {verdict(against[0], 10)}",
                f"{against[1]:.2f}, {verdict(against[1], 1)}",
                f"{against[2]:.2f}, {floor}",
            ]
        )
    title = "Deliveries per second, in thousands (producers x listeners)"
    bench.table(title, ["shape", *names], rows)
    head = ["shape", "times 0.1.0 (10)", "times asyncio (1)", "times SimpleQueue (0.5)"]
    bench.table("Ratios, with the target in brackets", head, verdicts)


def latencies(bench: Bench, names: List[str]) -> None:
    rows = []
    threaded = [name for name in names if name != LOOP]
    for title, busy in (("alone", ()), ("beside a thread that burns CPU", ("busy",))):
        rounds = max(20, int((50 if busy else 2000) * bench.scale))
        found = bench.interleaved(threaded, "contestants.py", "roundtrip", rounds, *busy)
        for name in threaded:
            p50, p99 = (statistics.median(t[n] for t in found[name]) for n in (0, 1))
            ratio = median_ratio(found, name, FLOOR)
            said = ""
            if name == OURS and not busy:
                said = f", {verdict(ratio, 1.2, at_most=True)}"
            rows.append([f"{name}, {title}", f"{p50:.0f}", f"{p99:.0f}", f"{ratio:.2f}{said}"])
    head = ["round trip", "p50 (us)", "p99 (us)", "times SimpleQueue (1.2)"]
    bench.table("Round trip, one producer, one listener", head, rows)


def footprints(bench: Bench, quick: bool) -> None:
    rows = []

    def one(title: str, unit: str, name: str, argument: object = "") -> None:
        runs = [bench.run("footprint.py", name, argument)[0] for _ in range(1 if quick else 3)]
        rows.append([title, f"{statistics.median(runs):,.1f} {unit}"])

    one("memory of an open request", "bytes", "bytes_per_open")
    if not quick:
        for kind in ("answered", "nobody", "expiring"):
            one(f"growth after 100,000 ended requests, {kind}", "bytes", "growth", kind)
    for count in (1, 100, 10_000):
        one(f"a delivery, of {count:,} topics", "us", "topics", count)
    for count in (0, 10, 1_000):
        one(f"a delivery, beside {count:,} filters", "us", "filters", count)
    one(
        f"CPU of an idle station, 50 agents, {1 if quick else 10} s",
        "ms",
        "idle",
        1 if quick else 10,
    )
    for title, code in (
        ("start of Python", "pass"),
        ("start and import logging", "import logging"),
        ("start and import ate_dispatcher", "import ate_dispatcher"),
    ):
        rows.append([title, f"{imports(bench, code):.1f} ms"])
    bench.table("Footprint", ["what", "figure"], rows)


def imports(bench: Bench, code: str) -> float:
    """Give the median milliseconds of a fresh interpreter that runs this."""
    timed = (
        "import subprocess, sys, time; t = time.perf_counter();"
        "subprocess.run([sys.executable, '-c', sys.argv[1]], check=True);"
        "print((time.perf_counter() - t) * 1000)"
    )
    path = {**os.environ, "PYTHONPATH": str(HERE.parent)}
    times = []
    for _ in range(max(3, bench.runs)):
        command = [sys.executable, "-c", timed, code]
        done = subprocess.run(command, env=path, stdout=subprocess.PIPE, text=True, check=True)
        times.append(float(done.stdout))
    return statistics.median(times)


def machine() -> str:
    """Describe the machine in a line."""
    model = platform.processor() or platform.machine()
    cpuinfo = pathlib.Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = cpuinfo.read_text(encoding="utf-8").splitlines()
        model = next(
            (ln.split(":")[1].strip() for ln in lines if ln.startswith("model name")), model
        )
    python = f"{platform.python_implementation()} {platform.python_version()}"
    return f"{model}, {os.cpu_count()} processors, {platform.system()}, {python}"


def install_old(folder: str) -> bool:
    """Install the published 0.1.0 beside; False, with a line, where that cannot be."""
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", folder]
    done = subprocess.run([*command, "ate-dispatcher==0.1.0"], check=False)
    if done.returncode:
        print("0.1.0 could not be installed: it is left out")
    return done.returncode == 0


def has_pykka() -> bool:
    done = subprocess.run(
        [sys.executable, "-c", "import pykka"], stderr=subprocess.DEVNULL, check=False
    )
    if done.returncode:
        print("pykka is not installed (pip install pykka): it is left out")
    return done.returncode == 0


def main() -> None:
    """Run it all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--quick", action="store_true", help="a look, not a measurement")
    parser.add_argument("--markdown", action="store_true")
    arguments = parser.parse_args()
    runs = 1 if arguments.quick else arguments.runs
    print(f"{machine()}; median of {runs} interleaved runs")
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(runs, 0.1 if arguments.quick else 1.0, arguments.markdown, folder)
        if not install_old(folder):
            raise SystemExit("the ratios are against 0.1.0: without it there is nothing to say")
        names = [name for name in NAMES if name != "pykka" or has_pykka()]
        throughputs(bench, names)
        latencies(bench, names)
        footprints(bench, arguments.quick)


if __name__ == "__main__":
    main()
