"""What every driver must show against its real broker. `memory` is the reference."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading

import pytest

from ate_dispatcher import (
    BusConnectionError,
    InvalidArgumentError,
    PayloadTooLargeError,
    UndecodableMessageError,
    UnsupportedByDriverError,
)
from ate_dispatcher.testing import Gate

BOUND = 60.0

FENCE = "the fence"


def fence(bus, basket, topic):
    """Everything published to the topic before has come when this returns; give it."""
    bus.publish(FENCE, topic)
    return fence_of(basket, FENCE)


def fence_of(basket, last):
    """Take until the last one has come; give what came before."""
    found = []
    while True:
        (item,) = basket.take(1)
        if item == last:
            return found
        found.append(item)


# ---- fan-out and groups --------------------------------------------------------------------------


def test_without_a_group_everybody_gets_everything(bus, distributer, root, baskets):
    """Fan-out: two subscriptions of one client and one of another each get every message."""
    three = [baskets() for _ in range(3)]
    for own, basket in zip((bus, bus, distributer()), three):
        own.subscribe(basket, f"{root}.a")
    for number in range(10):
        bus.publish(number, f"{root}.a")
    for basket in three:
        assert basket.take(10) == list(range(10))


def test_a_message_for_a_group_goes_to_one_member(bus, distributer, root, baskets):
    """Groups: every message is handled by exactly one member, and no member by itself takes all."""
    members = [baskets(), baskets()]
    together = baskets()

    def worker(own):
        def work(data):
            own(data)
            together(data)

        return work

    for own, basket in zip((bus, distributer()), members):
        own.subscribe(worker(basket), f"{root}.work", subscriber_group=f"{root}g")
    publisher = distributer()
    for number in range(40):
        publisher.publish(number, f"{root}.work")
    assert sorted(together.take(40)) == list(range(40))
    shares = [basket.left() for basket in members]
    assert sorted(shares[0] + shares[1]) == list(range(40))
    assert all(shares), shares
    assert together.left() == []


def test_two_groups_and_nobody_s_get_everything_once_each(bus, root, baskets):
    """Groups: each group as a whole, and each subscriber without one, gets every message."""
    first, second, alone = baskets(), baskets(), baskets()
    bus.subscribe(first, f"{root}.a", subscriber_group=f"{root}1")
    bus.subscribe(second, f"{root}.a", subscriber_group=f"{root}2")
    bus.subscribe(alone, f"{root}.a")
    for number in range(10):
        bus.publish(number, f"{root}.a")
    for basket in (first, second, alone):
        assert sorted(basket.take(10)) == list(range(10))


def test_members_of_uneven_speed(bus, distributer, root, baskets):
    """Groups: a member that stands still keeps back what it has been given, nothing else."""
    together = baskets()
    with Gate() as gate:

        def slow(data):
            gate.park()
            together(data)

        bus.subscribe(slow, f"{root}.work", subscriber_group=f"{root}g")
        distributer().subscribe(together, f"{root}.work", subscriber_group=f"{root}g")
        for number in range(20):
            bus.publish(number, f"{root}.work")
        gate.wait_parked()
        gate.open()
        assert sorted(together.take(20)) == list(range(20))
    assert together.left() == []


def test_a_member_leaves_and_another_joins(bus, distributer, root, baskets):
    """Groups: whoever is there shares the work, and who has left is given none."""
    together = baskets()
    group = {"subscriber_group": f"{root}g"}
    first = bus.subscribe(together, f"{root}.work", **group)
    distributer().subscribe(together, f"{root}.work", **group)
    for number in range(10):
        bus.publish(number, f"{root}.work")
    assert sorted(together.take(10)) == list(range(10))
    assert first.cancel()
    gone = first.received
    distributer().subscribe(together, f"{root}.work", **group)
    for number in range(10, 20):
        bus.publish(number, f"{root}.work")
    assert sorted(together.take(10)) == list(range(10, 20))
    assert first.received == gone


def test_a_group_s_backlog(bus, distributer, root, basket):
    """Groups: `Capabilities` says whether a group without members keeps what is published."""
    group = {"subscriber_group": f"{root}g"}
    assert bus.subscribe(basket, f"{root}.work", **group).cancel()
    for number in range(5):
        bus.publish(number, f"{root}.work")
    distributer().subscribe(basket, f"{root}.work", **group)
    bus.publish(5, f"{root}.work")
    if bus.capabilities.backlog:
        assert sorted(basket.take(6)) == list(range(6))
    else:
        assert basket.take(1) == [5]


def test_what_a_leaving_member_has_not_handled_is_another_s(bus, distributer, root, baskets):
    """Groups: where work is given at least once, none is lost with a member that leaves.

    Where it is given at most once, what that member had is gone, and nothing comes twice.
    """
    group = {"subscriber_group": f"{root}g"}
    with Gate() as gate:
        slow, quick = baskets(), baskets()

        def stuck(data):
            slow(data)
            gate.park()

        leaving = distributer().subscribe(stuck, f"{root}.work", **group)
        for number in range(6):
            bus.publish(number, f"{root}.work")
        gate.wait_parked()
        distributer().subscribe(quick, f"{root}.work", **group)
        leaving.cancel(timeout=0)
        gate.open()
        assert leaving.join(BOUND)
        handled = slow.left()
        if bus.capabilities.group_delivery == "at least once":
            while set(handled) != set(range(6)):
                handled += quick.take(1)
        else:
            bus.publish("last", f"{root}.work")
            handled += fence_of(quick, "last")
            assert len(set(handled)) == len(handled)


# ---- topics --------------------------------------------------------------------------------------


def test_several_topics(bus, root, basket):
    """Topics: one subscription may follow many, and is told which it was."""
    bus.subscribe(basket, f"{root}.a", f"{root}.b", with_topic=True)
    for topic in ("a", "c", "b"):
        bus.publish(topic, f"{root}.{topic}")
    assert sorted(basket.take(2)) == [("a", f"{root}.a"), ("b", f"{root}.b")]


@pytest.mark.parametrize(
    ("pattern", "matched"),
    [
        ("*.volts", {"1.volts", "2.volts"}),
        ("+.amps", {"1.amps"}),
        ("1.#", {"1", "1.volts", "1.amps", "1.amps.peak"}),
        ("1.*.peak", {"1.amps.peak"}),
        ("#", {"1", "1.volts", "2.volts", "1.amps", "1.amps.peak"}),
    ],
)
def test_wildcards(bus, root, basket, pattern, matched):
    """Topics: ``*`` and ``+`` are one word, a last ``#`` is any number of words."""
    bus.subscribe(basket, f"{root}.{pattern}", f"{root}.end", with_topic=True)
    for topic in ("1", "1.volts", "2.volts", "1.amps", "1.amps.peak"):
        bus.publish(topic, f"{root}.{topic}")
    found = []
    for _ in range(len(matched) + (pattern != "#")):
        if len(found) == len(matched):
            bus.publish("end", f"{root}.end")
        found += basket.take(1)
    assert {data for data, _ in found} - {"end"} == matched
    assert all(topic == f"{root}.{data}" for data, topic in found)


def test_overlapping_filters_bring_a_message_once(bus, root, basket):
    """Topics: a message that several filters of one subscription match comes once."""
    bus.subscribe(basket, f"{root}.*", f"{root}.#", f"{root}.a")
    for number in range(5):
        bus.publish(number, f"{root}.a")
    assert fence(bus, basket, f"{root}.a") == list(range(5))


def test_overlapping_filters_of_a_group_bring_a_message_once(bus, distributer, root, baskets):
    """Topics: the same among the members of a group."""
    together = baskets()
    for own in (bus, distributer()):
        own.subscribe(together, f"{root}.*", f"{root}.a", subscriber_group=f"{root}g")
    for number in range(10):
        bus.publish(number, f"{root}.a")
    assert sorted(together.take(10)) == list(range(10))
    bus.publish("last", f"{root}.b")
    assert together.take(1) == ["last"]
    assert together.left() == []


def test_a_topic_is_its_words(bus, root, baskets):
    """Topics: ``/`` and ``.`` spell the same, and each subscriber reads its own spelling."""
    slash, dot = baskets(), baskets()
    bus.subscribe(slash, f"{root}/a/+", with_topic=True)
    bus.subscribe(dot, f"{root}.a.*", with_topic=True)
    bus.publish(1, f"{root}.a.b")
    bus.publish(2, f"{root}/a/c")
    assert slash.take(2) == [(1, f"{root}/a/b"), (2, f"{root}/a/c")]
    assert dot.take(2) == [(1, f"{root}.a.b"), (2, f"{root}.a.c")]


WORDS = [
    "v1.2",
    "a b",
    "ü-Ω",
    "50%",
    "%41",
    "$SYS",
    ">",
    "x_y",
    "A",
    "a",
    "[ab]?",
    "\\",
    "'\"",
    "-",
]


def test_any_word_arrives_as_it_was_sent(bus, root, basket):
    """Topics: what a broker's names forbid is encoded, and comes back."""
    bus.subscribe(basket, f"{root}/#", with_topic=True)
    for word in WORDS:
        bus.publish(word, f"{root}/{word}/end")
    assert basket.take(len(WORDS)) == [(word, f"{root}/{word}/end") for word in WORDS]


def test_words_that_differ_are_different_topics(bus, root, basket):
    """Topics: no two words are mixed up by what a broker's names forbid; case counts."""
    bus.subscribe(basket, f"{root}/a b", f"{root}/end")
    for word in ("a%20b", "a_20b", "a+b".replace("+", "-"), "A b", "ab", "a b", "end"):
        bus.publish(word, f"{root}/{word}")
    assert basket.take(2) == ["a b", "end"]


# ---- payloads ------------------------------------------------------------------------------------

PAYLOADS = [
    None,
    False,
    0,
    0.0,
    "",
    [],
    {},
    -1.5e300,
    2**70,
    "ü€𝄞\u0000\u2028\ud800",
    {"": {"a": [1, [2, {"b": None}]]}},
    "x" * 100_000,
    list(range(5_000)),
]


def test_json_arrives_as_it_was_sent(bus, root, basket):
    """Payloads: falsy, unicode, nested and large data, in the publisher's order."""
    bus.subscribe(basket, f"{root}.a")
    for data in PAYLOADS:
        bus.publish(data, f"{root}.a")
    got = basket.take(len(PAYLOADS))
    assert got == PAYLOADS
    assert [type(data) for data in got] == [type(data) for data in PAYLOADS]


def test_too_large_is_told_before_sending(bus, root, basket):
    """Payloads: where the broker has a limit, one byte more is refused and nothing is broken."""
    limit = bus.capabilities.max_payload
    bus.subscribe(basket, f"{root}.a")
    if limit is None:
        bus.publish("x" * 3_000_000, f"{root}.a")
        assert len(basket.take(1)[0]) == 3_000_000
        return
    with pytest.raises(PayloadTooLargeError, match=rf"{limit + 1} bytes.* takes {limit}"):
        bus.publish("x" * (limit - 1), f"{root}.a")
    bus.publish("x" * (limit - 2), f"{root}.a")
    assert len(basket.take(1)[0]) == limit - 2


def test_order_of_a_publisher(bus, distributer, root, baskets):
    """Order: every subscriber without a group sees each publisher's messages as it sent them."""
    two = [baskets(), baskets()]
    for basket in two:
        distributer().subscribe(basket, f"{root}.#")
    publishers = [bus, distributer()]

    def publish(own, name):
        for number in range(50):
            own.publish([name, number], f"{root}.{number % 3}")

    threads = [
        threading.Thread(target=publish, args=(own, name)) for name, own in enumerate(publishers)
    ]
    for thread in threads:
        thread.start()
    for basket in two:
        found = basket.take(100)
        for name in range(2):
            own = [number for publisher, number in found if publisher == name]
            if bus.capabilities.order == "publisher":
                assert own == list(range(50))
            for topic in range(3):
                within = [number for number in own if number % 3 == topic]
                assert within == sorted(within)
    for thread in threads:
        thread.join(BOUND)


# ---- callbacks -----------------------------------------------------------------------------------


def test_a_callback_that_raises(distributer, root, baskets):
    """Callbacks: it is counted and handed to on_error, and the subscription lives on."""
    errors, good = baskets(), baskets()
    bus = distributer(on_error=lambda own, error: errors((own, error)))

    def callback(data):
        if data == "bad":
            raise KeyError(data)
        good(data)

    subscription = bus.subscribe(callback, f"{root}.a")
    for data in ("good", "bad", "good again"):
        bus.publish(data, f"{root}.a")
    assert good.take(2) == ["good", "good again"]
    ((own, error),) = errors.take(1)
    assert own is subscription
    assert isinstance(error, KeyError)
    assert (subscription.errors, subscription.received) == (1, 3)


def test_a_callback_that_blocks_holds_up_nobody_else(bus, root, basket):
    """Callbacks: each subscription has a thread of its own."""
    with Gate() as gate:
        bus.subscribe(lambda data: gate.park(), f"{root}.a")
        bus.subscribe(basket, f"{root}.a")
        bus.publish(1, f"{root}.a")
        gate.wait_parked()
        bus.publish(2, f"{root}.a")
        assert basket.take(2) == [1, 2]


def test_a_callback_may_publish_subscribe_and_cancel(bus, root, basket):
    """Callbacks: all of the bus may be used from inside."""
    subscriptions = []

    def callback(data):
        subscriptions.append(bus.subscribe(basket, f"{root}.b"))
        bus.publish(data + 1, f"{root}.b")
        subscriptions[0].cancel()

    subscriptions.append(bus.subscribe(callback, f"{root}.a"))
    bus.publish(1, f"{root}.a")
    assert basket.take(1) == [2]
    assert subscriptions[0].join(BOUND)


def test_what_is_no_json_is_told_and_skipped(distributer, root, baskets):
    """Callbacks: bytes from outside that cannot be read are reported; the subscription lives on."""
    errors, good = baskets(), baskets()
    bus = distributer(on_error=lambda own, error: errors(error))
    subscription = bus.subscribe(good, f"{root}.a")
    for payload in (b"", b"\xff{", b"NaN", b"[" * 100_000, b"{'a': 1}"):
        bus._driver().publish((root, "a"), payload)
    bus.publish("good", f"{root}.a")
    assert good.take(1) == ["good"]
    found = errors.take(5)
    assert all(isinstance(error, UndecodableMessageError) for error in found), found
    assert subscription.undecodable == 5
    assert subscription.received == 1


# ---- subscribing ---------------------------------------------------------------------------------


def test_a_subscription_is_live_when_it_is_returned(bus, distributer, root, basket):
    """Subscribing: what is published right after arrives, 200 times of 200."""
    publisher = distributer()
    for number in range(200):
        with bus.subscribe(basket, f"{root}.{number % 4}"):
            publisher.publish(number, f"{root}.{number % 4}")
            assert basket.take(1) == [number]


def test_cancel_while_messages_flow(bus, distributer, root, basket):
    """Subscribing: no callback begins after cancel has returned, and others are not disturbed."""
    going, publisher = threading.Event(), distributer()
    other = bus.subscribe(basket, f"{root}.a")
    called = []
    subscription = bus.subscribe(called.append, f"{root}.a")
    enough = threading.Event()

    def publish():
        number = 0
        while not enough.is_set():
            publisher.publish(number, f"{root}.a")
            number += 1
            if number == 20:
                going.set()

    thread = threading.Thread(target=publish)
    thread.start()
    assert going.wait(BOUND)
    assert subscription.cancel(BOUND)
    count = len(called)
    basket.take(30)
    enough.set()
    thread.join(BOUND)
    assert len(called) == count
    assert other.active
    assert not subscription.active


def test_ten_threads_publish_and_subscribe(bus, root, baskets):
    """Subscribing: one distributer serves many threads at once."""
    everything = baskets()
    bus.subscribe(everything, f"{root}.#")
    errors = []

    def work(number):
        try:
            own = baskets()
            with bus.subscribe(own, f"{root}.{number}"):
                for count in range(5):
                    bus.publish([number, count], f"{root}.{number}")
                assert own.take(5) == [[number, count] for count in range(5)]
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(3 * BOUND)
    assert errors == []
    assert len(everything.take(50)) == 50


def test_closing_ends_everything(distributer, root, basket):
    """Life: after close nothing is called, and connect() makes it usable again."""
    bus = distributer()
    subscription = bus.subscribe(basket, f"{root}.a")
    bus.close()
    assert not subscription.active
    assert subscription.join(BOUND)
    bus.connect()
    bus.subscribe(basket, f"{root}.a")
    bus.publish(1, f"{root}.a")
    assert basket.take(1) == [1]


FORK = """
import os, queue, sys, warnings
from ate_dispatcher.bus import Distributer
warnings.simplefilter("ignore")  # newer Pythons warn of forks beside threads
url, root = sys.argv[1:]
bus, taken = Distributer(url), queue.Queue()
before = bus.subscribe(taken.put, f"{root}.a")
bus.publish("before", f"{root}.a")
assert taken.get(timeout=30) == "before"
child = os.fork()
if not child:
    own = queue.Queue()
    assert not before.active
    bus.subscribe(own.put, f"{root}.b")
    bus.publish("child", f"{root}.b")
    assert own.get(timeout=30) == "child"
    bus.close()
    os._exit(3)
print(os.WEXITSTATUS(os.waitpid(child, 0)[1]))
assert before.active
bus.publish("after", f"{root}.a")
print(taken.get(timeout=30))
bus.close()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
def test_the_child_of_a_fork_has_a_connection_of_its_own(broker, root):
    """Life: it publishes, subscribes and closes; the parent's subscription goes on."""
    told = subprocess.run(
        [sys.executable, "-c", FORK, broker.url, root], capture_output=True, text=True, timeout=90
    )
    assert (told.returncode, told.stdout.split()) == (0, ["3", "after"]), told.stderr


def test_a_callback_may_close_the_bus(distributer, root, baskets):
    """Life: close from inside a callback neither hangs nor raises."""
    bus, closed = distributer(), baskets()

    def callback(data):
        bus.close()
        closed(data)

    subscription = bus.subscribe(callback, f"{root}.a")
    with contextlib.suppress(BusConnectionError):  # where closing comes before the confirmation
        bus.publish(1, f"{root}.a")
    assert closed.take(1) == [1]
    assert subscription.join(BOUND)


# ---- publish/subscribe ---------------------------------------------------------------------------


def test_pubsub_clients(bus, distributer, root, baskets):
    """PubSub: clients hear of channels and globs under the channel's own name."""
    pubsub, two = bus.pubsub(), [baskets(), baskets()]
    for basket in two:
        pubsub.add_client(basket)
    pubsub.subscribe(f"{root}.exact")
    pubsub.psubscribe(f"{root}.site[12]?*")
    other = distributer().pubsub()
    other.publish(f"{root}.exact", "hello")
    for basket in two:
        assert basket.take(1) == [(f"{root}.exact", "hello")]
    for channel in ("site1", "site3x", "site1x", "site2.y"):
        other.publish_event(f"{root}.{channel}", "begun", 0)
    for basket in two:
        assert basket.take(2) == [
            (name, {"event": "begun", "channel": name, "data": 0})
            for name in (f"{root}.site1x", f"{root}.site2.y")
        ]
    pubsub.close()


def test_counting_subscribers(bus, distributer, root, basket):
    """PubSub: a broker that knows its subscribers tells; one that does not is named."""
    pubsub = bus.pubsub()
    if not bus.capabilities.introspection:
        with pytest.raises(UnsupportedByDriverError, match="://"):
            pubsub.count(f"{root}.a")
        with pytest.raises(UnsupportedByDriverError, match="://"):
            pubsub.channels()
        return
    bus.subscribe(basket, f"{root}.a")
    with distributer().subscribe(basket, f"{root}.a", f"{root}.b"):
        bus.subscribe(basket, f"{root}.*")
        assert pubsub.count(f"{root}.a", f"{root}.b", f"{root}.c") == {
            f"{root}.a": 2,
            f"{root}.b": 1,
            f"{root}.c": 0,
        }
        assert pubsub.channels(f"{root}.*") == (f"{root}.a", f"{root}.b")
        assert set(pubsub.channels()) >= {f"{root}.a", f"{root}.b"}
    assert pubsub.channels(f"{root}.*") == (f"{root}.a",)


# ---- what cannot be ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "topic", ["a.*", "a.#", "+", "a..b", "/a", "a/", ".", "a\0b", "", "\ud800"]
)
def test_no_topic_to_publish_to(bus, topic):
    """Bad input: wildcards, empty words and half characters are refused before anything is sent."""
    with pytest.raises(InvalidArgumentError, match="topic"):
        bus.publish(1, topic)


@pytest.mark.parametrize("topic", ["a.#.b", "a.b*", "a..b", "/a", "", "a\0b"])
def test_no_topic_to_subscribe_to(bus, topic):
    """Bad input: what is no filter is refused."""
    with pytest.raises(InvalidArgumentError, match=r"topic|filter|wildcard|'#'"):
        bus.subscribe(print, topic)


@pytest.mark.brokers("mqtt", "nats", "redis", "amqp", "kafka")
@pytest.mark.parametrize("host", ["127.0.0.1:1", "no-such-host.invalid"])
def test_a_broker_that_is_not_there(broker, distributer, host):
    """Bad input: a clear error in bounded time, without the password in it."""
    scheme = broker.url.split("://")[0]
    url = f"{scheme}://someone:s3cret-word@{host}?timeout=2"
    with pytest.raises(BusConnectionError, match=host.split(":")[0]) as caught:
        distributer(url)
    assert "s3cret-word" not in str(caught.value)
    assert "s3cret-word" not in repr(caught.value.__cause__)


def test_what_is_retained(bus, root, basket):
    """Retained: the last one comes to those who subscribe later, or the error names the driver."""
    if not bus.capabilities.retained:
        with pytest.raises(UnsupportedByDriverError, match=f"{bus.url.split(':')[0]}://"):
            bus.publish(1, f"{root}.a", retain=True)
        return
    bus.publish("first", f"{root}.a", retain=True)
    bus.publish("last", f"{root}.a", retain=True)
    bus.publish("passing", f"{root}.a")
    bus.subscribe(basket, f"{root}.a")
    bus.publish("now", f"{root}.a")
    assert basket.take(2) == ["last", "now"]
