"""What is special of MQTT: its URLs, TLS, refusals, retained messages, and brokers that hang."""

from __future__ import annotations

import contextlib
import errno
import gc
import itertools
import os
import shutil
import socket
import subprocess
import threading
import time

import pytest
from brokers import Mosquitto, Proxy, needed

from ate_dispatcher import (
    BusConnectionError,
    BusTimeoutError,
    BusURLError,
    InvalidArgumentError,
    PayloadTooLargeError,
)
from ate_dispatcher.bus import BusURL, Distributer
from ate_dispatcher.testing import no_thread_leaks

mqtt = pytest.importorskip("ate_dispatcher.bus.drivers.mqtt")

BOUND = 60.0
SECRET = "s3cret-w@rd"
QUOTED = "s3cret-w%40rd"

pytestmark = pytest.mark.brokers("mqtt")


@pytest.fixture
def start():
    """Start private brokers with settings of their own."""
    needed(Mosquitto)
    with contextlib.ExitStack() as stack:

        def make(settings="allow_anonymous true\n", files=()):
            broker = Mosquitto()
            stack.callback(broker.__exit__)
            for name, text in dict(files).items():
                (broker.folder / name).write_text(text)
                (broker.folder / name).chmod(0o644)
            broker.settings = settings.replace("FOLDER", str(broker.folder))
            broker.start()
            return broker

        yield make


@pytest.fixture
def guarded(start, tmp_path):
    """A broker that lets in only one user, who may not do everything."""
    program = shutil.which("mosquitto_passwd")
    if program is None:
        pytest.skip("needs mosquitto_passwd")
    passwords = tmp_path / "passwords"
    subprocess.run([program, "-b", "-c", str(passwords), "someone", SECRET], check=True)
    files = {
        "passwords": passwords.read_text(),
        "rights": "user someone\ntopic readwrite open/#\ntopic read readonly/#\n",
    }
    settings = "allow_anonymous false\npassword_file FOLDER/passwords\nacl_file FOLDER/rights\n"
    return start(settings, files)


@pytest.fixture(scope="session")
def certificates(tmp_path_factory):
    """A certificate for 127.0.0.1 that vouches for itself, and its key."""
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl")
    folder = tmp_path_factory.mktemp("tls")
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
            *("-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem")),
            *("-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"),
        ],
        check=True,
        capture_output=True,
    )
    return folder


@pytest.fixture
def encrypted(start, certificates):
    """A broker that speaks TLS."""
    files = {name: (certificates / name).read_text() for name in ("cert.pem", "key.pem")}
    return start("allow_anonymous true\ncertfile FOLDER/cert.pem\nkeyfile FOLDER/key.pem\n", files)


@contextlib.contextmanager
def raw_client(port):
    """Another program's client, connected."""
    from paho.mqtt.client import Client, MQTTv5
    from paho.mqtt.enums import CallbackAPIVersion

    client = Client(CallbackAPIVersion.VERSION2, protocol=MQTTv5)
    connected = threading.Event()
    client.on_connect = lambda *event: connected.set()
    client.connect("127.0.0.1", port)
    client.loop_start()
    assert connected.wait(BOUND)
    try:
        yield client
    finally:
        client.disconnect()
        client.loop_stop()


def refused(url, kind=BusConnectionError, within=15.0):
    """Check that a URL's broker cannot be reached, soon and without the secret; give the error."""
    began = time.monotonic()
    with pytest.raises(kind) as caught, Distributer(url):
        pass
    assert time.monotonic() - began < within
    error = caught.value
    for one in (error, error.__cause__, error.__context__):
        assert SECRET not in f"{one} {one!r}"
        assert QUOTED not in f"{one} {one!r}"
    return error


# ---- URLs ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rest", "message"),
    [
        ("127.0.0.1?qos=2", "qos.*one of 0, 1"),
        ("127.0.0.1?qos=", "qos"),
        ("127.0.0.1?keepalive=0", "keepalive"),
        ("127.0.0.1?keepalive=65536", "65535"),
        ("127.0.0.1?client_id=", "client_id.*empty"),
        ("127.0.0.1?clientid=a", "did you mean 'client_id'"),
        ("127.0.0.1?timeout=0", "timeout"),
        ("127.0.0.1/path", "no path"),
        ("one,two", "one host"),
        ("127.0.0.1?tls_verify=no", "needs mqtts://"),
    ],
)
def test_no_url(rest, message):
    """URLs: what cannot be is told before anything is connected."""
    needed(Mosquitto)
    with pytest.raises(BusURLError, match=message):
        Distributer(f"mqtt://{rest}")


@pytest.mark.parametrize(
    "options", ["", "/", "?qos=0", "?qos=1&keepalive=5&client_id=bench%201&timeout=5"]
)
def test_options(broker, distributer, root, basket, options):
    """URLs: with each of these a message arrives."""
    bus = distributer(broker.url + options)
    bus.subscribe(basket, f"{root}.a")
    bus.publish(1, f"{root}.a")
    assert basket.take(1) == [1]


@pytest.mark.parametrize(("scheme", "port"), [("mqtt", 1883), ("mqtts", 8883)])
def test_ports(scheme, port):
    """URLs: without a port it is the scheme's own."""
    needed(Mosquitto)
    from ate_dispatcher.bus._url import BusURL
    from ate_dispatcher.bus.drivers.mqtt import MqttDriver

    assert MqttDriver(BusURL(f"{scheme}://")).place() == ("127.0.0.1", port)
    assert MqttDriver(BusURL(f"{scheme}://[::1]")).place() == ("::1", port)
    assert MqttDriver(BusURL(f"{scheme}://host:7")).place() == ("host", 7)


# ---- who may -------------------------------------------------------------------------------------


def test_a_password(guarded, distributer, basket):
    """Access: user and password of the URL, percent-encoded, let us in."""
    bus = distributer(f"mqtt://someone:{QUOTED}@127.0.0.1:{guarded.port}")
    bus.subscribe(basket, "open.a")
    bus.publish(1, "open.a")
    assert basket.take(1) == [1]
    assert SECRET not in repr(bus) + bus.url


@pytest.mark.parametrize("identity", ["", "someone@", f"other:{QUOTED}@", f"someone:{QUOTED}x@"])
def test_a_wrong_password(guarded, identity):
    """Access: who is not let in is told so at once, not after the timeout."""
    error = refused(f"mqtt://{identity}127.0.0.1:{guarded.port}?timeout=10", within=3.0)
    assert "Not authorized" in str(error)


def test_what_the_broker_does_not_allow(guarded, distributer, basket):
    """Access: a message that the broker does not take is an error, and so is a subscription."""
    bus = distributer(f"mqtt://someone:{QUOTED}@127.0.0.1:{guarded.port}")
    bus.subscribe(basket, "open.a")
    with pytest.raises(BusConnectionError, match="Not authorized"):
        bus.publish(1, "readonly.a")
    with pytest.raises(BusConnectionError, match="Not authorized"):
        bus.publish(1, "elsewhere")
    bus.publish(2, "open.a")
    assert basket.take(1) == [2]


def test_turned_away_after_an_outage(guarded, tmp_path, distributer, basket, baskets):
    """Access: a password that no longer holds is told to the subscriber and to who publishes."""
    errors = baskets()
    url = f"mqtt://someone:{QUOTED}@127.0.0.1:{guarded.port}?timeout=1"
    bus = distributer(url, on_error=lambda own, error: errors(error))
    bus.subscribe(basket, "open.a")
    guarded.kill()
    (guarded.folder / "passwords").write_text("")
    guarded.restart()
    (error,) = errors.take(1)
    assert isinstance(error, BusConnectionError)
    assert "Not authorized" in str(error)
    assert SECRET not in f"{error} {error!r}"
    with pytest.raises(BusTimeoutError, match="Not authorized"):
        bus.publish(1, "open.a")


# ---- TLS -----------------------------------------------------------------------------------------


def test_tls(encrypted, certificates, distributer, basket):
    """TLS: with the certificate to trust, or without verifying, messages arrive."""
    for options in (f"tls_ca={certificates}/cert.pem", "tls_verify=no"):
        bus = distributer(f"mqtts://127.0.0.1:{encrypted.port}?{options}")
        bus.subscribe(basket, "a")
        bus.publish(options, "a")
        assert basket.take(1) == [options]
        bus.close()


def test_a_client_s_certificate(start, certificates, distributer, basket):
    """TLS: a broker that demands a certificate gets it; without it nobody is let in."""
    files = {name: (certificates / name).read_text() for name in ("cert.pem", "key.pem")}
    broker = start(
        "allow_anonymous true\ncertfile FOLDER/cert.pem\nkeyfile FOLDER/key.pem\n"
        "cafile FOLDER/cert.pem\nrequire_certificate true\n",
        files,
    )
    url = f"mqtts://127.0.0.1:{broker.port}?tls_ca={certificates}/cert.pem"
    refused(url)
    own = f"&tls_cert={certificates}/cert.pem&tls_key={certificates}/key.pem"
    bus = distributer(url + own)
    bus.subscribe(basket, "a")
    bus.publish(1, "a")
    assert basket.take(1) == [1]


def test_a_certificate_that_nobody_vouches_for(encrypted):
    """TLS: the broker's certificate is verified unless the URL says otherwise."""
    error = refused(f"mqtts://someone:{QUOTED}@127.0.0.1:{encrypted.port}")
    assert "certificate" in str(error).lower()


def test_a_certificate_file_that_is_missing(encrypted):
    """TLS: a file that cannot be read is a mistake in the URL."""
    error = refused(f"mqtts://127.0.0.1:{encrypted.port}?tls_ca=/no/such/file", BusURLError)
    assert "/no/such/file" in str(error)


def test_tls_on_one_side_only(encrypted, broker):
    """TLS: mqtts to a plain port and mqtt to an encrypted one fail soon."""
    refused(f"mqtts://someone:{QUOTED}@127.0.0.1:{broker.port}?timeout=10")
    error = refused(f"mqtt://someone:{QUOTED}@127.0.0.1:{encrypted.port}?timeout=10")
    assert "TLS" in str(error)


def test_a_port_that_is_silent():
    """Bad input: something that accepts connections and says nothing is given up in time."""
    needed(Mosquitto)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        error = refused(f"mqtt://someone:{QUOTED}@127.0.0.1:{port}?timeout=1", within=9.0)
    assert "does not answer" in str(error)


# ---- what the broker does not take ---------------------------------------------------------------


def test_a_message_that_is_too_large_for_this_broker(start, distributer, basket):
    """Limits: the broker's largest packet, told on connecting, is kept to, to the byte."""
    bus = distributer(start("allow_anonymous true\nmax_packet_size 2000\n").url)
    bus.subscribe(basket, "a")
    # 10 bytes around it at most, the topic, and two quotes of JSON.
    bus.publish("x" * (2000 - 10 - 1 - 2), "a")
    with pytest.raises(PayloadTooLargeError, match="takes 1989"):
        bus.publish("x" * (2000 - 10 - 1 - 1), "a")
    bus.publish("last", "a")
    assert len(basket.take(2)[0]) == 1987


def test_a_topic_that_is_too_long(bus, basket):
    """Limits: MQTT has 65535 bytes for a topic."""
    with pytest.raises(InvalidArgumentError, match="65535"):
        bus.publish(1, "x" * 65_536)
    with pytest.raises(InvalidArgumentError, match="65535"):
        bus.subscribe(basket, "x" * 65_536)


@pytest.mark.parametrize(
    ("topic", "size"), [("/".join("x" * 300), 1), ("a", 2000)], ids=["levels", "size"]
)
def test_a_message_that_costs_the_connection(start, distributer, basket, topic, size):
    """Limits: it raises soon and is not sent again for ever; what follows arrives.

    Mosquitto drops who publishes to more than 200 levels; to what is above its own limit it answers
    with a code that makes paho drop the connection.
    """
    import paho.mqtt

    if size > 1 and paho.mqtt.__version__ < "2.2":
        pytest.skip("that code ends the network thread of paho 2.1")
    broker = start("allow_anonymous true\nmessage_size_limit 1000\n")
    bus = distributer(broker.url)
    bus.subscribe(basket, "a")
    with pytest.raises(BusConnectionError, match="may or may not"):
        bus.publish("x" * size, topic)
    bus.publish("next", "a")
    assert basket.take(1) == ["next"]


def test_what_raised_does_not_come_later(start, distributer, basket):
    """Outages: a message whose publish gave up is not sent after the reconnection."""
    broker = start()
    listening = distributer(broker.url)
    listening.subscribe(basket, "a")
    with Proxy(broker.port) as proxy:
        bus = distributer(f"mqtt://127.0.0.1:{proxy.port}?timeout=1")
        bus.publish(0, "a")
        broker.freeze()
        try:
            proxy.cut()
            for number in range(1, 4):
                with pytest.raises(BusConnectionError):
                    bus.publish(number, "a")
        finally:
            broker.thaw()
        proxy.restore()
        bus._driver().timeout = BOUND
        bus.publish(4, "a")
        assert basket.take(2) == [0, 4]


@pytest.mark.parametrize("size", [10, 30_000_000])
def test_a_broker_that_hangs(start, size):
    """Outages: publishing ends with its timeout, and closing soon after, even in mid-message."""
    broker = start()
    with Distributer(f"{broker.url}?timeout=1") as bus:
        bus.subscribe(print, "a")
        broker.freeze()
        try:
            began = time.monotonic()
            with pytest.raises(BusTimeoutError):
                bus.publish("x" * size, "a")
            bus.close()
            assert time.monotonic() - began < 9.0
        finally:
            broker.thaw()


def test_closing_while_the_broker_is_away(start):
    """Outages: nothing keeps us from leaving."""
    broker = start()
    bus = Distributer(broker.url).connect()
    bus.subscribe(print, "a")
    bus.subscribe(print, "a", subscriber_group="g")
    broker.kill()
    began = time.monotonic()
    bus.close()
    assert time.monotonic() - began < 9.0


# ---- what is MQTT's own --------------------------------------------------------------------------


def test_closing_as_the_thread_of_paho_ends(broker):
    """Closing: it forgets itself as its last act, between paho's two looks at it."""
    bus = Distributer(broker.url).connect()
    client = bus._connected._publisher.client
    thread = client._thread

    class Ending:
        """The thread, until paho has looked at it once."""

        def __ne__(self, other):
            thread.join(BOUND)
            client._thread = None
            return True

    client._thread = Ending()
    bus.close()
    assert client._thread is None
    assert not thread.is_alive()


def descriptors():
    """Count the open descriptors of this process, as Linux lists them."""
    if not os.path.isdir("/proc/self/fd"):
        pytest.skip("needs /proc/self/fd")
    return len(os.listdir("/proc/self/fd"))


@pytest.fixture
def uncollected():
    """Nothing is left to the garbage collector."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def test_what_was_cancelled_leaves_no_descriptor_open(bus, root, uncollected):
    """Life: the sockets of a subscription are closed with it, those that paho wakes itself by too.

    They would stay open until a full garbage collection.
    """
    bus.subscribe(print, root).cancel()
    before = descriptors()
    for _ in range(5):
        bus.subscribe(print, root).cancel()
    assert descriptors() == before


@pytest.mark.parametrize(
    ("what", "error"),
    [
        ("paho.mqtt.client._socketpair_compat", OSError(errno.EMFILE, "Too many open files")),
        ("threading.Thread.start", RuntimeError("can't start new thread")),
    ],
)
def test_a_system_that_has_nothing_to_give(broker, monkeypatch, uncollected, what, error):
    """Refusals: no descriptor or no thread for paho is the bus's error, and nothing stays open."""

    def refuse(*arguments):
        raise error

    driver = mqtt.MqttDriver(BusURL(broker.url))
    before = descriptors()
    with monkeypatch.context() as context:
        context.setattr(what, refuse)
        with pytest.raises(BusConnectionError, match=str(error.args[-1])):
            driver.connect()
    driver.close()
    assert descriptors() == before


def test_retained_messages(broker, bus, root, baskets):
    """Retained: a new subscriber gets the last one; the members of a group do not."""
    alone, shared = baskets(), baskets()
    with raw_client(broker.port) as other:
        other.publish(f"{root}/a", b'"kept"', 1, retain=True).wait_for_publish(BOUND)
        bus.subscribe(alone, f"{root}.a")
        bus.subscribe(shared, f"{root}.a", subscriber_group="g")
        other.publish(f"{root}/a", b'"now"', 1).wait_for_publish(BOUND)
        assert alone.take(2) == ["kept", "now"]
        assert shared.take(1) == ["now"]
        other.publish(f"{root}/a", b"", 1, retain=True).wait_for_publish(BOUND)


def test_retained_messages_come_once(start, distributer, basket):
    """Retained: a network that was cut does not bring them again."""
    broker = start()
    with Proxy(broker.port) as proxy, raw_client(broker.port) as other:
        other.publish("a", b'"kept"', 1, retain=True).wait_for_publish(BOUND)
        bus = distributer(f"mqtt://127.0.0.1:{proxy.port}")
        bus.subscribe(basket, "a")
        assert basket.take(1) == ["kept"]
        # The broker sends no more than 20 beyond the first that is not acknowledged.
        for number in range(25):
            other.publish("a", str(number).encode(), 1).wait_for_publish(BOUND)
        assert basket.take(25) == list(range(25))
        proxy.cut()
        other.publish("a", b'"meanwhile"', 1).wait_for_publish(BOUND)
        proxy.restore()
        found = []
        while "meanwhile" not in found:
            found += basket.take(1)
        assert "kept" not in found


@pytest.mark.parametrize("group", ["", "a b/c+d#e", "$share", "ü"])
def test_any_name_of_a_group(bus, root, basket, group):
    """Groups: a name is whatever a string can be."""
    bus.subscribe(basket, f"{root}.a", subscriber_group=group)
    bus.publish(1, f"{root}.a")
    assert basket.take(1) == [1]


def test_overlapping_filters_in_any_order(bus, root, baskets):
    """Topics: whichever filter the broker names first, a message comes once."""
    for order in itertools.permutations((f"{root}.*", f"{root}.#", f"{root}.a")):
        basket = baskets()
        with bus.subscribe(basket, *order):
            for data in ("one", "two", "end"):
                bus.publish(data, f"{root}.a")
            assert basket.take(3) == ["one", "two", "end"], order


def test_each_reconnection_leaves_one_subscription(start, distributer, basket):
    """Outages: after many of them a message still comes once, from several filters too."""
    broker = start()
    with Proxy(broker.port) as proxy:
        listening = distributer(f"mqtt://127.0.0.1:{proxy.port}")
        listening.subscribe(basket, "a", "#")
        bus = distributer(broker.url)
        for number in range(3):
            proxy.cut()
            bus.publish(number, "a")  # waits in the session
            proxy.restore()
            while basket.take(1) != [number]:
                pass  # not acknowledged before the network was cut: it comes again
        for number in range(3, 6):
            bus.publish(number, "a")
        assert basket.take(3) == [3, 4, 5]


def test_closing_wakes_who_waits_for_the_broker(start):
    """Life: a publish that waits for a broker that hangs ends with the connection.

    It may have been sent already, or be about to be; it is told which.
    """
    broker = start()
    bus = Distributer(f"{broker.url}?timeout={BOUND:g}").connect()
    failed = threading.Event()

    def publish():
        with pytest.raises(BusConnectionError, match=r"may or may not|closed meanwhile"):
            bus.publish(1, "a")
        failed.set()

    thread = threading.Thread(target=publish)
    client = bus._driver()._publisher.client
    broker.freeze()
    try:
        thread.start()
        limit = time.monotonic() + BOUND
        while not client._out_messages and time.monotonic() < limit:
            thread.join(0.001)
        bus.close()
        assert failed.wait(30)
    finally:
        broker.thaw()
    thread.join(BOUND)


def test_ctrl_c_while_subscribing(start, monkeypatch):
    """Life: what a Ctrl-C interrupts leaves no connection behind, and no thread."""
    running = start()
    opened = mqtt._Connection.open

    def interrupted(connection, limit):
        opened(connection, limit)
        raise KeyboardInterrupt

    with Distributer(running.url) as bus:
        bus.connect()
        with monkeypatch.context() as context:
            context.setattr(mqtt._Connection, "open", interrupted)
            with no_thread_leaks(), pytest.raises(KeyboardInterrupt):
                bus.subscribe(print, "a", subscriber_group="workers")
