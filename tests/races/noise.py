"""Scheduling noise: threads give way at bytecodes chosen by a seeded generator.

A trace function is called before every bytecode of the package's own code and now and then yields
the processor there, so that interleavings which ordinary scheduling shows once a month come up in
seconds.
"""

from __future__ import annotations

import contextlib
import random
import sys
import threading
import time
from typing import Any, Iterator

__all__ = ["noise"]

PACKAGE = "ate_dispatcher"


@contextlib.contextmanager
def noise(seed: int, share: float = 0.03, files: str = PACKAGE) -> Iterator[random.Random]:
    """Make every thread started inside yield at `share` of the bytecodes of matching files.

    Gives a generator of the same seed for the scenario's own choices.
    """
    chance = random.Random(seed)
    draw = chance.random  # atomic: one call into C

    def trace_opcodes(frame: Any, event: str, argument: Any) -> Any:
        if event == "opcode" and draw() < share:
            time.sleep(0)
        return trace_opcodes

    def trace(frame: Any, event: str, argument: Any) -> Any:
        if files not in frame.f_code.co_filename:
            return None
        frame.f_trace_opcodes = True
        frame.f_trace_lines = False
        return trace_opcodes

    before = sys.gettrace()
    threading.settrace(trace)
    sys.settrace(trace)
    try:
        yield random.Random(seed)
    finally:
        sys.settrace(before)
        threading.settrace(before)  # type: ignore[arg-type]
