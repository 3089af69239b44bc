"""Many clients at once: the short form of ``benchmarks/monitor.py many``."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

import pytest

BENCHMARK = Path(__file__).resolve().parents[2] / "benchmarks" / "monitor.py"

pytestmark = [
    pytest.mark.skipif(os.environ.get("ATE_SLOW") != "1", reason="takes long: set ATE_SLOW=1"),
    pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="needs /proc"),
    pytest.mark.timeout(240),
]


def test_many_clients_some_of_them_stalled(monkeypatch):
    """The others miss nothing, memory is bounded, everything is released."""
    spec = importlib.util.spec_from_file_location("benchmarks_monitor", str(BENCHMARK))
    benchmark = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "benchmarks_monitor", benchmark)
    spec.loader.exec_module(benchmark)
    found = benchmark.many(good=54, stalled=6, rate=200.0, seconds=5.0)
    assert found.complete == 54
    assert found.dropped == 6
    assert found.grown_kib < 200_000
    assert found.threads_left <= 0
    assert found.files_left <= 0
