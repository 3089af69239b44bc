"""Scheduling noise: threads give way at bytecodes chosen by a seeded generator.

Before every bytecode of the package's own code a function of ours is called, which now and then
yields the processor there, so that interleavings which ordinary scheduling shows once a month come
up in seconds.
"""

from __future__ import annotations

import contextlib
import random
import sys
import threading
import time
from typing import Any, Callable, Iterator

__all__ = ["noise"]

PACKAGE = "ate_dispatcher"
PAUSE = 0.0001
"""Seconds. Now and then a thread gives way for so long that the others do many steps."""


@contextlib.contextmanager
def noise(seed: int, share: float = 0.03, files: str = PACKAGE) -> Iterator[random.Random]:
    """Make every thread yield at `share` of the bytecodes of files whose path contains `files`.

    Gives a generator of the same seed for the scenario's own choices.
    """
    draw = random.Random(seed).random  # atomic: one call into C

    def perhaps_yield() -> None:
        chance = draw()
        if chance < share:
            time.sleep(0 if chance > share / 16 else PAUSE)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    tracing = _traced if sys.version_info < (3, 12) else _monitored
    try:
        with tracing(perhaps_yield, files):
            yield random.Random(seed)
    finally:
        sys.setswitchinterval(interval)


@contextlib.contextmanager
def _traced(perhaps_yield: Callable[[], None], files: str) -> Iterator[None]:
    """Be called by a trace function, in threads started inside and in the calling one."""

    def trace_opcodes(frame: Any, event: str, argument: Any) -> Any:
        if event == "opcode":
            perhaps_yield()
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
        yield
    finally:
        sys.settrace(before)
        threading.settrace(before)  # type: ignore[arg-type]


@contextlib.contextmanager
def _monitored(perhaps_yield: Callable[[], None], files: str) -> Iterator[None]:
    """The same on 3.12 and later, where a trace function misses the first run of each function."""
    monitoring: Any = sys.monitoring  # type: ignore[attr-defined,unused-ignore]
    tool, event = monitoring.PROFILER_ID, monitoring.events.INSTRUCTION

    def instruction(code: Any, offset: int) -> Any:
        if files not in code.co_filename:
            return monitoring.DISABLE
        perhaps_yield()
        return None

    monitoring.use_tool_id(tool, "noise")
    monitoring.register_callback(tool, event, instruction)
    monitoring.set_events(tool, event)
    monitoring.restart_events()  # what an earlier noise was not interested in
    try:
        yield
    finally:
        monitoring.set_events(tool, 0)
        monitoring.register_callback(tool, event, None)
        monitoring.free_tool_id(tool)
