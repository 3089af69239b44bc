"""Event streams, the control socket's server and its client, for asyncio."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import shutil
import tempfile
import threading
import time

import pytest

from ate_dispatcher import ATEDispatcher, ControlConnectionError, StateError, UnknownIdError
from ate_dispatcher.aio import (
    AsyncStream,
    DataProcessingChannel,
    SimpleDistributedApplicationChannel,
    SocketClient,
    SocketServer,
    SSEChannel,
)
from ate_dispatcher.aio._threads import in_thread
from ate_dispatcher.sse import (
    AbstractChannelRepository,
    ChannelContainer,
    MemoryStorage,
    Message,
    MessageQueueListener,
    SimpleDistributedApplicationListener,
    parse_events,
)
from ate_dispatcher.testing import Gate, ScriptedProducer

BOUND = 20.0


def run(main):
    """Run a coroutine function, in bounded time."""

    async def bounded():
        return await asyncio.wait_for(main(), BOUND)

    return asyncio.run(bounded())


@pytest.fixture
def path():
    folder = tempfile.mkdtemp(prefix="ate")
    yield os.path.join(folder, "bench.sock")
    shutil.rmtree(folder)


async def until(condition):
    limit = time.monotonic() + BOUND
    while not condition():
        assert time.monotonic() < limit
        await asyncio.sleep(0.005)


# ---- streams -------------------------------------------------------------------------------------


class Scripted:
    """A stream of what a queue gives; None is its end."""

    def __init__(self, items):
        self.items = list(items)
        self.gate = Gate(BOUND)
        self.closed = 0
        self.reason = ""

    def __next__(self):
        item = self.items.pop(0) if self.items else None
        if item is Gate:
            self.gate.park()
            item = self.items.pop(0) if self.items else None
        if item is None:
            raise StopIteration
        if isinstance(item, Exception):
            raise item
        return item

    def close(self):
        self.closed += 1
        self.reason = "it was closed"
        self.gate.open()


def test_a_stream_is_read_to_its_end():
    """And closed then; asked again, it is at its end."""
    stream = Scripted([1, 2, 3])

    async def main():
        asynchronous = AsyncStream(stream)
        assert [item async for item in asynchronous] == [1, 2, 3]
        assert [item async for item in asynchronous] == []
        assert asynchronous.reason == "it was closed"
        assert "closed" in repr(asynchronous)

    run(main)
    assert stream.closed


def test_nothing_is_read_that_nobody_asked_for():
    """Asking for the next message says that the last one was handled."""
    stream = Scripted([1, 2, 3])

    async def main():
        async with AsyncStream(lambda: stream) as asynchronous:
            assert await asynchronous.__anext__() == 1
            assert stream.items == [2, 3]

    run(main)


def test_a_cancelled_wait_loses_nothing():
    """The next one gets what came meanwhile; the loop is never blocked."""
    stream = Scripted([Gate, 1, 2])

    async def main():
        async with AsyncStream(stream) as asynchronous:
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(asynchronous.__anext__(), 0.01)
            stream.gate.open()
            assert await asynchronous.__anext__() == 1
            assert await asynchronous.__anext__() == 2

    run(main)


def test_what_nobody_was_given_goes_back():
    """Once: not to who waits for a stream that is being closed, which gets the end."""
    stream = Scripted([1, Gate])
    back = []

    async def main():
        asynchronous = AsyncStream(stream, give_back=lambda own: back.append(own.closed))
        assert await asynchronous.__anext__() == 1
        waiting = asyncio.ensure_future(asynchronous.__anext__())
        await in_thread(stream.gate.wait_parked)
        asynchronous._pending.set_result(2)  # and it is closed before who waits has its turn
        await asynchronous.aclose()
        with pytest.raises(StopAsyncIteration):
            await waiting
        other = AsyncStream(Scripted([3]), give_back=back.append)
        assert await other.__anext__() == 3
        await other.aclose()

    run(main)
    assert len(back) == 1


def test_two_tasks_cannot_wait_for_one_stream():
    """A clear error for the second; the first is not disturbed."""
    stream = Scripted([Gate, 1])

    async def main():
        async with AsyncStream(stream) as asynchronous:
            first = asyncio.ensure_future(asynchronous.__anext__())
            await in_thread(stream.gate.wait_parked)
            with pytest.raises(StateError, match="another task"):
                await asynchronous.__anext__()
            stream.gate.open()
            assert await first == 1

    run(main)


def test_closing_wakes_who_waits():
    """It gets the end, and the thread is gone."""
    stream = Scripted([Gate])

    async def main():
        asynchronous = AsyncStream(stream)
        waiting = asyncio.ensure_future(asynchronous.__anext__())
        await in_thread(stream.gate.wait_parked)
        await asynchronous.aclose()
        with pytest.raises(StopAsyncIteration):
            await waiting
        await asynchronous.aclose()

    run(main)


def test_what_a_stream_raises_is_raised():
    """Where it is awaited, and it ends with it; also what opening it raises."""

    def opened():
        raise UnknownIdError("no such listener")

    async def main():
        stream = AsyncStream(scripted)
        assert await stream.__anext__() == 0
        with pytest.raises(KeyError):
            await stream.__anext__()
        assert scripted.closed
        assert [item async for item in stream] == []
        with pytest.raises(UnknownIdError):
            async with AsyncStream(opened):
                pass
        unopened = AsyncStream(opened)
        with pytest.raises(UnknownIdError):
            await unopened.__anext__()
        await unopened.aclose()

    scripted = Scripted([0, KeyError("x"), 1])
    run(main)


def test_an_opened_stream_that_is_never_read_is_closed():
    stream = Scripted([1])

    async def main():
        await AsyncStream(stream).aclose()

    run(main)
    assert stream.closed == 1


def test_a_stream_that_takes_long_to_open_can_be_given_up():
    """As a request to a full dispatcher does: a cancelled wait ends, what is opened is closed."""
    gate, stream = Gate(BOUND), Scripted([1])

    def opened():
        gate.park()
        return stream

    async def enter(asynchronous):
        async with asynchronous:
            pass

    async def main():
        asynchronous = AsyncStream(opened)
        entering = asyncio.ensure_future(enter(asynchronous))
        await in_thread(gate.wait_parked)
        entering.cancel()
        await asyncio.wait([entering], timeout=BOUND / 4)
        given_up = entering.cancelled()
        await asyncio.wait_for(asynchronous.aclose(), BOUND / 4)
        gate.open()
        await until(lambda: stream.closed)
        assert given_up

    run(main)


def test_a_stream_that_is_dropped_leaves_no_thread():
    """Left in the middle of a loop, as `async for … break` does; and while it waits."""
    left, waiting = Scripted([1, 2]), Scripted([Gate])

    async def main():
        async for item in AsyncStream(left):
            assert item == 1
            break
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(AsyncStream(waiting).__anext__(), 0.05)
        gc.collect()
        await until(lambda: left.closed and waiting.closed)

    run(main)


# ---- channels ------------------------------------------------------------------------------------


def test_an_sse_channel():
    """Adapted messages and bytes, of a listener and of a watcher, as async iterators."""

    async def main():
        channel = SSEChannel(channel_id="c")
        listener, other = channel.add_listener(), channel.add_listener()
        watching, bytes_of_all = channel.watch(), channel.watch_events()
        for number in range(3):
            channel.broadcast(Message("m", number))
        channel.close()
        want = [{"event": "m", "retry": 5, "data": number} for number in range(3)]
        assert [item async for item in channel.message_stream(listener)] == want
        assert [item async for item in watching] == want
        for stream in (channel.event_stream(other), bytes_of_all):
            events = parse_events(b"".join([piece async for piece in stream]))
            assert [event.data for event in events] == ["0", "1", "2"]
        assert watching.reason == "the channel was closed"
        with pytest.raises(UnknownIdError):
            channel.message_stream("nobody")
        assert channel.statistics().watchers == 0

    run(main)


def test_a_message_wakes_its_reader():
    """Sent on the loop while a task waits."""

    async def main():
        channel = SSEChannel()
        async with channel.message_stream(channel.add_listener()) as stream:
            for number in range(20):
                reading = asyncio.ensure_future(stream.__anext__())
                await asyncio.sleep(0)
                channel.broadcast(Message("m", number))
                assert (await reading)["data"] == number

    run(main)


class Acting(MessageQueueListener):
    """A listener that parks on what it acts on."""

    def __init__(self):
        super().__init__()
        self.gate = Gate(BOUND)
        self.acted = []

    def on_message(self, msg):
        self.acted.append(msg.payload)
        self.gate.park()


@pytest.mark.parametrize("taken", ["before", "meanwhile"])
def test_a_message_that_nobody_was_given_waits_for_the_next_stream(taken):
    """C14 in storage too: a wait was cancelled, a message came, and the stream was closed then.

    It is the oldest that waits, and its listener does not act on it twice.
    """

    class Repository(AbstractChannelRepository):
        def build(self, channel_data, connections_factory):
            return SSEChannel(connections_factory=connections_factory, **channel_data)

    storage = MemoryStorage()

    async def main():
        channel = Repository(storage).create({"channel_id": "c"})
        listener = Acting()
        channel.register_listener(listener)
        stream = channel.message_stream(listener)
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(stream.__anext__(), 0.01)
        channel.broadcast(Message("m", 1))
        await in_thread(listener.gate.wait_parked)
        if taken == "before":
            listener.gate.open()
            await until(lambda: stream._pending.done())
            await stream.aclose()
        else:
            closing = asyncio.ensure_future(stream.aclose())
            await until(lambda: stream.reason)
            listener.gate.open()
            await closing
        assert (channel.statistics().waiting, len(storage.items("message/"))) == (1, 1)
        channel.broadcast(Message("m", 2))
        async with channel.message_stream(listener) as stream:
            assert [(await stream.__anext__())["data"] for _ in range(2)] == [1, 2]
        assert listener.acted == [1, 2]
        assert (channel.statistics().waiting, storage.items("message/")) == (0, [])

    run(main)


def test_a_message_that_was_given_does_not_wait_again():
    """Not even if the stream is closed while it delays the next one: asking for that said so."""

    async def main():
        channel = SSEChannel(stream_delay_seconds=1000)
        listener = channel.add_listener()
        channel.broadcast(Message("m", 1))
        stream = channel.message_stream(listener)
        assert (await stream.__anext__())["data"] == 1
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(stream.__anext__(), 0.01)
        await until(lambda: stream._shared.orders.empty())
        await until(lambda: stream._shared.stream.in_hand is None)
        await stream.aclose()
        assert channel.statistics().waiting == 0

    run(main)


def test_the_end_message_and_a_removed_listener_end_a_stream():
    """Once, without an error."""

    async def main():
        channel = SSEChannel()
        first, second = channel.add_listener(), channel.add_listener()
        ends = channel.message_stream(first)
        removed = channel.message_stream(second)
        waiting = asyncio.ensure_future(removed.__anext__())
        await asyncio.sleep(0.01)
        channel.remove_listener(second)
        with pytest.raises(StopAsyncIteration):
            await waiting
        assert removed.reason == "the listener was removed"
        channel.broadcast(Message("_closed"))
        assert [item async for item in ends] == []

    run(main)


class Squares(DataProcessingChannel):
    def adapt(self, msg):
        return {"event": msg.type, "data": msg.payload**2}


def test_processing():
    """process_queue: an async iterator of results, as documented."""

    async def main():
        channel = Squares(max_workers=4)
        listener = channel.add_listener()
        for number in range(20):
            channel.dispatch(listener, Message("m", number))
        channel.dispatch(listener, Message("bad", "text"))
        channel.dispatch(listener, Message("_closed"))
        results = [result async for result in channel.process_queue(listener)]
        good = [result["data"] for result in results if "error" not in result]
        assert sorted(good) == [number**2 for number in range(20)]
        (bad,) = [result for result in results if "error" in result]
        assert bad["error"]["type"] == "TypeError"
        channel.dispatch(listener, Message("m", 2))
        async with channel.process_queue(listener) as stream:
            assert (await stream.__anext__())["data"] == 4
        watching = channel.watch()
        channel.broadcast(Message("m", 3))
        assert (await watching.__anext__())["data"] == 9
        await watching.aclose()

    run(main)


def test_closing_wakes_who_waits_for_a_result():
    """With nothing to process, and with work that is running, which is waited for."""
    gate = Gate(BOUND)

    class Slow(DataProcessingChannel):
        def adapt(self, msg):
            gate.park()
            return msg.payload

    async def main():
        channel = Slow(max_workers=1)
        listener = channel.add_listener()
        for busy in (False, True):
            stream = channel.process_queue(listener)
            if busy:
                channel.dispatch(listener, Message("m", 1))
            waiting = asyncio.ensure_future(stream.__anext__())
            if busy:
                await in_thread(gate.wait_parked)
            else:
                await asyncio.sleep(0.01)
            closing = asyncio.ensure_future(stream.aclose())
            await asyncio.sleep(0)
            if busy:
                gate.open()
            await closing
            with pytest.raises(StopAsyncIteration):
                await waiting

    run(main)


def test_a_distributed_application():
    """Actions run as the streams are read, answers go to who asked."""

    async def main():
        channel = SimpleDistributedApplicationChannel()
        alice, bob = (SimpleDistributedApplicationListener() for _ in range(2))
        channel.register_listener(alice)
        channel.register_listener(bob)
        bob.set_action("ping", lambda msg: [Message("pong", msg.payload + 1)])
        heard = []
        alice.set_action("pong", lambda msg: heard.append(msg.payload))
        async with channel.message_stream(bob) as bobs, channel.message_stream(alice) as alices:
            alice.dispatch_to(bob, Message("ping", 1))
            assert (await bobs.__anext__())["event"] == "ping"
            assert (await alices.__anext__())["data"] == 2
        assert heard == [2]

    run(main)


# ---- the control socket --------------------------------------------------------------------------


def test_the_documented_client(path):
    """Every documented method, awaited; the stream by `async for`."""

    async def main():
        async with SocketServer(path) as server:
            client = SocketClient(path)
            channel = await client.create_channel()
            assert isinstance(channel, str)
            first, second = await client.register(channel), await client.register(channel)
            await client.dispatch(channel, first, "mine", {"a": 1})
            await client.broadcast_message(channel, "all", "x")
            await client.broadcast_message(channel, "_closed", None)
            texts = [text async for text in client.stream(channel, first)]
            assert [json.loads(text)["data"] for text in texts] == [{"a": 1}, "x"]
            async with client.watch(channel) as watching:
                await client.dispatch(channel, second, "late", 2)
                assert json.loads(await watching.__anext__())["data"] == 2
            await client.remove_listener(channel, second)
            with pytest.raises(UnknownIdError):
                await client.stream(channel, second).__anext__()
            await client.remove_channel(channel)
            assert await client.send_payload({"v": "c", "c": "bench"}) == "bench"
            assert server.container.get_all_ids() == ("bench",)
            assert path in repr(client)
            assert path in repr(server)
        with pytest.raises(ControlConnectionError):
            await client.create_channel()

    run(main)


def test_main_and_shutdown(path):
    """The documented server: it serves until it is shut down, or its task is cancelled."""

    async def main():
        server = SocketServer(path)
        serving = asyncio.ensure_future(server.main())
        await until(lambda: os.path.exists(path))
        client = SocketClient(path)
        channel = await client.create_channel()
        reading = asyncio.ensure_future(client.watch(channel).__anext__())
        await until(lambda: server.threaded.streams == 1)
        assert await server.shutdown() is True
        await serving
        with pytest.raises(StopAsyncIteration):
            await reading
        server = SocketServer(path)
        serving = asyncio.ensure_future(server.main())
        await until(lambda: os.path.exists(path))
        serving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await serving
        assert not os.path.exists(path)

    run(main)


def test_the_shortcut_of_the_server(path):
    """Documented as static, for scripts without a loop: a client's `stop` ends it."""
    thread = threading.Thread(target=SocketServer.start, args=(path,))
    thread.start()

    async def main():
        await until(lambda: os.path.exists(path))
        client = SocketClient(path)
        while True:
            try:
                assert await client.stop() is None
            except ConnectionError:  # it does not listen quite yet
                await asyncio.sleep(0.01)
            else:
                return

    run(main)
    thread.join(BOUND)
    assert not thread.is_alive()


def test_a_dispatcher_over_the_socket(path):
    """Requests, options, statistics and stop, as coroutines."""
    dispatcher = ATEDispatcher()
    dispatcher.start()
    dispatcher.add(ScriptedProducer(*range(9), name="dmm0", site=0), "t")
    dispatcher.add(ScriptedProducer(*range(9), name="dmm1", site=1), "t")

    async def main():
        async with SocketServer(path, dispatcher=dispatcher):
            client = SocketClient(path)
            rows = [row async for row in client.send_request("t", ttl=60_000)]
            assert sorted(row.get("producer", "") for row in rows) == ["", "dmm0", "dmm1"]
            view = client.with_options(sites=[1], priority=2)
            rows = [row async for row in view.send_request("t", ttl=60_000)]
            assert [row.get("producer") for row in rows] == ["dmm1", None]
            assert (await client.statistics())["ended"] == {"COMPLETE": 2}
            assert (await client.stop())["finished"]

    run(main)


def test_channels_of_asyncio_behind_a_socket(path):
    """A server streams them as any others."""
    container, channel = ChannelContainer(), SSEChannel(channel_id="c")
    container.register(channel)

    async def main():
        async with SocketServer(path, container=container):
            client = SocketClient(path)
            listener = await client.register("c")
            async with client.watch("c") as watching, client.stream("c", listener) as stream:
                channel.broadcast(Message("m", 1))
                for one in (watching, stream):
                    assert json.loads(await one.__anext__())["data"] == 1

    run(main)


def test_a_cancelled_creation_is_undone(path):
    """Nobody would know the id."""
    created = threading.Event()

    class Container(ChannelContainer):
        def register(self, channel):
            super().register(channel)
            created.set()

    container = Container()

    async def main():
        async with SocketServer(path, container=container):
            client = SocketClient(path)
            creating = asyncio.ensure_future(client.create_channel())
            await asyncio.sleep(0)
            creating.cancel()
            with pytest.raises(asyncio.CancelledError):
                await creating
            await until(created.is_set)
            await until(lambda: container.get_all_ids() == ())

    run(main)
