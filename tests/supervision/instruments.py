"""Producers that child processes can import, each doing what its request asks for."""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import sys
import threading
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

from ate_dispatcher import Producer, WorkRejectedError, current_request
from ate_dispatcher.supervision._dialogue import Answer, CancelAll, Raised

FOR_EVER = threading.Event()


def announce(file):
    """Say that it has begun, to whoever reads the named pipe."""
    if file is not None:
        Path(file).write_text("begun")


class Unpicklable:
    def __reduce__(self):
        raise TypeError("a handle")


class ArgumentError(Exception):
    """Does not come back from its pickled form: it is called with one argument there."""

    def __init__(self, channel, text):
        super().__init__(f"{channel}: {text}")


@dataclass(frozen=True)
class Frozen(Exception):
    """Lets nothing be set."""


class Instrument(Producer):
    """Does the method that its request names."""

    def __init__(self, journal=None, **options):
        super().__init__(**options)
        self.journal = journal
        self.calls = 0

    def write(self, line):
        if self.journal is not None:
            with open(self.journal, "a") as file:
                print(line, file=file)

    def on_start(self):
        self.write("start")

    def on_stop(self):
        self.write("stop")

    def safe_state(self):
        self.write("safe")

    def produce_dispatcher_output(self, topic, what, *args, **kwargs):
        self.calls += 1
        return getattr(self, what)(*args, **kwargs)

    def number(self):
        return self.calls

    def echo(self, *args, **kwargs):
        return args, kwargs

    def pid(self):
        return os.getpid()

    def thread(self):
        return threading.current_thread() is self

    def hang(self, file=None):
        announce(file)
        time.sleep(1000)

    def hold_the_lock(self):
        ctypes.PyDLL(None).sleep(1000)  # no thread of the process runs meanwhile

    def half(self):
        """Give a large answer, and stop in the middle of sending it."""
        writes = iter([20_000, 20_000])

        def write(connection, data):
            os.write(connection.fileno(), data[: next(writes, 0)] or self.hang())

        Connection._send = write
        return bytes(1_000_000)

    def leave(self, code):
        os._exit(code)

    def exit(self, code):
        sys.exit(code)

    def kill(self, number):
        os.kill(os.getpid(), number)
        FOR_EVER.wait()

    def fail(self):
        return {}["missing"]

    def mistype(self):
        return 1 + "1"

    def call_off(self):
        raise asyncio.CancelledError("called off")

    def leave_stream(self):
        yield 1
        raise GeneratorExit("left")

    def freeze(self):
        raise Frozen

    def strange(self):
        raise ArgumentError(3, "out of range")

    def decline(self):
        raise WorkRejectedError("not calibrated")

    def unpicklable(self):
        return Unpicklable()

    def remaining(self):
        request = current_request()
        return request.remaining(), dict(request.tags), request.topic

    def keep(self):
        """Keep the request beyond its end, and say what becomes of it."""
        self.kept = current_request()
        self.ends = []
        self.kept.add_done_callback(lambda request: self.ends.append(request.status.name))
        return self.kept.status.name, self.kept.cancelled

    def cancel_and_keep(self):
        self.keep()
        current_request().cancel()

    def cancel_kept(self):
        """Cancel the request that was kept, and say how it stands."""
        kept, told = self.kept, threading.Event()
        kept.cancel()
        kept.add_done_callback(lambda request: told.set())
        assert told.wait(30)
        remaining = kept.remaining()
        return kept.status.name, kept.cancelled, remaining, kept.wait(30), self.ends

    def nap(self, file):
        announce(file)
        slept = current_request().sleep(1000)
        self.write(f"slept {slept} {current_request().cancelled}")

    def told(self, file):
        called = threading.Event()
        current_request().on_cancel(called.set)
        announce(file)
        self.write(f"told {called.wait(30)}")

    def stream(self, count):
        yield from range(count)
        return count

    def garbled(self, count):
        """Values of which one does not come back, and then without end."""
        try:
            yield from range(count)
            yield ArgumentError(3, "out of range")
            while True:
                yield "later"
        finally:
            self.write("closed")

    def garbled_to_the_end(self):
        yield ArgumentError(3, "out of range")
        return ArgumentError(4, "out of range")

    def garbled_answer(self):
        return ArgumentError(3, "out of range")

    def belated(self):
        """Say something of a call that is over, as if it had been on its way."""
        child = self._ate_watcher.__self__
        for last in (False, True):
            child._say(CancelAll(), self.calls - 1, last=False)
            child._say(Raised(OSError("belated"), "belated", ""), self.calls - 1, last)
            child._say(Answer("belated", not last), self.calls - 1, last)
        return "in time"

    def endless(self):
        try:
            number = 0
            while True:
                yield number
                number += 1
                current_request().sleep(0.01)
        finally:
            self.write("closed")

    def sulky(self):
        try:
            while True:
                yield 1
        finally:
            raise OSError("sulking")

    def stubborn(self):
        yield 1
        time.sleep(1000)

    def cancel(self):
        current_request().cancel()
        return current_request().sleep(1000)

    def wait(self):
        return current_request().wait()

    async def coroutine(self):
        return 7


class Interrupted(Instrument):
    """One that would notice Ctrl-C."""

    def produce_dispatcher_output(self, topic):
        return signal.getsignal(signal.SIGINT) is signal.SIG_IGN


class NoStart(Instrument):
    def on_start(self):
        raise OSError("no such device")


class LateStart(Instrument):
    """Starts once at once; the second time only when the file is there."""

    def on_start(self):
        if Path(self.journal).exists():
            time.sleep(1000)
        Path(self.journal).write_text("started")


def no_producer():
    return 5


def no_factory():
    raise LookupError("no bench")


def hanging_factory():
    print("making", flush=True)
    time.sleep(1000)


def leaving_factory():
    os._exit(9)
