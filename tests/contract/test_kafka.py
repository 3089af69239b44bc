"""What is special of Kafka: partitions and order, groups, URLs, and a cluster that says nothing."""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
import time
from types import SimpleNamespace

import pytest
from brokers import Kafka, needed, until

from ate_dispatcher import (
    BusConnectionError,
    BusTimeoutError,
    BusURLError,
    InvalidArgumentError,
)
from ate_dispatcher.bus import BusURL, Distributer
from ate_dispatcher.testing import Gate

BOUND = 60.0

pytestmark = pytest.mark.brokers("kafka")

SECRET = "s3cret w:rd/%"
QUOTED = "s3cret%20w%3Ard%2F%25"


@pytest.fixture(scope="module")
def kafka():
    """The driver's module."""
    needed(Kafka)
    from ate_dispatcher.bus.drivers import kafka

    return kafka


@pytest.fixture
def private():
    """A cluster of its own, to be stopped."""
    needed(Kafka)
    with Kafka() as running:
        yield running
        running.thaw()


@pytest.fixture
def raw(broker):
    """A producer of its own, to publish as outsiders do."""
    from confluent_kafka import Producer

    client = Producer({"bootstrap.servers": broker.servers, "linger.ms": 0})
    yield client
    assert client.flush(BOUND) == 0


@contextlib.contextmanager
def in_background(*targets):
    """Run them on threads of their own, all ended on leaving; give what each has raised."""
    raised = [None] * len(targets)

    def run(number):
        try:
            targets[number]()
        except Exception as error:
            raised[number] = error

    threads = [threading.Thread(target=run, args=(n,), daemon=True) for n in range(len(targets))]
    for thread in threads:
        thread.start()
    try:
        yield raised
    finally:
        for thread in threads:
            thread.join(BOUND)
            assert not thread.is_alive()


# ---- URLs ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rest", "said"),
    [
        ("127.0.0.1/topic", "no path"),
        (":word@127.0.0.1", "without a user"),
        ("127.0.0.1?tls=perhaps", "yes or no"),
        ("127.0.0.1?tls=no&tls_verify=no", "contradicts"),
        ("127.0.0.1?fetch_wait=0", "fetch_wait"),
        ("127.0.0.1?session_timeout=long", "session_timeout"),
        ("127.0.0.1?sessiontimeout=3", "did you mean 'session_timeout'"),
        ("127.0.0.1?client_id=", "client_id"),
    ],
)
def test_urls_that_cannot_be(kafka, rest, said):
    """Bad input: told when the distributer is made."""
    with pytest.raises(BusURLError, match=said):
        Distributer(f"kafka://{rest}")


@pytest.mark.parametrize(
    ("url", "found"),
    [
        ("kafka://", {"bootstrap.servers": "127.0.0.1:9092", "security.protocol": "PLAINTEXT"}),
        ("kafka://a:1,[::1],b", {"bootstrap.servers": "a:1,[::1]:9092,b:9092"}),
        ("kafka://a?client_id=rack", {"client.id": "rack"}),
        (
            f"kafka://me%40us:{QUOTED}@a",
            {
                "security.protocol": "SASL_PLAINTEXT",
                "sasl.mechanism": "PLAIN",
                "sasl.username": "me@us",
                "sasl.password": SECRET,
            },
        ),
        (f"kafka://me:{QUOTED}@a?tls=yes", {"security.protocol": "SASL_SSL"}),
        ("kafka://a?tls=yes", {"security.protocol": "SSL"}),
        (
            "kafka://a?tls_ca=/ca&tls_cert=/cert&tls_key=/key",
            {
                "security.protocol": "SSL",
                "ssl.ca.location": "/ca",
                "ssl.certificate.location": "/cert",
                "ssl.key.location": "/key",
            },
        ),
        (
            "kafka://a?tls_verify=no",
            {"security.protocol": "SSL", "enable.ssl.certificate.verification": False},
        ),
        ("kafka://a?tls_verify=yes", {"security.protocol": "SSL"}),
    ],
)
def test_what_the_client_library_is_told(kafka, url, found):
    """URLs: hosts, user, password and TLS reach librdkafka, and nothing that was not asked for."""
    told = kafka.KafkaDriver(BusURL(url)).configuration()
    assert {name: told.get(name) for name in found} == found
    secured = {name for name in told if name.startswith(("ssl.", "enable.ssl"))}
    assert secured <= set(found)
    assert ("sasl.password" in told) == ("@" in url)


@pytest.mark.parametrize("tls", [False, True])
def test_a_cluster_that_knows_neither_passwords_nor_tls(broker, caplog, tls):
    """URLs: a clear error in bounded time; the password is in no error, log or repr."""
    caplog.set_level(logging.DEBUG)
    url = f"kafka://me:{QUOTED}@{broker.servers}?timeout=1{'&tls=yes' if tls else ''}"
    begun = time.monotonic()
    bus = Distributer(url)
    with pytest.raises(BusConnectionError, match="SSL" if tls else "SASL") as caught:
        bus.connect()
    assert time.monotonic() - begun < 9
    assert "127.0.0.1" in str(caught.value)
    said = [repr(bus), bus.url, caplog.text, str(caught.value), repr(caught.value)]
    said += [repr(error) for error in (caught.value.__cause__, caught.value.__context__)]
    assert "me:***" in " ".join(said)
    assert not any(form in part for form in (SECRET, QUOTED) for part in said)


def test_files_that_are_none(kafka, tmp_path):
    """URLs: a certificate that cannot be read is a mistake of the URL."""
    (tmp_path / "empty.pem").write_text("")
    with pytest.raises(BusURLError, match=r"empty\.pem"):
        Distributer(f"kafka://127.0.0.1:1?tls_ca={tmp_path}/empty.pem").connect()


def test_one_of_several_hosts(broker, distributer, root, basket):
    """URLs: one of the hosts is enough."""
    bus = distributer(f"kafka://127.0.0.1:1,{broker.servers}?fetch_wait=0.01")
    bus.subscribe(basket, root)
    bus.publish(1, root)
    assert basket.take(1) == [1]


# ---- topics and payloads -------------------------------------------------------------------------


def test_names_at_the_cluster(bus, raw, root, basket):
    """Topics: what Kafka's names forbid is escaped, so that the same words come back."""
    words = [root, "a b", "ü", "_", "x_41", "..", "A-1"]
    bus.subscribe(basket, f"{root}/#", with_topic=True)
    bus.publish(1, "/".join(words))
    assert basket.take(1) == [(1, "/".join(words))]
    names = [name for name in raw.list_topics(timeout=BOUND).topics if name.startswith(root)]
    assert names == [f"{root}.a_20b._C3_BC._5F.x_5F41._2E_2E.A-1"]


def test_names_that_are_too_long(bus, basket, root):
    """Bad input: Kafka's limit counts what is escaped, and is told before anything is sent."""
    for longest in (root + "x" * (249 - len(root)), root + " " * ((249 - len(root)) // 3)):
        bus.subscribe(basket, longest)
        bus.publish(1, longest)
        assert basket.take(1) == [1]
        for call in (
            lambda name=longest: bus.publish(1, f"{name}   "),
            lambda name=longest: bus.subscribe(basket, f"{name}   "),
        ):
            with pytest.raises(InvalidArgumentError, match="249 characters"):
                call()


def test_the_largest_message_with_the_longest_history(bus, raw, root, basket):
    """Payloads: what a message comes after does not make it too large for a server's default."""
    topics = [root + f"{number:02}" * ((249 - len(root)) // 2) for number in range(20)]
    for topic in topics:
        bus.publish(0, topic)
    bus.subscribe(basket, root)
    bus.publish("x" * 999_998, root)
    assert len(basket.take(1)[0]) == 999_998
    headers = sum(len(place) for place in bus._driver()._publisher.last.values())
    assert 1_000_000 + headers < 1_048_588 - 10_000  # message.max.bytes


def test_messages_from_outside(bus, raw, root, basket):
    """Topics: whoever speaks Kafka may publish; with a key, without, and with strange headers."""
    bus.subscribe(basket, root)
    strange = [
        None,
        {"other": b"x"},
        {"ate-after": None},
        {"ate-after": b"\xff;;:::"},
        {"ate-after": b"a:b:c"},
        {"ate-after": f"{root}:0:{'9' * 5000}".encode()},
        [("ate-after", b"x"), ("ate-after", b"elsewhere:0:7")],
    ]
    for number, headers in enumerate(strange):
        raw.produce(root, str(number), key="k", headers=headers)
    assert basket.take(len(strange)) == list(range(len(strange)))


# ---- order ---------------------------------------------------------------------------------------


def test_what_comes_after_something_deleted(broker, distributer, raw, root, basket, caplog):
    """Order: a message is handed on, with a warning, if what it comes after does not come."""
    bus = distributer(f"{broker.url}{'&' if '?' in broker.url else '?'}timeout=1")
    bus.subscribe(basket, root)
    raw.produce(root, "1", key="k", partition=0, headers={"ate-after": f"{root}:0:999".encode()})
    raw.produce(root, "2", key="k", partition=0)
    assert basket.take(2) == [1, 2]
    assert any("without those before them" in record.message for record in caplog.records)


def test_order_over_partitions_and_new_topics(bus, distributer, root, baskets):
    """Order: a thread's messages keep it, over partitions and topics that are not known yet."""
    wild, exact = baskets(), baskets()
    distributer().subscribe(wild, f"{root}.#")
    distributer().subscribe(exact, f"{root}.0", f"{root}.1")
    bus.publish("begin", f"{root}.0")
    assert wild.take(1) == exact.take(1) == ["begin"]  # so that some topics are known

    def publisher(name):
        def publish():
            for number in range(100):
                bus.publish([name, number], f"{root}.{number % 3 if number < 50 else number % 5}")

        return publish

    with in_background(publisher(0), publisher(1)) as raised:
        pass
    assert raised == [None, None]
    found = wild.take(200)
    for name in range(2):
        assert [number for own, number in found if own == name] == list(range(100))
    wanted = [n for n in range(100) if (n % 3 if n < 50 else n % 5) < 2]
    found = exact.take(2 * len(wanted))
    for name in range(2):
        assert [number for own, number in found if own == name] == wanted


def test_a_publisher_s_messages_are_spread(bus, root):
    """Order: they are over several partitions, so that a group can share one publisher's work."""
    places = set()
    for number in range(40):
        bus.publish(number, root)
        (last,) = bus._driver()._publisher.last.values()
        places.add(int(last.split(":")[1]))
    assert len(places) > 1


def test_nothing_is_missed_from_the_return_of_subscribe(bus, distributer, root, baskets):
    """Subscribing: while messages flow, all that follow come, from a topic's first one on."""
    publisher, enough, latest = distributer(), threading.Event(), [0]

    def publish():
        while not enough.is_set():
            publisher.publish(latest[0] + 1, f"{root}.a")
            latest[0] += 1

    with in_background(publish):
        try:
            until(lambda: latest[0] > 20)
            for topics in ((f"{root}.a",), (f"{root}.#",)):
                basket = baskets()
                with bus.subscribe(basket, *topics):
                    begin = latest[0] + 2  # its publishing begins later
                    found = basket.take(1)
                    while found[-1] < begin + 100:
                        found += basket.take(1)
                    assert [n for n in found if n >= begin] == list(range(begin, begin + 101))
        finally:
            enough.set()
    basket = baskets()
    bus.subscribe(basket, f"{root}.#")
    publisher.publish("first", f"{root}.new")
    assert basket.take(1) == ["first"]


# ---- groups --------------------------------------------------------------------------------------


def test_members_come_and_go_while_messages_flow(distributer, root, basket):
    """Groups: nothing is lost, and a member that leaves does so soon."""
    publisher, enough, published = distributer(), threading.Event(), []
    group = {"subscriber_group": f"{root}g"}

    def publish():
        while not enough.is_set():
            publisher.publish(len(published), root)
            published.append(len(published))
            enough.wait(0.002)

    first = distributer().subscribe(basket, root, **group)
    with in_background(publish) as raised:
        try:
            for _ in range(2):
                second = distributer().subscribe(basket, root, **group)
                basket.take(20)
                begun = time.monotonic()
                assert first.cancel(BOUND)
                assert time.monotonic() - begun < 5
                first = second
            basket.take(20)
        finally:
            enough.set()
    assert raised == [None]
    while set(basket.taken) != set(published):
        basket.take(1)


def test_a_group_begins_where_the_topic_ends(bus, root, basket):
    """Groups: a new one is not given what was published before it."""
    for number in range(8):
        bus.publish(number, root)
    bus.subscribe(basket, root, subscriber_group=f"{root}g")
    bus.publish("new", root)
    assert basket.take(1) == ["new"]
    assert basket.left() == []


def test_groups_that_look_alike(distributer, root, baskets):
    """Groups: names and filters are not mixed up, whatever characters they have."""
    cases = [("a b", f"{root}"), ("a", f"{root}"), ("a", f"{root}.#"), ("\ud800\n", f"{root}")]
    found = [baskets() for _ in cases]
    joins = [
        lambda basket=basket, case=case: distributer().subscribe(
            basket, case[1], subscriber_group=f"{case[0]}{root}"
        )
        for basket, case in zip(found, cases)
    ]
    publisher = distributer()
    publisher.publish("before", root)
    with in_background(*joins) as raised:
        pass
    assert raised == [None] * len(cases)
    for number in range(5):
        publisher.publish(number, root)
    for basket in found:
        assert sorted(basket.take(5)) == list(range(5))


def test_leaving_with_messages_not_handled(distributer, root, basket):
    """Groups: a member that has more in hand than it handles leaves at once when it is told to."""
    bus = distributer()
    with Gate() as gate:

        def stuck(data):
            basket(data)
            gate.park()

        subscription = bus.subscribe(stuck, root, subscriber_group=f"{root}g")
        (reader,) = bus._driver().readers
        bus.publish(1, root)
        basket.take(1)
        gate.wait_parked()
        begun = time.monotonic()
        reader.end()  # as close() does while a callback takes longer than it waits
        reader.join()
        assert time.monotonic() - begun < 15
        gate.open()
        subscription.cancel(BOUND)


# ---- many publishers -----------------------------------------------------------------------------


def test_whoever_waits_serves_all(kafka):
    """Publishing: one thread serves everybody's callbacks, and hands that on when it is done."""
    driver = kafka.KafkaDriver(BusURL("kafka://127.0.0.1:1?timeout=15"))
    serving, reports, lock = [], [], threading.Lock()
    everybody = threading.Event()
    message = SimpleNamespace(partition=lambda: 0, offset=lambda: 0)

    class OneAtATime:
        """Confirms the server's own message first, so that the others still wait."""

        def produce(self, topic, payload, headers, on_delivery):
            with lock:
                reports.append((threading.current_thread(), on_delivery))
                if len(reports) == 5:
                    everybody.set()

        def poll(self, timeout):
            assert everybody.wait(BOUND)
            me = threading.current_thread()
            serving.append(me)
            (own,) = [report for thread, report in reports if thread is me]
            own(None, message)

    driver.producer = OneAtATime()
    with in_background(*[lambda: driver.publish(("a",), b"1")] * 5) as raised:
        pass
    assert raised == [None] * 5
    assert len(set(serving)) == len(serving) == 5
    assert not driver._waiting


def test_one_that_gives_up_does_not_keep_the_others(kafka):
    """Publishing: a server whose own message is never confirmed leaves, and another goes on."""
    driver = kafka.KafkaDriver(BusURL("kafka://127.0.0.1:1?timeout=15"))
    reports, served = [], threading.Event()
    message = SimpleNamespace(partition=lambda: 0, offset=lambda: 0)

    class Interrupted:
        def produce(self, topic, payload, headers, on_delivery):
            reports.append(on_delivery)

        def poll(self, timeout):
            if not served.is_set():
                until(lambda: len(driver._waiting) == 2)
                served.set()
                raise KeyboardInterrupt
            reports[-1](None, message)
            reports[0](None, message)

    driver.producer = Interrupted()

    def interrupted():
        with contextlib.suppress(KeyboardInterrupt):
            driver.publish(("a",), b"1")

    with in_background(interrupted, interrupted) as raised:
        pass
    assert raised == [None, None]
    assert not driver._waiting


def test_ten_threads_at_once(bus, root, basket):
    """Publishing: each thread's messages keep their order, and none waits for its timeout."""
    bus.subscribe(basket, root)
    begun = time.monotonic()
    with in_background(
        *[lambda n=n: [bus.publish([n, m], root) for m in range(100)] for n in range(10)]
    ) as raised:
        pass
    assert raised == [None] * 10
    found = basket.take(1000)
    for name in range(10):
        assert [number for own, number in found if own == name] == list(range(100))
    assert time.monotonic() - begun < 9.5


# ---- a cluster that says nothing -----------------------------------------------------------------


def test_a_cluster_that_hangs(private, basket):
    """Outages: publishing is given up within the timeout, and goes on when the cluster does."""
    with Distributer(f"{private.url}&timeout=1") as bus:
        bus.subscribe(basket, "a")
        bus.publish(1, "a")
        assert basket.take(1) == [1]
        private.freeze()
        begun = time.monotonic()
        with pytest.raises(BusTimeoutError, match="may yet have arrived"):
            bus.publish(2, "a")
        assert time.monotonic() - begun < 9
        private.thaw()
        bus.publish(3, "a")
        while basket.take(1) != [3]:
            pass
        assert set(basket.taken) <= {1, 2, 3}


def test_a_loss_is_told(private, basket):
    """Outages: a subscriber is told that no message can come, and when they come again."""
    told = queue.Queue()
    with Distributer(f"{private.url}&timeout=1") as bus:
        subscription = bus.subscribe(basket, "a", on_connection=told.put)
        private.freeze()
        assert told.get(timeout=BOUND) is False
        assert not subscription.connected
        private.thaw()
        assert told.get(timeout=BOUND) is True
        assert subscription.connected


def test_a_refusal_while_reading_is_told(kafka):
    """Errors: an authorization that is withdrawn is reported, once until messages come again."""
    from confluent_kafka import KafkaError

    class Message:
        def __init__(self, code):
            self._error = KafkaError(code) if code else None

        def error(self):
            return self._error

    class Scripted:
        def __init__(self, *codes):
            self._codes = list(codes)

        def poll(self, timeout):
            return Message(self._codes.pop(0))

    class Reports(list):
        report = list.append

    refused, passing = KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError._TRANSPORT
    reports = Reports()
    driver = kafka.KafkaDriver(BusURL("kafka://127.0.0.1"))
    reader = kafka._Reader(driver, (), "", reports)
    consumer = Scripted(refused, refused, passing, 0, refused)
    taken = [reader.take(consumer) for _ in range(5)]
    assert [one is not None for one in taken] == [False, False, False, True, False]
    assert [type(error) for error in reports] == [BusConnectionError] * 2
    assert "uthorization" in str(reports[0])


def test_closing_wakes_everybody_who_waits(private, basket):
    """Life: publishes that wait for a confirmation, and a member that waits for its group."""
    bus = Distributer(f"{private.url}&timeout=20")
    bus.subscribe(basket, "a")
    bus.publish(1, "a")
    driver = bus._driver()
    private.freeze()
    with in_background(*[lambda: bus.publish(2, "a")] * 4) as raised:
        until(lambda: len(driver._waiting) == 4)
        begun = time.monotonic()
        bus.close()
    assert time.monotonic() - begun < 15
    for error in raised:
        assert isinstance(error, BusConnectionError), error
        assert not isinstance(error, BusTimeoutError)
        assert "closed" in str(error)
    private.thaw()


def test_closing_while_somebody_subscribes(private, basket):
    """Life: who waits for its group to form is told that the bus was closed."""
    bus = Distributer(f"{private.url}&timeout=2")
    bus.publish(1, "a")
    driver = bus._driver()
    driver._make = lambda topic: private.freeze()
    with in_background(lambda: bus.subscribe(basket, "a", subscriber_group="g")) as raised:
        until(lambda: driver.readers)
        begun = time.monotonic()
        bus.close()
        assert time.monotonic() - begun < 15
        private.thaw()
    assert isinstance(raised[0], BusConnectionError), raised
    assert "closed" in str(raised[0])
    assert not driver.readers


def test_a_closed_driver_takes_nothing(distributer, basket, root):
    """Life: what comes too late is refused, and nothing is begun."""
    bus = distributer()
    driver = bus._driver()
    bus.close()
    driver.producer = None
    with pytest.raises(BusConnectionError, match="closed"):
        driver.publish((root,), b"1")
    with pytest.raises(BusConnectionError, match="closed"):
        driver.subscribe((), "", basket)
    assert not driver.readers


def test_idle_costs_next_to_nothing(distributer, root, basket):
    """Life: who waits for messages uses no processor."""
    bus = distributer()
    bus.subscribe(basket, f"{root}.#")
    bus.subscribe(basket, root, subscriber_group=f"{root}g")
    begun = time.process_time()
    threading.Event().wait(1.0)  # what is to be seen is that nothing is done
    assert time.process_time() - begun < 0.5
