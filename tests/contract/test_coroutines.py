"""The coroutine forms of the bus, `PubSub` and `Channels`, over every broker."""

from __future__ import annotations

import asyncio

import pytest

from ate_dispatcher import UnsupportedByDriverError
from ate_dispatcher.aio import Channels, Distributer
from ate_dispatcher.channels import StatusType

BOUND = 60.0


def run(main):
    """Run a coroutine, in bounded time."""
    return asyncio.run(asyncio.wait_for(main, BOUND))


def test_the_bus(broker, root):
    """Distributer: publish and subscribe, with and without a group."""

    async def main():
        alone, shared = asyncio.Queue(), asyncio.Queue()
        async with Distributer(broker.url) as bus:
            await bus.subscribe(alone.put_nowait, f"{root}.*")
            first = await bus.subscribe(shared.put, f"{root}.a", subscriber_group=f"{root}g")
            for number in range(10):
                await bus.publish(number, f"{root}.a")
            assert [await alone.get() for _ in range(10)] == list(range(10))
            assert {await shared.get() for _ in range(10)} == set(range(10))
            assert await first.cancel()

    run(main())


def test_many_at_once(broker, root):
    """Distributer: fifty publishes awaited together go out in that order."""

    async def main():
        came = asyncio.Queue()
        async with Distributer(broker.url) as bus:
            await bus.subscribe(came.put_nowait, f"{root}.a")
            await asyncio.gather(*(bus.publish(n, f"{root}.a") for n in range(50)))
            assert [await came.get() for _ in range(50)] == list(range(50))

    run(main())


def test_pubsub(broker, root):
    """PubSub: every verb of its document, awaited."""

    async def main():
        came = asyncio.Queue()

        async def client(channel, message):
            await came.put((channel, message))

        async with Distributer(broker.url) as bus:
            pubsub = bus.pubsub()
            pubsub.add_client(client)
            await pubsub.subscribe(f"{root}.a")
            await pubsub.psubscribe(f"{root}.b*")
            await pubsub.publish(f"{root}.a", "Hello")
            assert await came.get() == (f"{root}.a", "Hello")
            await pubsub.publish_event(f"{root}.bc", "e", 0)
            message = {"event": "e", "channel": f"{root}.bc", "data": 0}
            assert await came.get() == (f"{root}.bc", message)
            if bus.capabilities.introspection:
                assert await pubsub.count(f"{root}.a", f"{root}.x") == {
                    f"{root}.a": 1,
                    f"{root}.x": 0,
                }
                assert await pubsub.channels(f"{root}.?") == (f"{root}.a",)
            else:
                with pytest.raises(UnsupportedByDriverError):
                    await pubsub.count(f"{root}.a")
                with pytest.raises(UnsupportedByDriverError):
                    await pubsub.channels()
            await pubsub.unsubscribe(f"{root}.a")
            await pubsub.publish(f"{root}.a", "not this")
            await pubsub.publish(f"{root}.bd", 1)
            assert await came.get() == (f"{root}.bd", 1)
            await pubsub.punsubscribe()
            pubsub.remove_client(client)
            await pubsub.close()

    run(main())


def test_channels(broker, root):
    """Channels: connect, register, publish, unregister and close, awaited."""

    async def main():
        came = asyncio.Queue()

        async def keep(channel, event, data):
            await came.put((channel.name, event, data))

        channels = Channels(broker.url, namespace=root)
        assert await channels.connect() is StatusType.connected
        channel = await channels.register("cells", "volt*", keep)
        await channels.publish("cells", "current", "not this")
        await channels.publish("cells", "voltage", 0)
        assert await came.get() == (f"{root}.cells", "voltage", 0)
        assert await channels.unregister("cells", "volt*", keep) is channel
        await channels.close()
        assert channels.status is channels.statusType.closed
        assert came.empty()

    run(main())
