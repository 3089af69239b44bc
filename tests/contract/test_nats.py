"""What is special of NATS: its URLs, identities and permissions, TLS, queues, and lost servers."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import socket
import subprocess
import threading
import time

import pytest
from brokers import Nats, free_port, needed

from ate_dispatcher import (
    BusConnectionError,
    BusTimeoutError,
    BusURLError,
    InvalidArgumentError,
    PayloadTooLargeError,
)
from ate_dispatcher.bus import Distributer

BOUND = 60.0
SECRET = "s3cret-word"


class Configured(Nats):
    """A server with a configuration of its own."""

    def __init__(self, configuration):
        super().__init__()
        self.configuration = configuration

    def command(self):
        path = self.folder / "nats.conf"
        path.write_text(self.configuration)
        return [*super().command(), "-c", str(path)]


@pytest.fixture
def server():
    """Start servers with the configurations given, all ended after the test."""
    needed(Nats)
    with contextlib.ExitStack() as stack:
        yield lambda configuration="": stack.enter_context(Configured(configuration))


@pytest.fixture(scope="session")
def certificate(tmp_path_factory):
    """A certificate for 127.0.0.1, signed by itself, and its key."""
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl on the PATH")
    folder = tmp_path_factory.mktemp("tls")
    files = folder / "certificate.pem", folder / "key.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
            *("-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"),
            *("-out", str(files[0]), "-keyout", str(files[1])),
        ],
        check=True,
        capture_output=True,
    )
    return files


def over_tls(certificate, *more):
    files = f'cert_file: "{certificate[0]}"', f'key_file: "{certificate[1]}"'
    return f"tls {{ {', '.join((*files, *more))} }}"


def refused(url, within=15.0):
    """Connect in vain; give what is told, which never holds the secret."""
    begin = time.monotonic()
    with pytest.raises(BusConnectionError) as caught:
        Distributer(url).connect()
    assert time.monotonic() - begin < within
    error = caught.value
    for one in (error, error.__cause__, error.__context__):
        assert SECRET not in f"{one} {one!r}"
    return str(error)


def echo(bus, basket, topic="a.b", data=1):
    """Publish and get it back."""
    with bus.subscribe(basket, topic):
        bus.publish(data, topic)
        assert basket.take(1) == [data]


def insist(bus, data, topic):
    """Publish until it is taken."""
    limit = time.monotonic() + BOUND
    while True:
        try:
            return bus.publish(data, topic)
        except BusConnectionError:
            assert time.monotonic() < limit


# ---- URLs ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("nats://127.0.0.1/orders", "path"),
        ("nats://127.0.0.1?tls=perhaps", "yes or no"),
        ("nats://127.0.0.1?pinginterval=1", "did you mean 'ping_interval'"),
        ("nats://127.0.0.1?ping_interval=0", "positive"),
        ("nats://127.0.0.1?timeout=never", "positive"),
        ("nats://127.0.0.1?name=", "empty"),
        ("tls://127.0.0.1?tls=no", "contradicts"),
        ("nats://127.0.0.1?tls=no&tls_verify=no", "contradicts"),
        ("nats://127.0.0.1:99999", "65535"),
    ],
)
def test_urls_that_cannot_be(url, told):
    """URLs: a mistake is told when the distributer is made."""
    needed(Nats)
    with pytest.raises(BusURLError, match=told):
        Distributer(url)


def test_a_file_that_is_not_there():
    """URLs: a certificate that cannot be read is told by its name."""
    needed(Nats)
    with pytest.raises(BusURLError, match=r"no-such\.pem"):
        Distributer("tls://127.0.0.1?tls_ca=/no-such.pem").connect()


def test_one_of_several_hosts(server, basket):
    """URLs: several hosts are servers of which one is enough."""
    running = server()
    with Distributer(f"nats://127.0.0.1:{free_port()},127.0.0.1:{running.port}?name=us") as bus:
        echo(bus, basket)


def test_none_of_several_hosts():
    """URLs: with none of them there, all of them are named."""
    needed(Nats)
    told = refused(f"nats://someone:{SECRET}@127.0.0.1:1,127.0.0.2:1?timeout=2")
    assert "127.0.0.1:1" in told
    assert "127.0.0.2:1" in told


def test_the_other_servers_of_a_cluster(server, basket, baskets):
    """URLs: a server that only the first one has told of is used when that one is gone."""
    route = free_port()
    first = server(f"cluster {{ name: c, listen: 127.0.0.1:{route} }}")
    second = server(
        f"cluster {{ name: c, listen: 127.0.0.1:-1, routes: [nats://127.0.0.1:{route}] }}"
    )
    with Distributer(second.url) as other, Distributer(first.url) as bus:
        other.subscribe(basket, "a")
        bus.subscribe(baskets(), "b")
        limit = time.monotonic() + BOUND
        while not bus._driver()._client.discovered_servers:  # told a little later
            assert time.monotonic() < limit
            bus.publish("soon", "b")
        first.kill()
        insist(bus, 1, "a")
        assert basket.take(1) == [1]


# ---- identities ----------------------------------------------------------------------------------

USERS = f"""
authorization {{
  timeout: 1
  users = [
    {{ user: "us", password: "{SECRET}:@/" }}
    {{ user: "sensor", password: "{SECRET}",
       permissions: {{ publish: ["raw.>"], subscribe: ["raw.>"] }} }}
  ]
}}
"""


def test_user_and_password(server, basket):
    """Identity: special characters are encoded in the URL; a wrong one is refused, untold."""
    running = server(USERS)
    place = f"127.0.0.1:{running.port}"
    with Distributer(f"nats://us:{SECRET}%3A%40%2F@{place}") as bus:
        echo(bus, basket)
        assert SECRET not in f"{bus} {bus.url}"
    for identity in (f"us:{SECRET}@", f"nobody:{SECRET}@", ""):
        assert "uthorization" in refused(f"nats://{identity}{place}?timeout=3")


def test_a_token(server, basket):
    """Identity: a user alone is a token, and as secret as a password."""
    running = server(f'authorization {{ token: "{SECRET}" }}')
    place = f"127.0.0.1:{running.port}"
    bus = Distributer(f"nats://{SECRET}@{place}")
    assert SECRET not in f"{bus!r} {bus.url}"
    with bus:
        echo(bus, basket)
    assert "uthorization" in refused(f"nats://{SECRET}x@{place}?timeout=3")


def test_credentials_that_cannot_be_read():
    """Identity: a file of credentials that is no such is told as a failed connection."""
    needed(Nats)
    assert "failed" in refused("nats://127.0.0.1:1?timeout=2&credentials=/no-such.creds")


def test_what_is_not_permitted(server, basket):
    """Identity: the server's refusal of one topic is raised, and breaks nothing else."""
    running = server(USERS)
    with Distributer(f"nats://sensor:{SECRET}@127.0.0.1:{running.port}") as bus:
        bus.subscribe(basket, "raw.a")
        with pytest.raises(BusConnectionError, match=r"permissions violation for publish"):
            bus.publish(1, "other.a")
        with pytest.raises(BusConnectionError, match=r"permissions violation for subscription"):
            bus.subscribe(basket, "raw.b", "other.a")
        bus.publish(0, "raw.b")
        bus.publish(2, "raw.a")
        assert basket.take(1) == [2]
        assert len(bus._driver()._parts) == 1


# ---- TLS -----------------------------------------------------------------------------------------


def test_tls(server, certificate, basket, baskets):
    """TLS: demanded by scheme or option, offered by the server; the certificate is verified."""
    place = f"127.0.0.1:{server(over_tls(certificate)).port}"
    for url in (
        f"tls://{place}?tls_ca={certificate[0]}",
        f"nats://{place}?tls=yes&tls_verify=no",
        f"nats://{place}?tls_ca={certificate[0]}",
    ):
        with Distributer(url) as bus:
            echo(bus, baskets(), data="x" * 500_000)
    for url in (f"tls://us:{SECRET}@{place}", f"nats://us:{SECRET}@{place}"):
        assert "certificate verify failed" in refused(url)


def test_tls_with_a_certificate_of_ours(server, certificate, basket):
    """TLS: a server that wants to know us gets our certificate."""
    running = server(over_tls(certificate, "verify: true", f'ca_file: "{certificate[0]}"'))
    url = f"tls://127.0.0.1:{running.port}?timeout=3&tls_ca={certificate[0]}"
    with Distributer(f"{url}&tls_cert={certificate[0]}&tls_key={certificate[1]}") as bus:
        echo(bus, basket)
    assert "failed" in refused(url)


@pytest.mark.parametrize("wanted", ["tls://{}", "nats://{}?tls=yes", "nats://{}?tls_verify=no"])
def test_a_server_without_the_tls_that_is_demanded(wanted):
    """TLS: nothing, least of all the password, is sent in the clear."""
    needed(Nats)
    heard = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve():
            connection, _ = listener.accept()
            with connection:
                connection.sendall(b'INFO {"max_payload":1048576,"auth_required":true}\r\n')
                heard.append(connection.recv(1000))

        thread = threading.Thread(target=serve)
        thread.start()
        place = f"us:{SECRET}@127.0.0.1:{listener.getsockname()[1]}"
        assert "TLS" in refused(wanted.format(place))
        thread.join(BOUND)
    assert heard == [b""]


# ---- groups and subjects -------------------------------------------------------------------------


def test_a_group_is_a_queue(server, baskets):
    """Groups: filters that overlap are worked on apart, which queues of one name are not."""
    running = server()
    one, all_of_it = baskets(), baskets()
    with Distributer(running.url) as bus:
        bus.subscribe(one, "site.1", subscriber_group="workers")
        bus.subscribe(all_of_it, "site.#", subscriber_group="workers")
        for number in range(20):
            bus.publish(number, "site.1")
        assert one.take(20) == list(range(20))
        assert all_of_it.take(20) == list(range(20))


@pytest.mark.parametrize("group", ["a b", "a|b", "ü\u2028", "50%", ">", "a.*"])
def test_any_name_of_a_group(server, basket, group):
    """Groups: whatever their name."""
    running = server()
    with Distributer(running.url) as bus:
        for topic in ("a", "#"):
            bus.subscribe(basket, topic, subscriber_group=group)
        bus.publish(1, "a")
        assert basket.take(2) == [1, 1]


@pytest.mark.parametrize("live", [True, False])
def test_ctrl_c_while_subscribing(server, baskets, monkeypatch, live):
    """Groups: what is left behind by a Ctrl-C is no member, so that nothing goes to nobody."""
    running, basket, submit = server(), baskets(), asyncio.run_coroutine_threadsafe

    class Interrupted:
        """A future whose reader is interrupted, before or after it is done."""

        def __init__(self, work, loop):
            self.future = submit(work, loop)
            self.cancel = self.future.cancel
            monkeypatch.setattr(asyncio, "run_coroutine_threadsafe", submit)

        def result(self, timeout):
            if live:
                self.future.result(timeout)
            raise KeyboardInterrupt

    with Distributer(running.url) as bus:
        bus.subscribe(basket, "a", subscriber_group="workers")
        monkeypatch.setattr(asyncio, "run_coroutine_threadsafe", Interrupted)
        with pytest.raises(KeyboardInterrupt):
            bus.subscribe(print, "a", subscriber_group="workers")
        bus.subscribe(print, "fence").cancel()
        for number in range(20):
            bus.publish(number, "a")
        assert basket.take(20) == list(range(20))
        assert len(bus._driver()._parts) == 1


def test_the_server_s_own_subjects(server, basket):
    """Topics: one that begins as the server's own subjects do is no order to the server."""
    running = server()
    with Distributer(running.url) as bus:
        assert bus._driver().publish(("$JS", "API", "INFO"), b"1") is None
        bus.subscribe(basket, "$JS.#", with_topic=True)
        bus.publish(1, "$JS.API.INFO")
        assert basket.take(1) == [(1, "$JS.API.INFO")]
        with socket.create_connection(("127.0.0.1", running.port)) as stranger:
            stranger.sendall(b"CONNECT {}\r\nPUB $JS.x 1\r\n2\r\nPUB %24JS.x 1\r\n3\r\nPING\r\n")
            assert basket.take(1) == [(3, "$JS.x")]


def test_a_topic_that_is_too_long(server, basket):
    """Topics: it is refused before the server ends the connection for it."""
    running = server()
    with Distributer(running.url) as bus:
        bus.subscribe(basket, "x" * 4000)
        bus.publish(1, "x" * 4000)
        assert basket.take(1) == [1]
        for topic in ("x" * 4001, "ü" * 2001):
            with pytest.raises(InvalidArgumentError, match="4000 bytes"):
                bus.publish(1, topic)
        with pytest.raises(InvalidArgumentError, match="4000 bytes"):
            bus.subscribe(basket, "a", subscriber_group="x" * 4001)


def test_a_subject_that_is_no_text(server, basket):
    """Topics: what a stranger publishes on a subject of other bytes is passed over."""
    running = server()
    with Distributer(running.url) as bus:
        bus.subscribe(basket, "#")
        with socket.create_connection(("127.0.0.1", running.port)) as stranger:
            stranger.sendall(b"CONNECT {}\r\nPUB a.\xff 1\r\n1\r\nPUB a.b 1\r\n2\r\nPING\r\n")
            assert basket.take(1) == [2]
        bus.publish(3, "a")
        assert basket.take(1) == [3]


def test_a_server_with_a_lower_limit(server, basket):
    """Payloads: the server's own limit counts too; what is too large breaks nothing."""
    running = server("max_payload: 1000")
    with Distributer(running.url) as bus:
        bus.subscribe(basket, "a")
        with pytest.raises(PayloadTooLargeError, match="1001 bytes"):
            bus.publish("x" * 999, "a")
        bus.publish("x" * 998, "a")
        assert basket.take(1) == ["x" * 998]


# ---- the answer ----------------------------------------------------------------------------------


def test_the_answer_comes_after_the_message():
    """Publishing: the PING whose answer is waited for is sent behind the message."""
    needed(Nats)
    lines = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve():
            connection, _ = listener.accept()
            with connection, connection.makefile("rb") as reading:
                connection.sendall(b'INFO {"max_payload":1048576}\r\n')
                for line in reading:
                    lines.append(line.split()[0])
                    if line == b"PING\r\n":
                        connection.sendall(b"PONG\r\n")

        thread = threading.Thread(target=serve)
        thread.start()
        with Distributer(f"nats://127.0.0.1:{listener.getsockname()[1]}") as bus:
            begin = len(lines)
            bus.subscribe(print, "a").cancel()
            bus.publish(1, "a")
            found = lines[begin:]
        thread.join(BOUND)
    assert found == [b"SUB", b"PING", b"UNSUB", b"PING", b"PUB", b"1", b"PING"]


def test_a_server_that_freezes(server, basket):
    """Outages: who publishes is told in time, the connection is replaced, and all works again."""
    running = server()
    with Distributer(f"{running.url}?timeout=1&ping_interval=0.1") as bus:
        bus.subscribe(basket, "a")
        running.freeze()
        try:
            for attempt in (lambda: bus.publish(1, "a"), lambda: bus.subscribe(print, "b")) * 2:
                begin = time.monotonic()
                with pytest.raises(BusConnectionError):
                    attempt()
                assert time.monotonic() - begin < 8.0
        finally:
            running.thaw()
        insist(bus, "again", "a")
        while basket.take(1) != ["again"]:
            pass


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("secure", [False, True])
def test_closing_while_the_server_is_away(server, certificate, basket, frozen, secure):
    """Outages: close ends the thread in bounded time, and tells who still waits."""
    running = server(over_tls(certificate) if secure else "")
    bus = Distributer(f"{running.url}?tls_verify=no" if secure else running.url)
    bus.connect()
    bus.subscribe(basket, "a")
    if frozen:
        running.freeze()
    else:
        running.kill()
    told = []

    def publish():
        try:
            bus.publish("x" * 500_000, "a")
        except BusConnectionError as error:
            told.append(str(error))

    driver = bus._driver()
    thread = threading.Thread(target=publish)
    thread.start()
    limit = time.monotonic() + BOUND
    while not driver._outbox and not (driver._client and driver._client.unanswered) and not told:
        assert time.monotonic() < limit
    begin = time.monotonic()
    bus.close()
    assert time.monotonic() - begin < 9.0
    thread.join(BOUND)
    assert not driver._thread.is_alive()
    assert len(told) == 1
    with pytest.raises(BusConnectionError, match="closed"):
        driver.publish(("a",), b"1")


def test_what_waits_for_the_connection(server, basket):
    """Outages: who waits for the server is served once it is back; who gave up is not."""
    running = server()
    with Distributer(f"{running.url}?timeout=1") as hasty, Distributer(running.url) as bus:
        bus.subscribe(basket, "a")
        running.kill()
        while hasty._driver()._client is not None:  # until it has noticed
            with contextlib.suppress(BusConnectionError):
                hasty.publish("lost", "a")
        with pytest.raises(BusTimeoutError, match="not connected"):
            hasty.publish("given up", "a")
        thread = threading.Thread(target=running.start)
        thread.start()
        insist(bus, "waited", "a")  # unless it was not noticed yet, at the first attempt
        thread.join(BOUND)
        assert basket.take(1) == ["waited"]
        insist(hasty, "last", "a")
        assert basket.take(1) == ["last"]
