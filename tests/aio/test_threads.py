"""Awaiting what blocks, and being called on a loop from a thread."""

from __future__ import annotations

import asyncio
import threading

import pytest

from ate_dispatcher.aio import _loop_calls
from ate_dispatcher.aio._loop_calls import OnLoop, in_callback
from ate_dispatcher.aio._threads import Lane, in_thread
from ate_dispatcher.testing import Gate

BOUND = 60.0


async def parked(gate):
    """Wait until somebody is parked, without stopping the loop."""
    await in_thread(gate.wait_parked)


def test_result_and_error():
    """Awaiting: what it returns or raises comes out, arguments go in."""

    async def main():
        assert await in_thread(divmod, 7, 2) == (3, 1)
        assert await in_thread(int, "f", base=16) == 15
        with pytest.raises(ZeroDivisionError):
            await in_thread(divmod, 1, 0)
        with pytest.raises(KeyboardInterrupt):
            await in_thread(_interrupt)
        with pytest.raises(RuntimeError, match="next raised StopIteration"):
            await asyncio.wait_for(in_thread(next, iter(())), BOUND)

    asyncio.run(main())


def _interrupt():
    raise KeyboardInterrupt


def test_the_loop_goes_on():
    """Awaiting: nothing else on the loop waits, however many calls block."""
    gate = Gate()

    async def main():
        waiting = [asyncio.ensure_future(in_thread(gate.park)) for _ in range(60)]
        await in_thread(gate.wait_parked, 60)
        gate.open()
        return await asyncio.gather(*waiting)

    assert asyncio.run(main()) == [None] * 60


def test_a_lane_keeps_its_order_after_it_was_opened_again():
    """Also behind what was begun before it was closed; closed, nothing waits for another."""
    gate, done = Gate(), []

    def work(number, wait=False):
        if wait:
            gate.park()
        done.append(number)

    async def main():
        lane = Lane()
        lane.open()
        calls = [asyncio.ensure_future(lane.run(work, 0, wait=True))]
        await parked(gate)
        lane.close()
        await lane.run(work, 1)
        lane.open()
        lane.close()
        lane.open()
        calls += [asyncio.ensure_future(lane.run(work, number)) for number in range(2, 6)]
        await asyncio.sleep(0)
        gate.open()
        await asyncio.gather(*calls)
        lane.close()

    asyncio.run(main())
    assert done == [1, 0, 2, 3, 4, 5]


def test_a_cancelled_wait_is_undone():
    """Cancelling: at once; the result that nobody knows of is given to `undo`, in a thread."""
    gate, undone = Gate(), threading.Event()
    results = []

    def work():
        gate.park()
        return "made"

    def undo(result):
        results.append((result, threading.current_thread() is threading.main_thread()))
        undone.set()

    async def main():
        waiting = asyncio.ensure_future(in_thread(work, undo=undo))
        await parked(gate)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert not undone.is_set()
        gate.open()
        assert await in_thread(undone.wait, BOUND)

    asyncio.run(main())
    assert results == [("made", False)]


def test_cancelled_after_the_result_arrived():
    """Cancelling: between the arrival and the turn of who awaits it, the result is undone too."""
    undone = threading.Event()

    async def main():
        loop = asyncio.get_running_loop()
        arrived = loop.create_future()
        arrived.add_done_callback(lambda future: waiting.cancel())  # before the task is woken
        make = loop.create_future
        loop.create_future = lambda: arrived
        waiting = asyncio.ensure_future(in_thread(str, 3, undo=lambda result: undone.set()))
        await asyncio.sleep(0)
        loop.create_future = make
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert await in_thread(undone.wait, BOUND)

    asyncio.run(main())


def test_a_loop_that_is_gone():
    """Cancelling: a program that ends its loop in between leaves nothing made behind."""
    gate, undone = Gate(), threading.Event()

    def work():
        gate.park()

    async def main():
        waiting = asyncio.ensure_future(in_thread(work, undo=lambda result: undone.set()))
        await parked(gate)
        del waiting  # cancelled by the loop's end

    asyncio.run(main())
    gate.open()
    assert undone.wait(BOUND)


def test_what_was_used_is_not_undone():
    """Cancelling: only who was cancelled has it undone."""
    undone = []

    async def main():
        assert await in_thread(str, 3, undo=undone.append) == "3"

    asyncio.run(main())
    assert undone == []


@pytest.mark.parametrize("is_async", [False, True])
def test_callbacks_run_on_the_loop(is_async):
    """Callbacks: on the loop's thread, plain or ``async def``; the caller gets the outcome."""
    seen = []

    def plain(value):
        seen.append((value, threading.current_thread(), in_callback()))
        return 1 / value

    async def coroutine(value):
        await asyncio.sleep(0)
        return plain(value)

    async def main():
        call = OnLoop(coroutine if is_async else plain)
        assert await in_thread(call, 2) == 0.5
        with pytest.raises(ZeroDivisionError):
            await in_thread(call, 0)
        assert not in_callback()

    asyncio.run(main())
    assert seen == [(2, threading.current_thread(), True), (0, threading.current_thread(), True)]


def test_a_callback_for_a_loop_that_is_closed():
    """Callbacks: the caller is told; nothing hangs, nothing is left un-awaited."""

    async def main():
        return OnLoop(print)

    call = asyncio.run(main())
    with pytest.raises(RuntimeError, match="closed"):
        call(1)


def test_a_task_that_outlives_its_callback():
    """Callbacks: what it begins is not taken for it for ever; what it awaits is."""

    async def main():
        tasks, ended = [], asyncio.Event()

        async def begun():
            await ended.wait()
            return in_callback()

        async def awaited():
            return in_callback()

        async def callback():
            tasks.append(asyncio.ensure_future(begun()))
            return await asyncio.gather(awaited())

        assert await in_thread(OnLoop(callback)) == [True]
        ended.set()
        assert not await tasks[0]

    asyncio.run(main())


@pytest.mark.parametrize("begun", [False, True])
def test_a_loop_that_is_closed_under_its_callback(monkeypatch, begun):
    """Callbacks: who waits for what no loop will ever finish is told."""
    monkeypatch.setattr(_loop_calls, "LOOK", 0.001)
    loop, scheduled, raised = asyncio.new_event_loop(), threading.Event(), []
    tasks = []

    async def never():
        tasks.append(asyncio.current_task())
        await loop.create_future()

    async def wrapped():
        return OnLoop(never)

    call = loop.run_until_complete(wrapped())
    schedule = loop.call_soon_threadsafe

    def seen(*arguments, **named):
        schedule(*arguments, **named)
        scheduled.set()

    loop.call_soon_threadsafe = seen

    def wait():
        with pytest.raises(RuntimeError, match="was closed before") as told:
            call()
        raised.append(told)

    waiter = threading.Thread(target=wait, daemon=True)
    waiter.start()
    assert scheduled.wait(BOUND)
    while begun and not tasks:
        loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    waiter.join(BOUND)
    assert raised
    for task in tasks:
        task._log_destroy_pending = False


def test_the_same_callback_is_equal():
    """Callbacks: registered twice is once, and it can be taken away."""

    async def main():
        assert OnLoop(print) == OnLoop(print)
        assert hash(OnLoop(print)) == hash(OnLoop(print))
        assert OnLoop(print) != OnLoop(repr)
        assert OnLoop(print) != print
        assert repr(OnLoop(print)) == repr(print)
        return OnLoop(print)

    assert asyncio.run(main()) != asyncio.run(main())
