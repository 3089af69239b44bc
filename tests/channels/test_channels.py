"""`Channels` over a bus inside this process, whose broker is made to come and go."""

from __future__ import annotations

import logging
import queue
import threading

import pytest
from flaky import FlakyBroker

from ate_dispatcher import (
    BusURLError,
    CallbackError,
    InvalidArgumentError,
    InvalidTypeError,
    NotJSONError,
    StateError,
)
from ate_dispatcher.bus import Distributer, _distributer
from ate_dispatcher.channels import Backoff, Channels, StatusType
from ate_dispatcher.testing import FakeClock, Gate

BOUND = 60.0


@pytest.fixture
def broker(monkeypatch):
    """Have all distributers of this test speak to a broker that can be taken away."""
    broker = FlakyBroker()
    monkeypatch.setattr(_distributer, "driver_class", lambda url: broker.driver)
    return broker


class Statuses:
    """Keeps the statuses that it is told, and can be waited on."""

    def __init__(self):
        self._queue = queue.Queue()

    def __call__(self, status):
        self._queue.put(status)

    def take(self, *names):
        assert [self._queue.get(timeout=BOUND).name for _ in names] == list(names)

    def none_left(self):
        return self._queue.empty()


@pytest.fixture
def events():
    return queue.Queue()


@pytest.fixture
def keep(events):
    """A callback that puts channel, event and data into `events`."""

    def keep(channel, event, data):
        events.put((channel.name, event, data))

    return keep


@pytest.fixture
def bus():
    """A bus of this test's own, for both sides."""
    with Distributer("memory://") as bus:
        yield bus


@pytest.fixture
def channels(bus):
    with Channels(bus) as channels:
        yield channels


def take(events, count):
    return [events.get(timeout=BOUND) for _ in range(count)]


# ---- as documented -------------------------------------------------------------------------------


def test_events_reach_who_is_registered(channels, events, keep):
    """Channels: by channel and event; `register` gives the channel."""
    channel = channels.register("cells", "voltage.*", keep)
    assert (channel.name, channel.events) == ("cells", ("voltage.*",))
    channels.publish("cells", "current", 1)
    channels.publish("racks", "voltage.high", 2)
    channels.publish("cells", "voltage.high", 4.3)
    assert take(events, 1) == [("cells", "voltage.high", 4.3)]
    assert events.empty()


@pytest.mark.parametrize("data", [0, "", False, [], {}, 0.0, {"a": None}])
def test_falsy_data_arrives_as_sent(channels, events, keep, data):
    """Old defect: falsy data lost."""
    channels.register("cells", "e", keep)
    channels.publish("cells", "e", data)
    ((_, _, came),) = take(events, 1)
    assert came == data
    assert type(came) is type(data)


def test_what_others_see(bus, channels, events):
    """Channels: JSON for the outside, ``{"event", "channel"[, "data"]}``."""
    bus.subscribe(events.put, "cells")
    channels.publish("cells", "begin")
    channels.publish("cells", "end", 0)
    assert take(events, 2) == [
        {"event": "begin", "channel": "cells"},
        {"event": "end", "channel": "cells", "data": 0},
    ]


def test_a_publish_from_outside(bus, channels, events, keep):
    """PubSub: what `publish_event` sends is an event here."""
    channels.register("cells", "e", keep)
    bus.pubsub().publish_event("cells", "e", [1])
    bus.pubsub().publish_event("cells", "e")
    assert take(events, 2) == [("cells", "e", [1]), ("cells", "e", None)]


def test_namespaces(bus, events, keep):
    """Channels: a prefix where it is absent, on both sides."""
    with Channels(bus, namespace="rack2") as inside, Channels(bus) as outside:
        assert inside.register("cells", "e", keep).name == "rack2.cells"
        assert inside.register("rack2.cells", "e", keep).name == "rack2.cells"
        outside.publish("cells", "e", "not this")
        outside.publish("rack2.cells", "e", 1)
        inside.publish("cells", "e", 2)
        inside.publish("rack2.cells", "e", 3)
        assert [data for _, _, data in take(events, 3)] == [1, 2, 3]


def test_names_keep_their_case(channels, events, keep):
    """Old defect: names silently lower-cased on one side only."""
    channels.register("Cells", "E", keep)
    channels.publish("cells", "E", "not this")
    channels.publish("Cells", "e", "nor this")
    channels.publish("Cells", "E", 1)
    assert take(events, 1) == [("Cells", "E", 1)]


def test_unregister(bus, channels, events, keep):
    """Channels: the channel object if it was found; the subscription goes with the last."""
    channel = channels.register("cells", "a", keep)
    channels.register("cells", "b", keep)
    assert channels.unregister("cells", "a", keep) is channel
    assert channels.unregister("cells", "a", keep) is None
    assert channels.unregister("nowhere", "a", keep) is None
    channels.publish("cells", "a", "not this")
    channels.publish("cells", "b", 1)
    assert take(events, 1) == [("cells", "b", 1)]
    # Old defect: it failed for the last one while connected.
    subscription = channels._subscriptions[("cells",)]
    assert channels.unregister("cells", "b", keep) is channel
    assert channels.channels == ()
    assert subscription.join(BOUND)
    assert "cells" not in bus.pubsub().channels()
    channels.register("cells", "b", keep)
    channels.publish("cells", "b", 2)
    assert take(events, 1) == [("cells", "b", 2)]


def test_a_callback_that_raises_stays(channels, events, keep, caplog):
    """Channels: logged, counted, and the next one is called all the same."""

    def fail(channel, event, data):
        raise ValueError("no")

    channel = channels.register("cells", "e", fail)
    channels.register("cells", "*", keep)
    channels.publish("cells", "e", 1)
    channels.publish("cells", "e", 2)
    take(events, 2)
    assert channel.errors == 2
    assert channel.events == ("e", "*")
    assert sum("a callback of event 'e'" in record.message for record in caplog.records) == 2


def test_a_callback_that_exits_ends_alone(channels, events, keep, caplog):
    """C5: `SystemExit` takes that callback away and is logged; the channel goes on."""

    def leave(channel, event, data):
        raise SystemExit

    channel = channels.register("cells", "e", leave)
    channels.register("cells", "e", keep)
    channels.publish("cells", "e", 1)
    channels.publish("cells", "e", 2)
    assert [data for _, _, data in take(events, 2)] == [1, 2]
    assert [callback for _, callback in channel.callbacks("e")] == [keep]
    assert sum("is taken away" in record.message for record in caplog.records) == 1


def test_callback_error_unregisters_quietly(channels, events, keep, caplog):
    """Channels: `CallbackError` takes that callback away, and no other."""
    called = []

    def once(channel, event, data):
        called.append(data)
        raise CallbackError("enough")

    channel = channels.register("cells", "e", once)
    channels.register("cells", "e", keep)
    channels.publish("cells", "e", 1)
    channels.publish("cells", "e", 2)
    take(events, 2)
    assert called == [1]
    assert [callback for _, callback in channel.callbacks("e")] == [keep]
    assert not caplog.records


@pytest.mark.parametrize("message", [3, None, "e", [], {}, {"event": 1}, {"data": 1}])
def test_what_is_no_event_is_counted(bus, channels, events, keep, message):
    """Old defect: one malformed message removed the whole handler."""
    channel = channels.register("cells", "*", keep)
    bus.publish(message, "cells")
    channels.publish("cells", "e", 1)
    assert take(events, 1) == [("cells", "e", 1)]
    assert channel.malformed == 1


def test_callbacks_may_register_and_unregister(channels, events, keep):
    """Life: from inside a callback, without waiting for itself."""

    def change(channel, event, data):
        channels.unregister("cells", "change", change)
        channels.register("others", "e", keep)
        channels.publish("others", "e", 1)

    channels.register("cells", "change", change)
    channels.publish("cells", "change")
    assert take(events, 1) == [("others", "e", 1)]
    assert [channel.name for channel in channels.channels] == ["others"]


def test_a_callback_may_close(bus):
    """Life: it is not waited for by itself, and what it closes is closed."""
    told, over = Statuses(), threading.Event()
    channels = Channels(bus, on_status=told)
    channels.connect()

    def close(channel, event, data):
        channels.close()
        over.set()

    channels.register("cells", "e", close)
    channels.publish("cells", "e")
    assert over.wait(BOUND)
    told.take("connecting", "connected", "closed")
    assert channels.status is StatusType.closed


def test_closing_may_wait_for_ever(bus):
    """Life: infinity is longer than the platform can wait."""
    channels = Channels(bus)
    channels.connect()
    channels.close(float("inf"))
    assert not channels._thread.is_alive()


def test_unregister_does_not_wait_for_the_callback(channels):
    """Life: one that waits for the thread that unregisters it does not stop it."""
    gate = Gate()

    def wait(channel, event, data):
        gate.park()

    channels.register("cells", "e", wait)
    channels.publish("cells", "e")
    gate.wait_parked()
    assert channels.unregister("cells", "e", wait) is not None
    gate.open()


# ---- status --------------------------------------------------------------------------------------


def test_the_status_on_the_way(bus):
    """Status: observable from the first to the last; `statusType` is the enumeration."""
    told = Statuses()
    channels = Channels(bus, on_status=told)
    assert Channels.statusType is StatusType
    assert channels.status is StatusType.initialised
    assert channels.connect() is StatusType.connected
    assert channels.connect() is StatusType.connected
    channels.close()
    channels.close()
    told.take("connecting", "connected", "closed")
    assert told.none_left()
    assert channels.status is StatusType.closed


def test_the_status_channel(bus, events, keep):
    """Status: others are told on a channel; they may be channels themselves."""
    with Channels(bus) as others:
        others.register("board", "*", keep)
        station = Channels(bus, status_channel="board")
        station.connect()
        assert take(events, 1) == [("board", "connected", None)]
        with pytest.raises(InvalidArgumentError, match="'board' is the status channel"):
            station.publish("board", "connected")
        assert station.register("board", "closed", keep).name == "board"  # listening is free
        station.close()
        assert take(events, 1) == [("board", "closed", None)]


def test_a_status_callback_that_raises(bus, caplog):
    """Status: logged; the channels go on."""

    def fail(status):
        raise ValueError("no")

    with Channels(bus, on_status=fail) as channels:
        assert channels.status is StatusType.connected
    assert sum("on_status" in record.message for record in caplog.records) == 3


def test_the_callers_logger(broker):
    """Channels: what goes wrong is told to the logger that was given."""
    broker.away = True
    own, heard = logging.getLogger("station"), []
    handler = logging.Handler()
    handler.emit = heard.append
    own.addHandler(handler)
    try:
        with Channels("memory://", logger=own) as channels:
            assert channels.logger is own
    finally:
        own.removeHandler(handler)
    assert any("no broker" in record.getMessage() for record in heard)


# ---- reconnecting --------------------------------------------------------------------------------


def flaky(broker, clock, told, **options):
    backoff = Backoff(2.0, 60.0, draw=lambda: 0.0)
    options = {"backoff": backoff, "clock": clock, "on_status": told, **options}
    return Channels("memory://", **options)


@pytest.mark.parametrize(
    ("next_time", "waits"),
    [(None, [2, 4, 8, 16, 32, 60, 60]), (5, [5, 10, 20, 40, 60])],
)
def test_the_attempts_while_the_broker_is_away(broker, next_time, waits):
    """Back-off: by the clock exactly 2, 4, 8, 16, 32, 60 seconds apart, or as told; then back."""
    clock, told = FakeClock(), Statuses()
    broker.away = True
    channels = flaky(broker, clock, told)
    assert channels.connect(next_time) is StatusType.disconnected
    told.take("connecting", "disconnected")
    for wait in waits:
        clock.advance(wait - 0.001)
        clock.advance(0.001)
        told.take("connecting", "disconnected")
    assert broker.attempts == 1 + len(waits)
    broker.away = False
    clock.advance(min(60, waits[-1] * 2))
    told.take("connecting", "connected")
    channels.close()
    told.take("closed")
    assert told.none_left()


def test_a_loss_is_noticed_and_mended(broker, events, keep):
    """Old defect: no reconnection after an abnormal loss. What was registered is live again."""
    clock, told = FakeClock(), Statuses()
    with flaky(broker, clock, told) as channels:
        channels.register("cells", "e", keep)
        told.take("connecting", "connected")
        broker.lose()
        told.take("disconnected")
        clock.advance(2)
        told.take("connecting", "disconnected")
        broker.come_back()  # the driver's doing, before the next attempt is due
        told.take("connecting", "connected")
        channels.publish("cells", "e", 1)
        assert take(events, 1) == [("cells", "e", 1)]
        broker.lose()  # and the back-off begins anew
        told.take("disconnected")
        broker.come_back()
        told.take("connecting", "connected")


def test_registered_during_the_outage(broker, events, keep):
    """Channels: `register` returns at once, and is live once the broker is back."""
    clock, told = FakeClock(), Statuses()
    with flaky(broker, clock, told) as channels:
        told.take("connecting", "connected")
        broker.lose()
        told.take("disconnected")
        channel = channels.register("cells", "e", keep)
        assert channel.name == "cells"
        broker.come_back()
        told.take("connecting", "connected")
        channels.publish("cells", "e", 1)
        assert take(events, 1) == [("cells", "e", 1)]


def test_registered_at_the_moment_of_the_loss(broker, events, keep):
    """Channels: a registration that fails with the broker is kept and made up for."""
    clock, told = FakeClock(), Statuses()
    with flaky(broker, clock, told) as channels:
        told.take("connecting", "connected")
        broker.away = True  # nobody has noticed yet
        channels.register("cells", "e", keep)
        told.take("disconnected")
        broker.away = False
        clock.advance(2)
        told.take("connecting", "connected")
        channels.publish("cells", "e", 1)
        assert take(events, 1) == [("cells", "e", 1)]


def test_registered_before_connecting(broker, events, keep):
    """Channels: whoever registers first and connects then is not early."""
    broker.away = True
    clock, told = FakeClock(), Statuses()
    channels = flaky(broker, clock, told)
    channels.register("cells", "e", keep)
    assert channels.connect() is StatusType.disconnected
    told.take("connecting", "disconnected")
    broker.away = False
    clock.advance(2)
    told.take("connecting", "connected")
    channels.publish("cells", "e", 1)
    assert take(events, 1) == [("cells", "e", 1)]
    channels.close()


def test_closing_while_disconnected(broker):
    """Life: it ends the attempts, at once."""
    clock, told = FakeClock(), Statuses()
    broker.away = True
    channels = flaky(broker, clock, told)
    channels.connect()
    channels.close()
    told.take("connecting", "disconnected", "closed")
    clock.advance(1000)
    assert broker.attempts == 1


def test_waits_in_real_time(broker):
    """Back-off: without an injected clock the attempts come by themselves."""
    broker.away = True
    with Channels("memory://", backoff=Backoff(0.001, 0.002)):
        assert [broker.tried.get(timeout=BOUND) for _ in range(5)] == [1, 2, 3, 4, 5]


def test_a_registration_the_broker_refuses(broker, keep):
    """Bad input: what can never be live is told to who registers it, and not kept."""
    clock, told = FakeClock(), Statuses()
    broker.refused = "too.long"
    with flaky(broker, clock, told) as channels:
        with pytest.raises(InvalidArgumentError, match=r"'too\.long' is refused"):
            channels.register("too.long", "e", keep)
        assert channels.channels == ()
        assert channels.status is StatusType.connected
    late = flaky(broker, clock, told)
    late.register("too.long", "e", keep)
    with pytest.raises(InvalidArgumentError, match=r"'too\.long' is refused"):
        late.connect()
    late.close()


def test_a_channel_the_broker_refuses_keeps_no_other_dead(broker, events, keep, caplog):
    """Bad input: registered before connecting it is told to who connects; the others are live."""
    clock, told = FakeClock(), Statuses()
    broker.refused = "too.long"
    channels = flaky(broker, clock, told)
    channels.register("before", "e", keep)
    channels.register("too.long", "e", keep)
    channels.register("cells", "e", keep)
    with pytest.raises(InvalidArgumentError, match=r"'too\.long' is refused"):
        channels.connect()
    assert channels.connect() is StatusType.connected
    told.take("connecting", "connected")
    assert [own.name for own in channels.channels] == ["before", "cells"]
    assert caplog.text.count("channel too.long is taken away: 'too.long' is refused") == 1
    for name in ("before", "cells"):
        channels.publish(name, "e", 1)
        assert take(events, 1) == [(name, "e", 1)]
    assert channels.unregister("too.long", "e", keep) is None
    channels.close()


def test_a_channel_the_broker_refuses_once_it_is_back(broker, events, keep, caplog):
    """Bad input: registered during an outage it is logged, once; the others are live again."""
    clock, told = FakeClock(), Statuses()
    broker.refused = "too.long"
    with flaky(broker, clock, told) as channels:
        told.take("connecting", "connected")
        broker.lose()
        told.take("disconnected")
        channels.register("too.long", "e", keep)
        channels.register("cells", "e", keep)
        broker.come_back()
        told.take("connecting", "connected")
        assert [own.name for own in channels.channels] == ["cells"]
        assert caplog.text.count("channel too.long is taken away") == 1
        channels.publish("cells", "e", 1)
        assert take(events, 1) == [("cells", "e", 1)]


def test_one_back_off_may_be_given_to_many(broker):
    """Each counts in a copy: one that has waited long does not make the others wait."""
    given = Backoff(2.0, 60.0, draw=lambda: 0.0)
    channels = Channels("memory://", backoff=given)
    assert channels._backoff.next() == given.next() == 2.0
    assert given.next() == 4.0
    channels.close()


# ---- bad input -----------------------------------------------------------------------------------


def test_before_connecting_and_after_closing(keep):
    """Bad input: a clear error, and what to do."""
    channels = Channels("memory://")
    with pytest.raises(StateError, match=r"call connect\(\) first"):
        channels.publish("cells", "e")
    channels.close()
    for act in (
        channels.connect,
        lambda: channels.publish("cells", "e"),
        lambda: channels.register("cells", "e", keep),
        lambda: channels.unregister("cells", "e", keep),
    ):
        with pytest.raises(StateError, match="make new ones"):
            act()


def test_what_cannot_be_meant(channels, keep):
    """Bad input: told at the call, with the value, and nothing changed."""
    with pytest.raises(InvalidTypeError, match="must be callable, not 3"):
        channels.register("cells", "e", 3)
    with pytest.raises(InvalidTypeError, match="must be a string, not 3"):
        channels.register("cells", 3, keep)
    with pytest.raises(InvalidArgumentError, match="must not be empty"):
        channels.publish("cells", "")
    with pytest.raises(InvalidArgumentError, match="wildcard"):
        channels.register("cells.*", "e", keep)
    with pytest.raises(NotJSONError):
        channels.publish("cells", "e", object())
    for wrong in (0, -1, float("nan")):
        with pytest.raises(InvalidArgumentError, match="next_time must be above zero"):
            channels.connect(wrong)
    with pytest.raises(InvalidTypeError, match="next_time must be seconds"):
        channels.connect("2")
    assert channels.channels == ()


def test_what_cannot_be_made():
    """Bad input: the store, the names and the callback are looked at."""
    with pytest.raises(InvalidTypeError, match="a bus URL or a Distributer, not 3"):
        Channels(3)
    with pytest.raises(BusURLError):
        Channels("no url")
    with pytest.raises(InvalidTypeError, match="on_status must be callable"):
        Channels("memory://", on_status=3)
    with pytest.raises(InvalidTypeError, match="must be a Backoff, not 3"):
        Channels("memory://", backoff=3)
    with pytest.raises(InvalidArgumentError, match="empty word"):
        Channels("memory://", namespace="rack.")
    with pytest.raises(InvalidArgumentError, match="wildcard"):
        Channels("memory://", status_channel="#")


def test_the_store_of_somebody_else_stays_open(bus, events):
    """Life: a bus that was given is not closed with the channels, one made from a URL is."""
    with Channels(bus) as channels:
        pass
    bus.subscribe(events.put, "a")
    bus.publish(1, "a")
    assert take(events, 1) == [1]
    with Channels("memory://") as channels:
        own = channels._store
    with pytest.raises(StateError):
        own.publish(1, "a")


def test_a_store_closed_below(bus):
    """Life: closing the channels works on a bus that was closed before."""
    channels = Channels(bus, status_channel="board")
    channels.connect()
    bus.close()
    channels.close()
    assert channels.status is StatusType.closed
