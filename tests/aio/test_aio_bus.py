"""`aio.Distributer`, `aio.PubSub` and `aio.Channels` over a bus inside this process."""

from __future__ import annotations

import asyncio
import threading

import pytest

from ate_dispatcher import CallbackError, InvalidTypeError, StateError
from ate_dispatcher import bus as threaded
from ate_dispatcher.aio import Channels, Distributer, PubSub
from ate_dispatcher.aio._threads import in_thread
from ate_dispatcher.channels import StatusType
from ate_dispatcher.testing import Gate

BOUND = 60.0


def run(main):
    """Run a coroutine function, in bounded time."""

    async def bounded():
        return await asyncio.wait_for(main(), BOUND)

    return asyncio.run(bounded())


def test_publish_and_subscribe():
    """Distributer: awaitable, the callback on the loop, one message after the other."""

    async def main():
        came, began = asyncio.Queue(), []

        async def callback(data, topic):
            assert threading.current_thread() is threading.main_thread()
            began.append(data)
            await asyncio.sleep(0)
            assert began[-1] == data
            await came.put((topic, data))

        async with Distributer("memory://") as bus:
            subscription = await bus.subscribe(callback, "site.*.v", with_topic=True)
            assert subscription.active
            assert subscription.connected
            for number in range(10):
                await bus.publish(number, "site.2.v")
            assert [await came.get() for _ in range(10)] == [("site.2.v", n) for n in range(10)]
            assert await subscription.cancel()
            assert not subscription.active
            assert await subscription.join()
            async with await bus.subscribe(came.put_nowait, "a", subscriber_group="g") as member:
                await bus.publish(0, "a")
                assert await came.get() == 0
            assert not member.active
        with pytest.raises(StateError):
            await bus.publish(1, "a")

    run(main)


def test_the_documented_helpers():
    """Distributer: each helper of its document, awaited."""

    async def main():
        came = asyncio.Queue()
        snapshot = {"user": {"id": 1}, "snapshot": {"datetime": 5, "pose": [1]}}
        async with Distributer("memory://") as bus:
            await bus.connect()
            await bus.subscribe(came.put_nowait, "user")
            await bus.subscribe_raw_topic(came.put_nowait, "pose")
            await bus.subscribe_parsed_topic(came.put_nowait, "pose")
            await bus.publish_user({"id": 1})
            assert (await came.get())["metadata"] == {"user_id": 1, "topic": "user"}
            await bus.publish_server(snapshot)
            assert (await came.get())["data"] == [1]
            await bus.publish_raw_snapshot(snapshot)
            assert (await came.get())["data"] == [1]
            await bus.publish_parsed_topic({"x": 1}, "pose")
            assert await came.get() == {"x": 1}

    run(main)


def test_pubsub():
    """PubSub: every verb, awaited."""

    async def main():
        came = asyncio.Queue()

        async def client(channel, message):
            await came.put((channel, message))

        async with Distributer("memory://") as bus:
            pubsub = bus.pubsub()
            assert pubsub.protocol is None
            pubsub.add_client(client)
            pubsub.add_client(client)
            await pubsub.subscribe("a", "b")
            await pubsub.psubscribe("c.*")
            await pubsub.publish("a", "Hello")
            assert await came.get() == ("a", "Hello")
            await pubsub.publish_event("c.1", "e", 0)
            assert await came.get() == ("c.1", {"event": "e", "channel": "c.1", "data": 0})
            assert await pubsub.count("a", "x") == {"a": 1, "x": 0}
            assert await pubsub.channels("[ax]") == ("a",)
            await pubsub.unsubscribe("a")
            await pubsub.punsubscribe("c.*")
            assert await pubsub.channels() == ("b",)
            pubsub.remove_client(client)
            await pubsub.publish("b", "not this")
            await pubsub.close()
        assert came.empty()

    run(main)


def test_channels():
    """Channels: every verb, awaited, with a plain and an ``async def`` callback."""

    async def main():
        came = asyncio.Queue()

        def plain(channel, event, data):
            came.put_nowait((channel.name, event, data))

        async def once(channel, event, data):
            await asyncio.sleep(0)
            plain(channel, event, data)
            raise CallbackError

        channels = Channels("memory://", namespace="rack")
        assert channels.status is StatusType.initialised
        assert channels.statusType is StatusType
        assert await channels.connect() is StatusType.connected
        channel = await channels.register("cells", "e", plain)
        assert await channels.register("cells", "e", plain) is channel
        await channels.register("cells", "*", once)
        await channels.publish("cells", "e", 0)
        assert [await came.get() for _ in range(2)] == [("rack.cells", "e", 0)] * 2
        await channels.publish("cells", "e")
        assert await came.get() == ("rack.cells", "e", None)
        assert channels.channels == (channel,)
        assert await channels.unregister("cells", "e", plain) is channel
        assert await channels.unregister("cells", "e", plain) is None
        assert channels.namespace == "rack"
        await channels.close()
        assert channels.status is StatusType.closed
        assert came.empty()

    run(main)


def test_channels_of_one_bus():
    """Channels: over an `aio` bus or a thread-based one, which stay open."""

    async def main():
        came = asyncio.Queue()
        async with Distributer("memory://") as bus:
            async with Channels(bus) as one, Channels(bus.threaded) as two:
                await one.register("a", "e", lambda *event: came.put_nowait(event[2]))
                await two.publish("a", "e", 1)
                assert await came.get() == 1
            await bus.publish(1, "a")

    run(main)


@pytest.mark.parametrize("enter", ["connect", "__aenter__"])
def test_a_bus_that_was_closed_and_connected_again_publishes_in_order(monkeypatch, enter):
    """All on the one thread of its lane, as in its first life."""

    async def main():
        bus = Distributer("memory://")
        await bus.connect()
        await bus.publish(0, "a")
        await bus.close()
        await getattr(bus, enter)()
        done, threads = [], set()

        def publish(data, topic, retain):
            done.append(data)
            threads.add(threading.current_thread().name)

        monkeypatch.setattr(bus.threaded, "publish", publish)
        await asyncio.gather(*(bus.publish(number, "a") for number in range(5)))
        assert done == list(range(5))
        (name,) = threads
        assert name.startswith("awaiting in order")
        await bus.close()

    run(main)


def test_a_callback_may_close():
    """Life: from inside a callback, without waiting for itself."""

    async def main():
        over = asyncio.Event()
        channels = await Channels("memory://").__aenter__()

        async def close(channel, event, data):
            await channels.close()
            over.set()

        await channels.register("a", "e", close)
        loop = asyncio.get_running_loop()
        begun = loop.time()
        await channels.publish("a", "e")
        await over.wait()
        assert loop.time() - begun < 4
        await in_thread(channels.threaded._thread.join, BOUND)

    run(main)


@pytest.mark.parametrize("leave", [PubSub.unsubscribe, PubSub.punsubscribe, PubSub.close])
def test_a_client_may_leave(monkeypatch, leave):
    """Life: from inside a client nothing is waited for, which would be itself."""
    waited, cancel = [], threaded.Subscription.cancel

    def seen(subscription, timeout=5.0):
        waited.append(timeout)
        return cancel(subscription, 0.0)

    monkeypatch.setattr(threaded.Subscription, "cancel", seen)

    async def main():
        over = asyncio.Event()
        async with Distributer("memory://") as bus:
            pubsub = bus.pubsub()

            async def client(channel, message):
                await leave(pubsub)
                over.set()

            pubsub.add_client(client)
            await pubsub.subscribe("c")
            await pubsub.psubscribe("c*")
            await pubsub.publish("c", 1)
            await over.wait()
            assert set(waited) == {0.0}

    run(main)


def test_a_cancelled_subscribe_is_undone(monkeypatch):
    """Cancelling: the subscription that nobody knows of is cancelled, and so is a registration."""
    gate = Gate()
    begin = threaded.Subscription._begin

    def slow(self, driver):
        begin(self, driver)
        gate.park()

    async def main():
        async with Distributer("memory://") as bus:
            channels = Channels(bus)
            await channels.connect()
            monkeypatch.setattr(threaded.Subscription, "_begin", slow)
            subscribing = asyncio.ensure_future(bus.subscribe(print, "a"))
            registering = asyncio.ensure_future(channels.register("b", "e", print))
            await in_thread(gate.wait_parked, 2)
            live = [own for own in bus.threaded._subscriptions if own.topics != ()]
            for task in (subscribing, registering):
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
            gate.open()
            for own in live[1:]:
                assert await in_thread(own.join, BOUND)
            assert channels.channels == ()
            await channels.close()

    run(main)


def test_what_is_no_callback():
    """Bad input: told at the call."""

    async def main():
        async with Distributer("memory://") as bus:
            with pytest.raises(InvalidTypeError, match="a callback must be callable, not 3"):
                await bus.subscribe(3, "a")
            with pytest.raises(InvalidTypeError, match="a client must be callable, not 3"):
                bus.pubsub().add_client(3)
            async with Channels(bus) as channels:
                with pytest.raises(InvalidTypeError, match="must be callable, not 3"):
                    await channels.register("a", "e", 3)

    run(main)


def test_they_say_what_they_are():
    """Errors and logs: as the thread-based forms."""

    async def main():
        async with Distributer("memory://x") as bus:
            assert repr(bus) == "<Distributer memory://x>"
            assert bus.url == "memory://x"
            assert bus.capabilities.introspection
            assert repr(await bus.subscribe(print, "a")) == "<Subscription to a, active>"
            assert repr(Channels(bus)) == "<Channels at memory://x, initialised>"

    run(main)
