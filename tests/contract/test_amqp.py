"""What is special of RabbitMQ: virtual hosts, queues that stay, TLS, alarms, and who waits."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import threading
import time

import pytest
from brokers import Proxy, RabbitMQ, free_port, needed, until

from ate_dispatcher import (
    BusConnectionError,
    BusTimeoutError,
    BusURLError,
    InvalidArgumentError,
)
from ate_dispatcher.bus import Distributer
from ate_dispatcher.testing import Gate

BOUND = 60.0

pytestmark = pytest.mark.brokers("amqp")


class SecureRabbitMQ(RabbitMQ):
    """With TLS, on a port beside the other."""

    def __init__(self):
        super().__init__()
        self.tls_port = free_port()

    @property
    def settings(self):
        subprocess.run(
            [
                *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
                *("-keyout", "key.pem", "-out", "cert.pem", "-subj", "/CN=bench"),
                *("-addext", "subjectAltName=IP:127.0.0.1"),
            ],
            cwd=self.folder,
            check=True,
            capture_output=True,
        )
        return (
            f"listeners.ssl.1 = 127.0.0.1:{self.tls_port}\n"
            f"ssl_options.certfile = {self.folder}/cert.pem\n"
            f"ssl_options.keyfile = {self.folder}/key.pem\n"
        )


@pytest.fixture
def control(broker):
    """Give orders to the server, as its operator does."""

    def order(*words):
        done = subprocess.run(
            [broker.find("rabbitmqctl"), "--quiet", *words],
            env={**os.environ, **broker.environment()},
            check=True,
            capture_output=True,
            text=True,
            timeout=BOUND,
        )
        return done.stdout.splitlines()

    return order


@pytest.fixture
def raw(broker):
    """A channel of its own, to look at the server from outside."""
    import pika

    with contextlib.closing(pika.BlockingConnection(pika.URLParameters(broker.url))) as connection:
        yield connection.channel()


@contextlib.contextmanager
def frozen(broker):
    """The server is there and says nothing."""
    broker.freeze()
    try:
        yield
    finally:
        broker.thaw()


@contextlib.contextmanager
def alarmed(control):
    """The server takes no more messages: it is short of memory."""
    control("set_vm_memory_high_watermark", "0.0000001")
    try:
        yield
    finally:
        control("set_vm_memory_high_watermark", "0.8")


class Holding(Proxy):
    """Keeps back what the broker says from when `held` is cleared; counts what is published."""

    def __init__(self, port):
        self.held = threading.Event()
        self.held.set()
        self.seen = b""
        super().__init__(port)

    def _relay(self, source, sink):
        with contextlib.suppress(OSError):
            from_broker = source.getpeername()[1] == self._target
            while True:
                data = source.recv(65536)
                if not data:
                    break
                if from_broker:
                    self.held.wait(BOUND)
                else:
                    self.seen += data
                sink.sendall(data)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def within(bound):
    """What is inside ends soon enough."""
    began = time.monotonic()
    yield
    assert time.monotonic() - began < bound


class Attempt(threading.Thread):
    """Calls something on a thread of its own, and keeps what becomes of it."""

    def __init__(self, function, *arguments):
        super().__init__(daemon=True)
        self._call = (function, arguments)
        self.error = None
        self.start()

    def run(self):
        function, arguments = self._call
        try:
            function(*arguments)
        except BaseException as error:
            self.error = error

    def ended(self, timeout=BOUND):
        """Wait for its end; give what it raised."""
        self.join(timeout)
        assert not self.is_alive(), "it still waits"
        return self.error


# ---- URLs ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("amqp://127.0.0.1?heartbeat=soon", "heartbeat"),
        ("amqp://127.0.0.1?queue_expires=0", "queue_expires"),
        ("amqp://127.0.0.1?exchange=", "exchange"),
        ("amqp://127.0.0.1?heart_beat=3", "did you mean 'heartbeat'"),
        ("amqp://127.0.0.1?tls_verify=no", "needs amqps://"),
        ("rabbitmq://127.0.0.1?tls_ca=x.pem", "needs amqps://"),
        ("amqp://127.0.0.1,127.0.0.2", "names one host"),
    ],
)
def test_urls_that_cannot_be(broker, url, said):
    """Bad input: told when the distributer is made."""
    with pytest.raises(BusURLError, match=said):
        Distributer(url)


def test_the_path_is_the_virtual_host(broker, distributer, control, root, basket):
    """URL: what is published in one virtual host stays there; a ``/`` in its name is quoted."""
    control("add_vhost", f"{root}/two")
    try:
        control("set_permissions", "-p", f"{root}/two", "guest", ".*", ".*", ".*")
        two = distributer(f"{broker.url}/{root}%2Ftwo")
        two.subscribe(basket, "a")
        distributer(f"{broker.url}/%2F").publish(1, "a")
        two.publish(2, "a")
        assert basket.take(1) == [2]
    finally:
        control("delete_vhost", f"{root}/two")


def test_each_exchange_is_a_bus_of_its_own(broker, distributer, root, basket, raw):
    """URL: ``exchange`` keeps what is published on one apart from the other."""
    distributer(f"{broker.url}?exchange={root}").subscribe(basket, "a")
    distributer(broker.url).publish(1, "a")
    distributer(f"{broker.url}?exchange={root}").publish(2, "a")
    assert basket.take(1) == [2]
    raw.exchange_delete(root)


def test_an_exchange_of_another_kind(broker, root, raw):
    """Bad input: refused with what the broker says, at once."""
    raw.exchange_declare(root, "fanout")
    with within(9.0), pytest.raises(BusConnectionError, match="inequivalent arg 'type'"):
        Distributer(f"{broker.url}?exchange={root}").connect()
    raw.exchange_delete(root)


@pytest.mark.parametrize("scheme", ["amqp", "amqps"])
def test_a_host_that_says_nothing(broker, scheme):
    """Bad input: connecting ends with the timeout, where something else listens."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        with within(9.0), pytest.raises(BusConnectionError, match=r"127\.0\.0\.1"):
            Distributer(f"{scheme}://127.0.0.1:{port}?timeout=0.5").connect()


# ---- names ---------------------------------------------------------------------------------------


def test_the_longest_topic(bus, root, basket):
    """Topics: 255 bytes go through; what is longer is refused before anything is sent."""
    longest = f"{root}." + "ü" * ((254 - len(root)) // 2)
    longest += "x" * (255 - len(longest.encode()))
    bus.subscribe(basket, longest, f"{root}.*")
    bus.publish(1, longest)
    assert basket.take(1) == [1]
    with pytest.raises(InvalidArgumentError, match="255 bytes"):
        bus.publish(2, f"{longest}x")
    with pytest.raises(InvalidArgumentError, match="255 bytes"):
        bus.subscribe(basket, f"{longest}x")


@pytest.mark.parametrize("group", ["g" * 300, "ü" * 200, "a.b/c *#%", "\ud800\n"])
def test_any_name_of_a_group(bus, distributer, root, basket, group):
    """Groups: a name is whatever a string can be, and its members share the work."""
    topics = (f"{root}.{'x' * 200}", f"{root}.a")
    for own in (bus, distributer()):
        own.subscribe(basket, *topics, subscriber_group=group)
    for number in range(10):
        bus.publish(number, topics[number % 2])
    assert sorted(basket.take(10)) == list(range(10))
    bus.publish("last", topics[0])
    assert basket.take(1) == ["last"]
    assert basket.left() == []


def test_groups_that_look_alike(distributer, root, baskets):
    """Groups: names and filters are not mixed up where their parts, put together, are the same."""
    cases = [(f"{root}", "b.c/d"), (f"{root}.b", "c/d"), (root, "b/c/d"), (f"{root}.b.c", "d")]
    found = [baskets() for _ in cases]
    bus = distributer()
    for basket, (group, topic) in zip(found, cases):
        bus.subscribe(basket, topic, subscriber_group=group)
    for topic in sorted({topic for _, topic in cases}):
        bus.publish(topic, topic)
    for basket, (_, topic) in zip(found, cases):
        assert basket.take(1) == [topic]
    assert not any(basket.left() for basket in found)


def test_a_routing_key_that_is_no_text(bus, root, basket, raw):
    """Topics: what another program publishes there does not end a subscription."""
    bus.subscribe(basket, f"{root}.#")
    raw.basic_publish("ate.bus", root.encode() + b".\xff\xfe", b"1")
    bus.publish(2, f"{root}.a")
    assert sorted(basket.take(2)) == [1, 2]  # two publishers have no common order


# ---- groups --------------------------------------------------------------------------------------


def test_queue_expires(broker, distributer, control, root):
    """Groups: a queue stays for ever, or for so long after its last member as the URL says."""

    def queues():
        return {name for name in control("list_queues", "name") if root in name}

    expiring, lasting = f"ate.{root}.{root}.a", f"ate.{root}.{root}.b"
    bus = distributer(f"{broker.url}?queue_expires=0.3")
    distributer().subscribe(print, f"{root}.b", subscriber_group=root).cancel()
    with bus.subscribe(print, f"{root}.a", subscriber_group=root):
        threading.Event().wait(0.6)  # it is in use
        assert queues() == {expiring, lasting}
    until(lambda: queues() == {lasting})


def test_members_that_disagree(broker, distributer, root, basket):
    """Groups: a queue that was made otherwise is refused at once, and nothing else is broken."""
    bus = distributer(f"{broker.url}?queue_expires=60")
    distributer().subscribe(basket, f"{root}.a", subscriber_group=root)
    with within(9.0), pytest.raises(BusConnectionError, match="x-expires"):
        bus.subscribe(print, f"{root}.a", subscriber_group=root)
    bus.subscribe(basket, f"{root}.b")
    bus.publish(1, f"{root}.b")
    assert basket.take(1) == [1]


def recovered(broker, queue, count):
    """Tell whether a queue is up with its backlog; before, what comes is confirmed and lost."""
    import pika

    try:
        with pika.BlockingConnection(pika.URLParameters(broker.url)) as connection:
            found = connection.channel().queue_declare(queue, passive=True)
    except pika.exceptions.AMQPError:
        return False
    return found.method.message_count == count


def test_a_backlog_outlives_the_broker(broker, basket):
    """Groups: what was confirmed while nobody was there comes after the server was killed."""
    with RabbitMQ() as private:
        with Distributer(private.url) as bus:
            bus.subscribe(print, "work", subscriber_group="g").cancel()
            for number in range(5):
                bus.publish(number, "work")
            private.restart()
            until(lambda: recovered(private, "ate.g.work", 5))
            bus.publish(5, "work")
        with Distributer(private.url) as bus:
            bus.subscribe(basket, "work", subscriber_group="g")
            assert basket.take(6) == list(range(6))


def test_each_subscription_has_its_own_prefetch(bus, root, baskets):
    """Groups: on one connection, a member that stands still has one message and holds up nobody."""
    slow, quick, other = baskets(), baskets(), baskets()
    with Gate() as gate:

        def stuck(data):
            slow(data)
            gate.park()

        bus.subscribe(stuck, f"{root}.a", subscriber_group=root)
        bus.publish(0, f"{root}.a")
        assert slow.take(1) == [0]
        bus.subscribe(quick, f"{root}.a", subscriber_group=root)
        bus.subscribe(other, f"{root}.b", subscriber_group=root)
        for number in range(1, 10):
            bus.publish(number, f"{root}.a")
            bus.publish(number, f"{root}.b")
        assert quick.take(9) == list(range(1, 10))
        assert other.take(9) == list(range(1, 10))
    assert slow.left() == []


def test_acknowledged_after_the_callback(bus, root, basket):
    """Groups: what a member had begun when it went away is given to the next."""
    with Gate() as gate:
        bus.subscribe(lambda data: gate.park(), f"{root}.a", subscriber_group=root)
        bus.publish(1, f"{root}.a")
        gate.wait_parked()
        bus.close(timeout=0)
    bus.connect()
    bus.subscribe(basket, f"{root}.a", subscriber_group=root)
    assert basket.take(1) == [1]


def test_a_queue_that_is_deleted(distributer, root, raw, baskets):
    """Groups: the subscriber is told, and the queue made again."""
    told, came = baskets(), baskets()
    bus = distributer(on_error=lambda own, error: told(error))
    bus.subscribe(came, f"{root}.a", subscriber_group=root)
    raw.queue_delete(f"ate.{root}.{root}.a")
    (error,) = told.take(1)
    assert isinstance(error, BusConnectionError)
    assert "deleted" in str(error)

    def heard():
        bus.publish(1, f"{root}.a")
        return came.left()

    until(heard)
    assert told.left() == []


# ---- TLS -----------------------------------------------------------------------------------------


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl on the PATH")
def test_tls(broker, basket):
    """TLS: with the authority named it works; without, or with another, it is refused."""
    needed(SecureRabbitMQ)
    with SecureRabbitMQ() as secure:
        where = f"guest:guest@127.0.0.1:{secure.tls_port}"
        for options in (f"tls_ca={secure.folder}/cert.pem", "tls_verify=no"):
            with Distributer(f"amqps://{where}?{options}") as bus:
                bus.subscribe(basket, "a")
                bus.subscribe(basket, "a", subscriber_group="g")
                bus.publish("x" * 1_000_000, "a")
                assert [len(data) for data in basket.take(2)] == [1_000_000] * 2
        with within(9.0), pytest.raises(BusConnectionError, match="certificate verify failed"):
            Distributer(f"amqps://{where}?timeout=3").connect()
        with within(9.0), pytest.raises(BusConnectionError, match=r"127\.0\.0\.1"):
            Distributer(f"amqp://{where}?timeout=3").connect()
        plain = f"guest:guest@127.0.0.1:{secure.port}"
        with within(9.0), pytest.raises(BusConnectionError, match=r"127\.0\.0\.1"):
            Distributer(f"amqps://{plain}?timeout=3&tls_verify=no").connect()


# ---- publishing ----------------------------------------------------------------------------------


def test_confirms_are_in_flight_together(broker, distributer, root, basket):
    """Publishing: no thread waits for another's confirm, and each is told of its own."""
    with Holding(broker.port) as proxy:
        distributer().subscribe(basket, f"{root}.a")
        url = broker.url.replace(f":{broker.port}", f":{proxy.port}")
        bus = distributer(url)
        proxy.held.clear()
        publishers = [Attempt(bus.publish, f"no{n:02}", f"{root}.a") for n in range(20)]
        until(lambda: proxy.seen.count(b'"no') == 20)
        assert sorted(basket.take(20)) == [f"no{n:02}" for n in range(20)]
        assert all(own.is_alive() for own in publishers)
        proxy.held.set()
        assert [own.ended() for own in publishers] == [None] * 20


def test_many_publishers(bus, root, basket):
    """Publishing: many threads at once; nothing is lost, and each one's order is kept."""
    bus.subscribe(basket, f"{root}.*")

    def publish(number):
        for count in range(50):
            bus.publish([number, count], f"{root}.{number % 3}")

    publishers = [Attempt(publish, number) for number in range(16)]
    assert [own.ended() for own in publishers] == [None] * 16
    found = basket.take(16 * 50)
    for number in range(16):
        assert [count for own, count in found if own == number] == list(range(50))


def test_an_exchange_that_is_deleted(broker, distributer, root, raw, basket):
    """Publishing: told to who publishes just then, and the exchange is made again."""
    bus = distributer(f"{broker.url}?exchange={root}")
    raw.exchange_delete(root)
    with pytest.raises(BusConnectionError, match="no exchange"):
        bus.publish(1, "a")
    bus.publish(2, "a")
    bus.subscribe(basket, "a")
    bus.publish(3, "a")
    assert basket.take(1) == [3]
    raw.exchange_delete(root)


def test_publishing_while_blocked(broker, distributer, control, root, basket):
    """Alarms: publishers wait, are told why it took too long, and go on when it is over."""
    distributer().subscribe(basket, f"{root}.a")
    bus, patient = distributer(f"{broker.url}?timeout=1"), distributer(f"{broker.url}?timeout=50")
    with alarmed(control):
        # The broker says so to who publishes; whether that message counts is not known.
        for own in (bus, patient):
            Attempt(own.publish, "first", f"{root}.a")
            until(lambda own=own: "blocked" in own._driver()._publisher.why)
        for number in range(2):
            with within(9.0), pytest.raises(BusTimeoutError, match=r"blocked by .*\b1 s"):
                bus.publish(number, f"{root}.a")
        waiting = Attempt(patient.publish, "waited", f"{root}.a")
        closing = distributer()
        closing_too = [Attempt(closing.publish, "?", f"{root}.a") for _ in range(2)]
        until(lambda: closing._driver()._publisher.why)
        with within(9.0):
            closing.close()
        assert all(isinstance(own.ended(), BusConnectionError) for own in closing_too)
        assert waiting.is_alive()
    assert waiting.ended() is None
    bus.publish("last", f"{root}.a")
    found = basket.take(1)
    while found[-1] != "last":
        found += basket.take(1)
    assert "waited" in found
    assert not {0, 1} & set(found)


# ---- outages -------------------------------------------------------------------------------------


def test_what_was_given_up_is_not_sent_later(broker, distributer, root, basket):
    """Outages: a publish that raised while there was no connection is not made up for."""
    distributer().subscribe(basket, f"{root}.a")
    with Proxy(broker.port) as proxy:
        url = broker.url.replace(f":{broker.port}", f":{proxy.port}")
        bus = distributer(f"{url}?timeout=1")
        proxy.cut()
        until(lambda: bus._driver()._publisher.why)
        with within(9.0), pytest.raises(BusTimeoutError, match="not connected"):
            bus.publish(1, f"{root}.a")
        bus._driver().timeout = BOUND
        waiting = Attempt(bus.publish, 2, f"{root}.a")
        proxy.restore()
        assert waiting.ended() is None
        assert basket.take(1) == [2]


def test_a_broker_that_hangs(broker, root):
    """Outages: publishing, subscribing and leaving end with their timeouts, closing soon."""
    bus = Distributer(f"{broker.url}?timeout=1").connect()
    own = bus.subscribe(print, f"{root}.a")
    bus.subscribe(print, f"{root}.a", subscriber_group=root)
    with frozen(broker):
        for size in (1, 30_000_000):
            with within(9.0), pytest.raises(BusTimeoutError, match="may yet arrive"):
                bus.publish("x" * size, f"{root}.a")
        with within(9.0), pytest.raises(BusTimeoutError, match="subscribing"):
            bus.subscribe(print, f"{root}.a")
        with within(9.0):
            assert own.cancel()
        with within(9.0):
            bus.close()
        driver = bus._class(bus._url)
        with within(9.0), pytest.raises(BusTimeoutError):
            driver.connect()


def test_closing_while_the_broker_is_away(broker, distributer):
    """Outages: nothing keeps us from leaving."""
    with Proxy(broker.port) as proxy:
        url = broker.url.replace(f":{broker.port}", f":{proxy.port}")
        bus = Distributer(url).connect()
        bus.subscribe(print, "a")
        proxy.cut()
        until(lambda: bus._driver()._publisher.why)
        waiting = [Attempt(bus.publish, 1, "a"), Attempt(bus.subscribe, print, "a")]
        until(lambda: bus._driver()._outbox)
        with within(9.0):
            bus.close()
        assert all(isinstance(own.ended(), BusConnectionError) for own in waiting)


def test_connections_that_the_broker_ends(bus, control, root, baskets):
    """Outages: an operator who ends them all finds them back, with their subscriptions."""
    alone, member = baskets(), baskets()
    bus.subscribe(alone, f"{root}.a")
    bus.subscribe(member, f"{root}.a", subscriber_group=root)
    control("close_all_connections", "for a test")

    def heard():
        with contextlib.suppress(BusConnectionError):
            bus.publish(1, f"{root}.a")
        return alone.left() and member.left()

    until(heard)


# ---- life ----------------------------------------------------------------------------------------


def test_closing_wakes_who_waits_for_the_broker(broker, root):
    """Life: who publishes, subscribes or leaves while the broker says nothing is told at once."""
    bus = Distributer(f"{broker.url}?timeout={BOUND:g}").connect()
    driver = bus._driver()
    with frozen(broker):
        publishers = [Attempt(bus.publish, n, f"{root}.a") for n in range(3)]
        until(lambda: len(driver._publisher._unconfirmed) == 3)
        subscriber = Attempt(bus.subscribe, print, f"{root}.a")
        until(lambda: driver._pending)
        with within(9.0):
            closing = Attempt(driver.close)
            for own in (*publishers, subscriber):
                error = own.ended()
                assert isinstance(error, BusConnectionError)
                assert not isinstance(error, BusTimeoutError)
                assert "closed" in str(error)
        assert closing.ended(4.0) is None
        assert not driver._thread.is_alive()
    bus.close()


def test_a_step_that_fails(bus, root, basket, caplog):
    """Life: a mistake in one step on the connections' thread is logged, and ends nothing else."""
    bus.subscribe(basket, f"{root}.a")
    bus._driver()._loop.add_callback_threadsafe(lambda: 1 / 0)
    bus.publish(1, f"{root}.a")
    assert basket.take(1) == [1]
    assert "ZeroDivisionError" in caplog.text


def test_a_closed_driver_opens_nothing(bus):
    """Life: what comes too late is refused, instead of connecting once more."""
    driver = bus._driver()
    bus.close()
    with pytest.raises(BusConnectionError, match="closed"):
        driver.publish(("a",), b"1")
    with pytest.raises(BusConnectionError, match="closed"):
        driver.subscribe((), "", None)


def test_two_connections_and_nothing_left(broker, control, root):
    """Life: one for publishing, one for all subscriptions; they end with what used them."""

    def channels():
        return sorted(int(line) for line in control("list_connections", "channels")[1:])

    with Distributer(broker.url) as bus:
        until(lambda: channels() == [1])
        owns = [
            bus.subscribe(print, f"{root}.{n}", subscriber_group=g)
            for n in "ab"
            for g in ("", root)
        ]
        until(lambda: channels() == [1, 4])
        assert all(own.cancel() for own in owns[1:])
        until(lambda: channels() == [1, 1])
    until(lambda: channels() == [])
