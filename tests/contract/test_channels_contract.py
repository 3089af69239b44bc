"""`PubSub` and `Channels` as their document shows them, over every broker."""

from __future__ import annotations

import queue

import pytest

from ate_dispatcher import UnsupportedByDriverError
from ate_dispatcher._backoff import Backoff
from ate_dispatcher.bus import Distributer, drivers_at_hand
from ate_dispatcher.channels import Channels, StatusType

BOUND = 40.0


@pytest.fixture
def events():
    return queue.Queue()


def take(events, count):
    return [events.get(timeout=BOUND) for _ in range(count)]


class Upper:
    """A protocol: what is published is in capitals."""

    def encode(self, message):
        return message.upper()

    def decode(self, data):
        if not data.isupper():
            raise ValueError("not in capitals")
        return data.lower()


def test_pubsub(bus, events, root):
    """PubSub: clients, channels, patterns, and their opposites."""
    pubsub = bus.pubsub()

    def client(channel, message):
        events.put((channel, message))

    pubsub.add_client(client)
    pubsub.subscribe(f"{root}.mychannel")
    pubsub.psubscribe(f"{root}.pattern.b*d")
    pubsub.publish(f"{root}.mychannel", "Hello")
    pubsub.publish(f"{root}.pattern.bed", 1)
    pubsub.publish(f"{root}.pattern.bet", "not this")
    pubsub.publish_event(f"{root}.pattern.bd", "e", 0)
    found = dict(take(events, 3))
    assert found == {
        f"{root}.mychannel": "Hello",
        f"{root}.pattern.bed": 1,
        f"{root}.pattern.bd": {"event": "e", "channel": f"{root}.pattern.bd", "data": 0},
    }
    pubsub.unsubscribe(f"{root}.mychannel")
    pubsub.publish(f"{root}.mychannel", "not this")
    pubsub.publish(f"{root}.pattern.bed", 2)
    assert take(events, 1) == [(f"{root}.pattern.bed", 2)]
    pubsub.punsubscribe()
    pubsub.subscribe(f"{root}.mychannel")
    pubsub.remove_client(client)
    pubsub.close()
    assert events.empty()


def test_a_protocol(distributer, bus, events, root):
    """PubSub: `encode` and `decode`; what cannot be decoded is told, and no more."""
    errors = queue.Queue()
    careful = distributer(on_error=lambda subscription, error: errors.put(error))
    pubsub = careful.pubsub(protocol=Upper())
    assert isinstance(pubsub.protocol, Upper)
    pubsub.add_client(lambda channel, message: events.put(message))
    pubsub.subscribe(f"{root}.a")
    bus.publish("not so", f"{root}.a")
    pubsub.publish(f"{root}.a", "hello")
    assert take(events, 1) == ["hello"]
    assert str(take(errors, 1)[0]) == "not in capitals"
    pubsub.close()


def test_who_is_there(broker, bus, root):
    """PubSub: `count` and `channels` from the broker, or an error that names the driver."""
    pubsub = bus.pubsub()
    if not bus.capabilities.introspection:
        scheme = bus.url.split(":")[0]
        with pytest.raises(UnsupportedByDriverError, match=f"{scheme}:// cannot count"):
            pubsub.count(f"{root}.a")
        with pytest.raises(UnsupportedByDriverError, match=f"{scheme}:// cannot list"):
            pubsub.channels()
        return
    pubsub.subscribe(f"{root}.a", f"{root}.b")
    pubsub.psubscribe(f"{root}.*")
    with bus.subscribe(print, f"{root}.a"):
        assert pubsub.count(f"{root}.a", f"{root}.b", f"{root}.c") == {
            f"{root}.a": 2,
            f"{root}.b": 1,
            f"{root}.c": 0,
        }
    assert pubsub.channels(f"{root}.[ac]") == (f"{root}.a",)
    assert {f"{root}.a", f"{root}.b"} <= set(pubsub.channels())
    pubsub.close()


def test_channels(broker, events, root):
    """Channels: two stations, each with its own bus; events, namespace, status channel."""

    def keep(channel, event, data):
        events.put((channel.name, event, data))

    with Channels(broker.url, namespace=root) as one:
        assert one.status is StatusType.connected
        assert one.register("cells", "voltage.*", keep).name == f"{root}.cells"
        one.register("board", "*", keep)
        with Channels(broker.url, namespace=root, status_channel="board") as two:
            assert take(events, 1) == [(f"{root}.board", "connected", None)]
            two.publish("cells", "current", "not this")
            two.publish("cells", "voltage.high", 0)
            assert take(events, 1) == [(f"{root}.cells", "voltage.high", 0)]
        assert take(events, 1) == [(f"{root}.board", "closed", None)]
        one.unregister("cells", "voltage.*", keep)
        one.publish("cells", "voltage.high", "not this")
        one.publish("board", "e", 1)
        assert take(events, 1) == [(f"{root}.board", "e", 1)]
    assert one.status is StatusType.closed


class Statuses:
    """Keeps the statuses that it is told."""

    def __init__(self):
        self._queue = queue.Queue()

    def __call__(self, status):
        self._queue.put(status)

    def wait_for(self, status):
        while self._queue.get(timeout=BOUND) is not status:
            pass


@pytest.mark.parametrize("kind", ["kill", "cut"])
@pytest.mark.parametrize(
    "name", [name for name in ("mqtt", "nats", "redis", "amqp") if name in drivers_at_hand()]
)
def test_a_broker_that_comes_and_goes(outage, name, kind, events):
    """Channels: all registrations survive it, those made in its absence too."""
    broken, told = outage(name, kind), Statuses()

    def keep(channel, event, data):
        events.put((channel.name, event))

    channels = Channels(broken.url, on_status=told, backoff=Backoff(0.1, 1.0))
    with channels, Distributer(broken.broker.url) as outside:
        channels.register("before", "one", keep)
        channels.register("before", "two.*", keep)
        channels.register("another", "*", keep)
        told.wait_for(StatusType.connected)
        broken.begin()
        told.wait_for(StatusType.disconnected)
        channels.register("meanwhile", "*", keep)
        broken.end()
        told.wait_for(StatusType.connected)
        for channel, event in (("before", "one"), ("before", "two.x"), ("another", "e")):
            channels.publish(channel, event)
        outside.pubsub().publish_event("meanwhile", "e")
        assert set(take(events, 4)) == {
            ("before", "one"),
            ("before", "two.x"),
            ("another", "e"),
            ("meanwhile", "e"),
        }


@pytest.mark.parametrize("name", [name for name in ("mqtt", "redis") if name in drivers_at_hand()])
def test_connecting_before_the_broker(outage, name, events):
    """Channels: a station may be switched on before its broker."""
    broken, told = outage(name, "kill"), Statuses()
    broken.begin()
    channels = Channels(broken.url, on_status=told, backoff=Backoff(0.05, 0.2))
    channels.register("cells", "*", lambda channel, event, data: events.put(data))
    assert channels.connect() is StatusType.disconnected
    broken.end()
    told.wait_for(StatusType.connected)
    channels.publish("cells", "e", 1)
    assert take(events, 1) == [1]
    channels.close()
