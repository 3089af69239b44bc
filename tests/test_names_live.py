"""docs/names.md, live: each name of eric-sse does what its document says, in both forms.

A test is written once, for whatever a form gives: plain values or coroutines, iterators or async
iterators. What a form adds to that is in `Form`.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import json
import os
import shutil
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from test_names import ROWS

from ate_dispatcher import UnknownIdError, aio, control, sse

BOUND = 20.0
LIVE = {}


def live(*names):
    """Note which names a test shows."""

    def note(function):
        LIVE.update(dict.fromkeys(names, function))
        return function

    return note


class Form:
    """Where a form has its classes, and how what they give is had."""

    def __init__(self, name, path):
        self.path = path
        coroutines = name == "asyncio"
        channels, sockets = (aio, aio) if coroutines else (sse, control)
        self.SSEChannel = channels.SSEChannel
        self.DataProcessingChannel = channels.DataProcessingChannel
        self.ApplicationChannel = channels.SimpleDistributedApplicationChannel
        self.SocketServer, self.SocketClient = sockets.SocketServer, sockets.SocketClient

    @staticmethod
    async def get(value):
        """Give a value, awaited where it has to be."""
        return await value if inspect.isawaitable(value) else value

    @staticmethod
    async def all(stream):
        """Give everything that a stream has."""
        if hasattr(stream, "__aiter__"):
            return [item async for item in stream]
        return list(stream)

    @contextlib.asynccontextmanager
    async def served(self):
        """Serve by the documented `main`; give a client of its form."""
        server = self.SocketServer(self.path)

        def main():
            result = server.main()
            if inspect.isawaitable(result):
                asyncio.run(as_coroutine(result))

        thread = threading.Thread(target=main)
        thread.start()
        await there(self.path)
        try:
            yield self.SocketClient(self.path)
        finally:
            assert await self.get(server.shutdown()) is True
            thread.join(BOUND)
            assert not thread.is_alive()


async def as_coroutine(awaitable):
    return await awaitable


async def there(path):
    """Wait until a server answers."""
    limit = time.monotonic() + BOUND
    while True:
        try:
            control.SocketClient(path).send_payload({"v": "ping"})
        except ConnectionError:
            assert time.monotonic() < limit
            await asyncio.sleep(0.01)
        else:
            return


def payloads(messages):
    return [message["data"] for message in messages]


# ---- messages and channels -----------------------------------------------------------------------


@live(
    "MessageContract",
    "MessageContract.type",
    "MessageContract.payload",
    "MessageContract.id",
    "Message",
    "SignedMessage",
    "SignedMessage.sender_id",
)
async def messages(form):
    """A message has a type and a payload; a signed one says who sent it."""

    class Own(sse.MessageContract):
        type = "own"
        payload = 3

    message = sse.Message("voltage", 5.01, id="7")
    assert (message.type, message.payload, message.id) == ("voltage", 5.01, "7")
    signed = sse.SignedMessage("bob", "voltage")
    assert (signed.sender_id, signed.type, signed.payload, signed.id) == (
        "bob",
        "voltage",
        None,
        None,
    )
    channel = form.SSEChannel()
    listener = channel.add_listener()
    for one in (message, signed, Own(), sse.Message(sse.MESSAGE_TYPE_CLOSED)):
        channel.broadcast(one)
    assert payloads(await form.all(channel.message_stream(listener))) == [5.01, None, 3]


@live(
    "AbstractChannel",
    "AbstractChannel.add_listener",
    "AbstractChannel.register_listener",
    "AbstractChannel.remove_listener",
    "AbstractChannel.get_listener",
    "AbstractChannel.dispatch",
    "AbstractChannel.broadcast",
    "AbstractChannel.message_stream",
    "AbstractChannel.watch",
    "AbstractChannel.stream_delay_seconds",
    "MESSAGE_TYPE_CLOSED",
    "SSEChannel",
    "SSEChannel.adapt",
    "SSEChannel.retry_timeout_milliseconds",
    "ConnectionsFactory",
)
async def channels(form):
    """One listener or all, the end of a stream, exactly the documented keys."""
    channel = form.SSEChannel(
        stream_delay_seconds=0,
        retry_timeout_milliseconds=5,
        channel_id="bench",
        connections_factory=sse.ConnectionsFactory(),
    )
    assert isinstance(channel, sse.AbstractChannel)
    assert (channel.stream_delay_seconds, channel.retry_timeout_milliseconds) == (0, 5)
    assert channel.adapt(sse.Message("m", 1)) == {"event": "m", "retry": 5, "data": 1}
    first, second = channel.add_listener(), sse.MessageQueueListener("second")
    channel.register_listener(second)
    assert channel.get_listener("second") is second
    watching = channel.watch()
    channel.dispatch(first.id, sse.Message("one", 1))
    channel.broadcast(sse.Message("all", 2))
    channel.broadcast(sse.Message(sse.MESSAGE_TYPE_CLOSED))
    assert payloads(await form.all(channel.message_stream(first))) == [1, 2]
    assert payloads(await form.all(channel.message_stream(second))) == [2]
    assert payloads(await form.all(watching)) == [1, 2]
    channel.remove_listener("second")
    with pytest.raises(UnknownIdError):
        channel.dispatch("second", sse.Message("m"))


@live(
    "MessageQueueListener",
    "MessageQueueListener.start",
    "MessageQueueListener.stop",
    "MessageQueueListener.on_message",
)
async def listeners(form):
    """on_message sees what its stream gives; a stopped one ends its stream."""
    seen = []

    class Listener(sse.MessageQueueListener):
        def on_message(self, msg):
            seen.append(msg.payload)
            if msg.payload == 1:
                self.stop()

    channel, listener = form.SSEChannel(), Listener()
    channel.register_listener(listener)
    listener.start()
    for number in range(3):
        channel.broadcast(sse.Message("m", number))
    assert payloads(await form.all(channel.message_stream(listener))) == [0, 1]
    assert (seen, listener.is_running()) == ([0, 1], False)


@live("DataProcessingChannel", "DataProcessingChannel.process_queue", "DataProcessingChannel.adapt")
async def processing(form):
    """adapt in a pool, results as they are ready, MESSAGE_TYPE_CLOSED as the end."""

    class Squares(form.DataProcessingChannel):
        def adapt(self, msg):
            return {"event": msg.type, "data": msg.payload**2}

    plain = form.DataProcessingChannel(1)
    assert plain.adapt(sse.Message("m", 2)) == {"event": "m", "data": 2}
    channel = Squares(max_workers=3, stream_delay_seconds=0, executor_class=ThreadPoolExecutor)
    listener = channel.add_listener()
    for number in range(9):
        channel.dispatch(listener.id, sse.Message("m", number))
    channel.dispatch(listener.id, sse.Message(sse.MESSAGE_TYPE_CLOSED))
    results = await form.all(channel.process_queue(listener))
    assert sorted(payloads(results)) == [number**2 for number in range(9)]


@live(
    "SimpleDistributedApplicationListener",
    "SimpleDistributedApplicationListener.set_action",
    "SimpleDistributedApplicationListener.dispatch_to",
    "SimpleDistributedApplicationListener.on_message",
    "SimpleDistributedApplicationChannel",
    "SimpleDistributedApplicationChannel.register_listener",
)
async def distributed(form):
    """An action for each type of message, its answers to the sender, `stop` reserved."""
    channel = form.ApplicationChannel()
    alice, bob = (sse.SimpleDistributedApplicationListener() for _ in range(2))
    for listener in (alice, bob):
        channel.register_listener(listener)
    bob.set_action("double", lambda msg: [sse.Message("doubled", 2 * msg.payload)])
    heard = []
    alice.set_action("doubled", lambda msg: heard.append(msg.payload))
    alice.dispatch_to(bob, sse.Message("double", 4))
    alice.dispatch_to(bob, sse.Message("stop"))
    await form.all(channel.message_stream(bob))
    alice.on_message(sse.SignedMessage(bob.id, "doubled", 1))
    bob.dispatch_to(alice, sse.Message("stop"))
    await form.all(channel.message_stream(alice))
    assert heard == [1, 8]


@live("AbstractChannelRepository", "SSEChannelRepository", "SSEChannelRepository.create")
async def repositories(form):
    """A channel configured by a dict."""
    repository = sse.SSEChannelRepository()
    assert isinstance(repository, sse.AbstractChannelRepository)
    channel = repository.create({"channel_id": "1", "retry_timeout_milliseconds": 7})
    assert channel.adapt(sse.Message("m"))["retry"] == 7
    assert repository.load("1") is channel


@live(
    "ChannelContainer",
    "ChannelContainer.register",
    "ChannelContainer.register_iterable",
    "ChannelContainer.get",
    "ChannelContainer.rm",
    "ChannelContainer.get_all_ids",
)
async def container(form):
    """Channels of the form by their ids."""
    container = sse.ChannelContainer()
    one, two, three = (form.SSEChannel(channel_id=name) for name in ("1", "10", "2"))
    container.register(one)
    container.register_iterable([two, three])
    assert container.get("10") is two
    assert list(container.get_all_ids()) == ["1", "10", "2"]
    container.rm("1")
    assert list(container.get_all_ids()) == ["10", "2"]
    with pytest.raises(UnknownIdError):
        container.get("1")


# ---- control -------------------------------------------------------------------------------------


@live(
    "SocketServer",
    "SocketServer.main",
    "SocketServer.shutdown",
    "SocketClient",
    "SocketClient.create_channel",
    "SocketClient.register",
    "SocketClient.stream",
    "SocketClient.broadcast_message",
    "SocketClient.dispatch",
    "SocketClient.remove_listener",
    "SocketClient.remove_channel",
    "SocketClient.send_payload",
)
async def sockets(form):
    """The client's methods against the server's `main`, ended by its `shutdown`."""
    async with form.served() as client:
        channel = await form.get(client.create_channel())
        listener = await form.get(client.register(channel))
        await form.get(client.broadcast_message(channel, "all", "text"))
        await form.get(client.dispatch(channel, listener, "mine", {"a": 0}))
        await form.get(client.dispatch(channel, listener, "_closed", None))
        texts = await form.all(client.stream(channel, listener))
        assert [json.loads(text) for text in texts] == [
            {"event": "all", "retry": 5, "data": "text"},
            {"event": "mine", "retry": 5, "data": {"a": 0}},
        ]
        await form.get(client.remove_listener(channel, listener))
        with pytest.raises(UnknownIdError):
            await form.get(client.remove_listener(channel, listener))
        await form.get(client.remove_channel(channel))
        with pytest.raises(UnknownIdError):
            await form.get(client.send_payload({"v": "r", "c": channel}))


@live("SocketServer.start")
async def shortcut(form):
    """A static method that serves until it is told to stop."""
    thread = threading.Thread(target=form.SocketServer.start, args=(form.path,))
    thread.start()
    await there(form.path)
    assert await form.get(form.SocketClient(form.path).send_payload({"v": "stop"})) is None
    thread.join(BOUND)
    assert not thread.is_alive()


# ---- all of them ---------------------------------------------------------------------------------

NAMES = [row[0] for row in ROWS if ".sse." in row[1] or ".control." in row[1]]


def test_every_documented_name_is_shown_live():
    """A row of the table without a test would be a promise only."""
    assert sorted(LIVE) == sorted(NAMES)


@pytest.mark.parametrize("form", ["threads", "asyncio"])
@pytest.mark.parametrize("scenario", dict.fromkeys(LIVE.values()), ids=lambda one: one.__name__)
def test_live(scenario, form):
    """What the document shows, in the thread-based form and for asyncio."""
    folder = tempfile.mkdtemp(prefix="ate")
    try:

        async def bounded():
            place = os.path.join(folder, "bench.sock")
            await asyncio.wait_for(scenario(Form(form, place)), 2 * BOUND)

        asyncio.run(bounded())
    finally:
        shutil.rmtree(folder)
