"""What is special of Redis: globs, the stream of the groups, and who gets what was left."""

from __future__ import annotations

import contextlib
import threading
import time

import pytest
from brokers import Redis, needed, until

from ate_dispatcher import BusConnectionError, BusTimeoutError, BusURLError
from ate_dispatcher.bus import Distributer
from ate_dispatcher.testing import Gate

BOUND = 60.0

pytestmark = pytest.mark.brokers("redis")


@pytest.fixture
def raw(broker):
    """A client of its own, to look at the server from outside."""
    import redis

    with contextlib.closing(redis.Redis(port=broker.port, protocol=2)) as client:
        yield client


@pytest.fixture
def stream(root, raw):
    """A key that no other test uses."""
    yield root
    raw.delete(root)


@pytest.fixture
def private():
    """A server of its own, to be stopped."""
    needed(Redis)
    with Redis() as running:
        yield running


# ---- URLs ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rest", "said"),
    [
        ("/two", "database's number"),
        ("/1/2", "database's number"),
        ("?stream_maxlen=0", "stream_maxlen"),
        ("?claim_after=never", "claim_after"),
        ("?claim_after=0", "claim_after"),
        ("?stream=", "stream"),
        ("?claimafter=3", "did you mean 'claim_after'"),
        ("?tls_verify=no", "needs rediss://"),
        (",127.0.0.2", "names one host"),
    ],
)
def test_urls_that_cannot_be(broker, rest, said):
    """Bad input: told when the distributer is made."""
    with pytest.raises(BusURLError, match=said):
        Distributer(f"redis://127.0.0.1{rest}")


def test_a_database_that_is_not_there(broker):
    """Bad input: the server has sixteen."""
    with pytest.raises(BusConnectionError, match="out of range"):
        Distributer(f"{broker.url}/99").connect()


@pytest.mark.parametrize("host", ["a..b", "x" * 64])
def test_a_host_that_cannot_be(broker, host):
    """Bad input: what is no host's name at all is told as one that cannot be reached."""
    with pytest.raises(BusConnectionError, match=host):
        Distributer(f"redis://{host}?timeout=2").connect()


def test_each_database_has_its_stream(broker, distributer, stream, basket):
    """URL: the path names the database of the groups' stream."""
    url = f"{broker.url}/%d?stream={stream}"
    distributer(url % 2).subscribe(basket, "work", subscriber_group="g")
    distributer(url % 1).publish(1, "work")
    distributer(url % 2).publish(2, "work")
    assert basket.take(1) == [2]


# ---- channels ------------------------------------------------------------------------------------


@pytest.mark.parametrize("pattern", ["#", "*.#", "*.*", "a.#"])
def test_globs_are_coarser(private, basket, pattern):
    """Channels: a message comes once, whatever its glob crosses, and nothing of our own comes."""
    with Distributer(private.url) as bus:
        subscription = bus.subscribe(basket, pattern)
        bus.subscribe(print, "a").cancel()
        bus.subscribe(print, "a", subscriber_group="g").cancel()
        bus.publish(0, "ab")
        bus.publish(1, "a.b")
        bus.publish("end", "a.end")
        assert basket.take(2 + (pattern in ("#", "*.#")))[-2:] == [1, "end"]
        assert basket.left() == []
        assert subscription.undecodable == 0


def test_outside_clients(bus, raw, root, basket):
    """Channels: their names are the topics, for whoever speaks Redis."""
    bus.subscribe(basket, f"{root}.a")
    assert raw.publish(f"{root}.a", b"[1]") == 1
    assert basket.take(1) == [[1]]
    bus.subscribe(basket, f"{root}.#")
    assert raw.pubsub_channels(f"{root}*") == [f"{root}.a".encode()]


def test_a_closed_driver_opens_nothing(broker, distributer):
    """Life: what comes too late is refused, instead of connecting once more."""
    bus = distributer()
    driver = bus._driver()
    bus.close()
    with pytest.raises(BusConnectionError, match="closed"):
        driver.publish(("a",), b"1")


def test_nothing_is_left_at_the_server(broker, distributer, raw, root, basket):
    """Life: connections and channels end with what used them."""

    def connected():
        return {own["id"] for own in raw.client_list()}

    before = connected()
    bus = distributer()
    for group in ("", "g"):
        bus.subscribe(basket, f"{root}.a", f"{root}.*", subscriber_group=group)
    bus.publish(1, f"{root}.a")
    basket.take(2)
    ours = connected() - before
    assert len(ours) == 1 + 1 + 2  # publishing, channels, a member for each filter
    bus.close()
    until(lambda: not ours & connected())


# ---- groups --------------------------------------------------------------------------------------


def test_no_stream_without_a_group(broker, distributer, raw, stream, basket):
    """Groups: publishers write the stream only once there is somebody to read it."""
    bus = distributer(f"{broker.url}?stream={stream}")
    bus.publish(1, "work")
    assert not raw.exists(stream)
    bus.subscribe(basket, "work", subscriber_group="g")
    bus.publish(2, "work")
    assert raw.xlen(stream) == 1
    assert basket.take(1) == [2]


def test_the_stream_is_trimmed(broker, distributer, raw, stream):
    """Groups: a group that nobody reads for does not fill the server."""
    bus = distributer(f"{broker.url}?stream={stream}&stream_maxlen=50")
    bus.subscribe(print, "work", subscriber_group="g").cancel()
    for number in range(500):
        bus.publish(number, "work")
    assert 50 <= raw.xlen(stream) < 200  # whole nodes of the stream, a hundred each, are dropped


def test_all_is_acknowledged(broker, distributer, raw, stream, basket):
    """Groups: what was handled, and what was for others, is owed to nobody once a member left."""
    bus = distributer(f"{broker.url}?stream={stream}")
    with bus.subscribe(basket, "work.*", subscriber_group="g"):
        for number in range(100):
            bus.publish(number, "work.a" if number % 10 == 0 else "other")
        assert basket.take(10) == list(range(0, 100, 10))
    (group,) = raw.xinfo_groups(stream)
    assert group["pending"] == 0


def test_groups_that_look_alike(broker, distributer, stream, baskets):
    """Groups: names and filters are not mixed up, whatever characters they have."""
    url = f"{broker.url}?stream={stream}"
    cases = [("a b", "c/d"), ("a", "b c/d"), ("a", "c/#"), ("a", "c/*"), ("\ud800\n", "c/d")]
    found = [baskets() for _ in cases]
    for basket, (group, topic) in zip(found, cases):
        distributer(url).subscribe(basket, topic, subscriber_group=group)
    publisher = distributer(url)
    for number in range(5):
        publisher.publish(number, "c/d")
        publisher.publish(number, "b c/d")
    for basket in found:
        assert basket.take(5) == list(range(5))
    assert not any(basket.left() for basket in found)


def test_a_member_that_died(broker, distributer, raw, stream, basket):
    """Groups: what it owned is another's after ``claim_after``, also if it is not for the group."""
    url = f"{broker.url}?stream={stream}&claim_after=0.2"
    bus = distributer(url)
    bus.subscribe(print, "work", subscriber_group="g").cancel()
    for topic in ("other", "work", "other", "other", "work"):
        bus.publish(topic, topic)
    (group,) = raw.xinfo_groups(stream)
    raw.xreadgroup(group["name"], "the dead", {stream: ">"}, count=10)
    distributer(url).subscribe(basket, "work", subscriber_group="g")
    assert basket.take(2) == ["work", "work"]
    until(lambda: raw.xinfo_groups(stream)[0]["pending"] == 0)


def test_a_callback_that_takes_long(broker, distributer, stream, basket):
    """Groups: a member that is slow is not taken for dead, and its message not done twice."""
    url = f"{broker.url}?stream={stream}&claim_after=0.2"
    with Gate() as gate:

        def slow(data):
            basket(data)
            gate.park()

        for _ in range(2):
            distributer(url).subscribe(slow, "work", subscriber_group="g")
        bus = distributer(url)
        bus.publish(1, "work")
        assert basket.take(1) == [1]
        gate.wait_parked()
        threading.Event().wait(0.7)  # what is to be seen is that nothing comes of it
        bus.publish(2, "work")
        assert basket.take(1) == [2]


def test_what_is_left_goes_to_who_waits(broker, distributer, stream, baskets):
    """Groups: a member that has nothing to do takes over at once what another hands back."""
    url = f"{broker.url}?stream={stream}"
    idle, busy = baskets(), baskets()
    with Gate() as gate:

        def stuck(data):
            busy(data)
            gate.park()

        leaving = distributer(url).subscribe(stuck, "work", "more", subscriber_group="g")
        bus = distributer(url)
        bus.publish(1, "work")
        assert busy.take(1) == [1]
        bus.publish(2, "more")  # waits for its callback, behind the other
        leaving.cancel(timeout=0)
        distributer(url).subscribe(idle, "more", subscriber_group="g")
        gate.open()
        assert leaving.join(BOUND)
        assert idle.take(1, timeout=5) == [2]
        assert busy.left() == []


def test_leaving_while_messages_flow(broker, distributer, stream, basket):
    """Groups: members come and go under load; none hangs, and no message is lost or forgotten."""
    url = f"{broker.url}?stream={stream}"
    bus, publisher = distributer(url), distributer(url)
    enough, published = threading.Event(), []

    def publish():
        while not enough.is_set():
            publisher.publish(len(published), "work")
            published.append(len(published))

    bus.subscribe(basket, "work", subscriber_group="g").cancel()
    thread = threading.Thread(target=publish)
    thread.start()
    try:
        for _ in range(40):
            members = [bus.subscribe(basket, "work", subscriber_group="g") for _ in range(2)]
            basket.take(3)
            begun = time.monotonic()
            assert all(member.cancel(BOUND) for member in members)
            assert time.monotonic() - begun < 4
    finally:
        enough.set()
        thread.join(BOUND)
    with bus.subscribe(basket, "work", subscriber_group="g"):
        while set(basket.taken) != set(published):
            basket.take(1)
    assert len(basket.taken) == len(published)


def test_the_stream_is_lost(broker, distributer, raw, stream, basket):
    """Groups: a stream that is gone, as after a restart without persistence, is made again."""
    bus = distributer(f"{broker.url}?stream={stream}")
    bus.subscribe(basket, "work", subscriber_group="g")
    bus.publish(1, "work")
    assert basket.take(1) == [1]
    raw.delete(stream)
    until(lambda: raw.exists(stream))
    bus.publish(2, "work")
    assert basket.take(1) == [2]


def test_a_key_that_is_no_stream(broker, distributer, raw, stream):
    """Bad input: told to publishers and to members."""
    raw.set(stream, "something else")
    bus = distributer(f"{broker.url}?stream={stream}")
    with pytest.raises(BusConnectionError, match="wrong kind"):
        bus.publish(1, "work")
    with pytest.raises(BusConnectionError, match="wrong kind"):
        bus.subscribe(print, "work", subscriber_group="g")


# ---- a server that says nothing ------------------------------------------------------------------


def test_a_server_that_hangs(private, basket):
    """Outages: publishing is given up within the timeout, and closing does not wait for ever."""
    with Distributer(f"{private.url}?timeout=1") as bus:
        bus.subscribe(basket, "a")
        bus.publish(1, "a")
        assert basket.take(1) == [1]
        private.freeze()
        try:
            begun = time.monotonic()
            with pytest.raises(BusTimeoutError):
                bus.publish(2, "a")
            assert time.monotonic() - begun < 8
            begun = time.monotonic()
            bus.close()
            assert time.monotonic() - begun < 9
        finally:
            private.thaw()


def test_a_server_that_falls_silent(private, baskets, monkeypatch):
    """Outages: a subscriber that hears nothing asks, and comes back by itself."""
    monkeypatch.setattr("ate_dispatcher.bus.drivers.redis.KEEPALIVE", 0.1)
    alone, member = baskets(), baskets()
    with Distributer(f"{private.url}?timeout=1") as bus:
        bus.subscribe(alone, "a")
        bus.subscribe(member, "a", subscriber_group="g")
        private.freeze()
        threading.Event().wait(2.0)  # so long is it silent
        private.thaw()

        def heard():
            bus.publish(1, "a")
            return alone.left()

        until(heard)
        assert member.take(1) == [1]


def test_idle_connections_that_the_server_has_ended(private, basket):
    """Outages: after a restart nobody is told of connections that nobody used meanwhile."""
    with Distributer(private.url) as bus:
        bus.publish(1, "a")
        private.restart()
        bus.publish(2, "a")


def test_a_member_refused_later(private, baskets):
    """Outages: a server that is there and refuses is told to the subscriber, not for ever."""
    import redis

    told, came = baskets(), baskets()
    with Distributer(private.url, on_error=lambda own, error: told(error)) as bus:
        bus.subscribe(came, "a", subscriber_group="g")
        with contextlib.closing(redis.Redis(port=private.port, protocol=2)) as raw:
            raw.config_set("requirepass", "s3cret")
            raw.client_kill_filter(_type="normal", skipme=True)
            (error,) = told.take(1)
            assert isinstance(error, BusConnectionError)
            assert "Authentication" in str(error)
            raw.config_set("requirepass", "")
        bus.publish(1, "a")
        assert came.take(1) == [1]
    assert told.left() == []
