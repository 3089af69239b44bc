"""Passwords and TLS: what is right works, what is wrong is told soon and without secrets."""

from __future__ import annotations

import contextlib
import gc
import shutil
import subprocess
import threading

import pytest
from brokers import BROKERS, Mosquitto, Nats, Redis, needed

from ate_dispatcher import BusConnectionError, BusURLError
from ate_dispatcher.bus import Distributer, drivers_at_hand

BOUND = 60
SECRET = "s3cret w:rd/%"
QUOTED = "s3cret%20w%3Ard%2F%25"
WRONG = "wr0ng-w:rd"


class LockedMosquitto(Mosquitto):
    """Only for the user ate."""

    @property
    def settings(self):
        path = self.folder / "passwords"
        program = shutil.which("mosquitto_passwd") or "/usr/bin/mosquitto_passwd"
        subprocess.run([program, "-b", "-c", str(path), "ate", SECRET], check=True)
        path.chmod(0o644)
        return f"allow_anonymous false\npassword_file {path}\n"


class LockedNats(Nats):
    """Only for the user ate."""

    def command(self):
        return [*super().command(), "--user", "ate", "--pass", SECRET]


class LockedRedis(Redis):
    """Only with the password."""

    settings = ["--requirepass", SECRET]


class SecureMosquitto(Mosquitto):
    """With TLS."""

    @property
    def settings(self):
        make_certificate(self.folder)
        return (
            f"allow_anonymous true\ncertfile {self.folder}/cert.pem\n"
            f"keyfile {self.folder}/key.pem\n"
        )


class SecureNats(Nats):
    """With TLS."""

    def command(self):
        make_certificate(self.folder)
        files = ["--tlscert", f"{self.folder}/cert.pem", "--tlskey", f"{self.folder}/key.pem"]
        return [*super().command(), "--tls", *files]


class SecureRedis(Redis):
    """With TLS."""

    def command(self):
        make_certificate(self.folder)
        files = ("--tls-cert-file", f"{self.folder}/cert.pem", "--tls-key-file")
        return [
            *super().command(),
            *("--port", "0", "--tls-port", str(self.port), "--tls-auth-clients", "no"),
            *(*files, f"{self.folder}/key.pem", "--tls-ca-cert-file", f"{self.folder}/cert.pem"),
        ]


def make_certificate(folder):
    """A certificate for 127.0.0.1 that is its own authority."""
    command = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=bench -addext"
    subprocess.run(
        [*command.split(), "subjectAltName=IP:127.0.0.1", "-keyout", "key.pem", "-out", "cert.pem"],
        cwd=folder,
        check=True,
        capture_output=True,
    )
    for name in ("key.pem", "cert.pem"):
        (folder / name).chmod(0o644)


SCHEMES = ["mqtt", "nats", "redis"]
LOCKED = dict(zip(SCHEMES, (LockedMosquitto, LockedNats, LockedRedis)))
SECURE = dict(zip(SCHEMES, (SecureMosquitto, SecureNats, SecureRedis)))


def here(*schemes):
    return [scheme for scheme in schemes if scheme in drivers_at_hand()]


@contextlib.contextmanager
def running(kind):
    needed(kind)
    with kind() as broker:
        yield broker


def works(url):
    """A message goes through."""
    came = []
    with Distributer(url) as bus:
        done = threading.Event()
        bus.subscribe(lambda data: (came.append(data), done.set()), "a.b")
        bus.publish(1, "a.b")
        assert done.wait(BOUND)
    assert came == [1]


def refused(url):
    """It is told as a connection that failed; give all that is said."""
    with pytest.raises(BusConnectionError) as caught:
        Distributer(url).connect()
    error, said = caught.value, []
    while error is not None:
        said += [str(error), repr(error)]
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    said = " ".join(said)
    assert SECRET not in said
    assert QUOTED not in said
    assert WRONG not in said
    assert "127.0.0.1" in said
    return said


# Some clients leave the socket of an attempt that failed to the collector, which warns of it.
leaves_sockets = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture
def collected():
    """Collect what a client has left while the test lasts that knows of it."""
    yield
    gc.collect()


@pytest.mark.parametrize("scheme", here(*SCHEMES))
def test_passwords(scheme):
    """The right one works, whatever characters it has; a wrong one and none are refused."""
    with running(LOCKED[scheme]) as broker:
        user = "" if scheme == "redis" else "ate"
        where = f"127.0.0.1:{broker.port}?timeout=3"
        works(f"{scheme}://{user}:{QUOTED}@{where}")
        refused(f"{scheme}://{user}:{WRONG.replace(':', '%3A')}@{where}")
        refused(f"{scheme}://{where}")


@pytest.mark.brokers("amqp")
def test_a_wrong_password_for_rabbitmq(broker):
    """The same where the broker has users already, and for a virtual host that is not there."""
    where = f"127.0.0.1:{broker.port}"
    assert "refuses the user" in refused(f"amqp://guest:{WRONG.replace(':', '%3A')}@{where}")
    assert "nowhere" in refused(f"amqp://guest:guest@{where}/nowhere")
    works(f"rabbitmq://{where}/%2F")


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl on the PATH")
@leaves_sockets
@pytest.mark.usefixtures("collected")
@pytest.mark.parametrize("scheme", here(*SCHEMES))
def test_tls(scheme):
    """With the authority named it works; without, or without TLS, it is refused."""
    with running(SECURE[scheme]) as broker:
        secure = {"mqtt": "mqtts", "redis": "rediss"}.get(scheme, scheme)
        where = f"127.0.0.1:{broker.port}"
        works(f"{secure}://{where}?tls_ca={broker.folder}/cert.pem")
        works(f"{secure}://{where}?tls_verify=no")
        refused(f"{secure}://{where}?timeout=3{'&tls=yes' if scheme == 'nats' else ''}")
        if scheme != "nats":  # whose servers say first that they want TLS
            refused(f"{scheme}://ate:{QUOTED}@{where}?timeout=2")


@leaves_sockets
@pytest.mark.usefixtures("collected")
@pytest.mark.parametrize("scheme", here("mqtts", "rediss", "amqps"))
def test_tls_where_there_is_none(scheme):
    """A broker without TLS is not taken for one with it."""
    name = {"mqtts": "mqtt", "rediss": "redis", "amqps": "redis"}[scheme]
    with running(BROKERS[name]) as broker:
        refused(f"{scheme}://ate:{QUOTED}@127.0.0.1:{broker.port}?timeout=2")


@pytest.mark.parametrize("scheme", here("mqtts", "rediss", "amqps", "nats"))
def test_files_that_are_none(scheme, tmp_path):
    """Bad input: a certificate that cannot be read is a mistake of the URL."""
    needed(BROKERS[{"mqtts": "mqtt", "rediss": "redis", "amqps": "amqp"}.get(scheme, scheme)])
    (tmp_path / "empty.pem").write_text("")
    with pytest.raises(BusURLError, match=r"empty\.pem"):
        Distributer(f"{scheme}://127.0.0.1:1?tls_ca={tmp_path}/empty.pem").connect()


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("mqtt://127.0.0.1?qos=3", "qos"),
        ("mqtt://127.0.0.1?keepalive=soon", "keepalive"),
        ("mqtt://127.0.0.1?keepalife=3", "did you mean 'keepalive'"),
        ("mqtt://a,b", "names one host"),
        ("redis://127.0.0.1/first", "database's number"),
        ("amqp://127.0.0.1?queue_expires=0", "queue_expires"),
        ("nats://127.0.0.1?tls=perhaps", "yes or no"),
        ("file://host/folder", "three slashes"),
        ("file:///tmp/x?from=middle", "start, end"),
    ],
)
def test_options_that_cannot_be(url, said):
    """Bad input: told when the distributer is made, before anything is connected."""
    needed(BROKERS[url.split(":")[0]])
    with pytest.raises(BusURLError, match=said):
        Distributer(url)
