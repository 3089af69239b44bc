"""Real brokers for the tests: private servers on free ports, ended by their process id.

Each is a context manager whose `url` is a bus URL. `kill` and `restart` let a test end its broker
in the middle; `Proxy` cuts the network between a client and a broker that stays up.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from typing import Any, Callable, Dict, List, Optional, Tuple, Type

import pytest

__all__ = ["BROKERS", "Broker", "Proxy", "free_port", "needed", "until"]

SYSTEM_FOLDERS = ("/usr/sbin", "/usr/local/sbin")

PATIENCE = 30.0
"""Seconds that a broker may take to answer after its start."""


def until(condition: Callable[[], Any]) -> None:
    """Wait for what another program, or another thread, does by itself."""
    limit = time.monotonic() + 2 * PATIENCE
    while not condition():
        assert time.monotonic() < limit
        time.sleep(0.005)


def free_port() -> int:
    """Give a port of the loopback interface that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def group_states(group: int) -> List[str]:
    """Give the state of every thread of a process group, one letter each, as Linux tells them."""
    states = []
    for stat in pathlib.Path("/proc").glob("[0-9]*/task/[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it has ended meanwhile
            state, _, own = stat.read_text().rpartition(")")[2].split()[:3]
            if int(own) == group:
                states.append(state)
    return states


class Broker:
    """One private server. Subclasses say what is run, and what its URL is."""

    program = ""
    """What must be installed; empty for a broker inside this process."""
    library = ""
    """The client library that the driver imports."""
    folders: Tuple[str, ...] = ()
    """Where to look for the program before the PATH."""

    def __init__(self) -> None:
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="ate-broker-"))
        self.port = free_port()
        self.process: Optional[subprocess.Popen[bytes]] = None

    @classmethod
    def missing(cls) -> str:
        """Say what is not installed; empty if all is there."""
        if cls.program and not cls.find():
            return f"needs {cls.program} on the PATH"
        if cls.library:
            try:
                __import__(cls.library)
            except ImportError:
                return f"needs the client library {cls.library}"
        return ""

    @classmethod
    def find(cls, program: str = "") -> Optional[str]:
        path = os.pathsep.join((*cls.folders, os.environ.get("PATH", ""), *SYSTEM_FOLDERS))
        return shutil.which(program or cls.program, path=path)

    @property
    def url(self) -> str:
        raise NotImplementedError

    def command(self) -> List[str]:
        raise NotImplementedError

    def environment(self) -> Dict[str, str]:
        return {}

    def start(self) -> None:
        with open(self.folder / "log", "ab") as log:
            self.process = subprocess.Popen(
                self.command(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.folder,
                env={**os.environ, **self.environment()},
                start_new_session=True,  # so that a Ctrl-C of the tests does not reach it
            )
        self.wait_ready()

    def wait_ready(self) -> None:
        """Return once it accepts connections."""
        limit = time.monotonic() + PATIENCE
        while time.monotonic() < limit:
            assert self.process is not None
            if self.process.poll() is not None:
                raise RuntimeError(f"{self.program} ended: {self.log()}")
            with contextlib.suppress(OSError), socket.create_connection(
                ("127.0.0.1", self.port), timeout=1
            ):
                return
            time.sleep(0.02)
        raise RuntimeError(f"{self.program} did not answer within {PATIENCE} s: {self.log()}")

    def log(self) -> str:
        return (self.folder / "log").read_text(errors="replace")[-2000:]

    def kill(self) -> None:
        """End it without a farewell."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def freeze(self) -> None:
        """Stop it where it stands; it no longer runs when this returns."""
        assert self.process is not None
        os.killpg(self.process.pid, signal.SIGSTOP)
        limit = time.monotonic() + PATIENCE
        # A signal is only on its way when `killpg` returns.
        while any(state not in "TtZX" for state in group_states(self.process.pid)):
            assert time.monotonic() < limit, f"{self.program} cannot be stopped"
            time.sleep(0.001)

    def thaw(self) -> None:
        """Let it go on."""
        assert self.process is not None
        os.killpg(self.process.pid, signal.SIGCONT)

    def restart(self) -> None:
        """Start it again, on the same port and with the same data."""
        self.kill()
        self.start()

    def __enter__(self) -> Any:
        self.start()
        return self

    def __exit__(self, *error: Any) -> None:
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)


class Memory(Broker):
    def start(self) -> None: ...

    @property
    def url(self) -> str:
        return f"memory://contract{self.port}"


class File(Broker):
    def start(self) -> None: ...

    @property
    def url(self) -> str:
        return f"file://{self.folder}/"


class Mosquitto(Broker):
    program = "mosquitto"
    library = "paho.mqtt.client"
    settings = "allow_anonymous true\n"

    @property
    def url(self) -> str:
        return f"mqtt://127.0.0.1:{self.port}"

    def command(self) -> List[str]:
        configuration = self.folder / "mosquitto.conf"
        configuration.write_text(
            f"listener {self.port} 127.0.0.1\n{self.settings}set_tcp_nodelay true\n"
            f"persistence true\npersistence_location {self.folder}/\n"
            "autosave_interval 1\nautosave_on_changes true\n"
        )
        self.folder.chmod(0o777)  # started by root it gives its rights away
        return [str(self.find()), "-c", str(configuration)]


class Nats(Broker):
    program = "nats-server"
    library = "nats"

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"

    def command(self) -> List[str]:
        return [str(self.find()), "-a", "127.0.0.1", "-p", str(self.port)]


class Redis(Broker):
    program = "redis-server"
    library = "redis"
    settings: List[str] = []

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    def command(self) -> List[str]:
        return [
            *(str(self.find()), "--bind", "127.0.0.1", "--port", str(self.port)),
            *("--save", "", "--appendonly", "yes", "--appendfsync", "always"),
            *("--dir", str(self.folder), *self.settings),
        ]


class RabbitMQ(Broker):
    """A private node; it takes some seconds to start, and has a port mapper of its own."""

    program = "rabbitmq-server"
    library = "pika"
    # Behind the one on the PATH, which on Debian becomes another user and cannot write our folder.
    folders = ("/usr/lib/rabbitmq/bin",)
    settings = ""

    def __init__(self) -> None:
        super().__init__()
        self.distribution, self.mapper = free_port(), free_port()
        self.epmd: Optional[subprocess.Popen[bytes]] = None

    @property
    def url(self) -> str:
        return f"amqp://guest:guest@127.0.0.1:{self.port}"

    def command(self) -> List[str]:
        return [str(self.find())]

    def environment(self) -> Dict[str, str]:
        configuration = self.folder / "rabbitmq.conf"
        configuration.write_text(self.settings)
        return {
            "RABBITMQ_NODENAME": f"ate{self.port}@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_DIST_PORT": str(self.distribution),
            "RABBITMQ_MNESIA_BASE": str(self.folder / "mnesia"),
            "RABBITMQ_LOG_BASE": str(self.folder / "logs"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.folder / "plugins"),
            "RABBITMQ_CONFIG_FILE": str(configuration),
            "ERL_EPMD_PORT": str(self.mapper),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "HOME": str(self.folder),
        }

    def start(self) -> None:
        """Start a port mapper first: one that the server starts by itself would outlive it."""
        if self.epmd is None:
            mapper = self.find("epmd")
            assert mapper is not None, "Erlang has no epmd"
            self.epmd = subprocess.Popen([mapper, "-port", str(self.mapper)])
        super().start()

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        if self.epmd is not None:
            self.epmd.kill()
            self.epmd.wait()

    def kill(self) -> None:
        """End the server and the Erlang node below it, which are one session of their own."""
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            super().kill()

    def wait_ready(self) -> None:
        super().wait_ready()
        import pika

        limit = time.monotonic() + PATIENCE
        while True:
            try:
                pika.BlockingConnection(pika.URLParameters(self.url)).close()
                return
            except pika.exceptions.AMQPError:
                if time.monotonic() > limit:
                    raise
                time.sleep(0.1)


class Kafka(Broker):
    """librdkafka's mock cluster, in a process of its own: it can be stopped like a server.

    It is made by the C library itself, the only one that can say how long a new group waits for
    more members (``group.initial.rebalance.delay.ms`` of a server).
    """

    library = "confluent_kafka"
    script = """
import ctypes, sys
from confluent_kafka import cimpl
library = ctypes.CDLL(cimpl.__file__)  # finds what it is linked with, too
def call(name, result, *arguments):
    function = getattr(library, "rd_kafka_" + name)
    function.restype = result
    return function(*arguments)
pointer = lambda *call_: ctypes.c_void_p(call(*call_))
conf, error = pointer("conf_new", ctypes.c_void_p), ctypes.create_string_buffer(500)
call("conf_set", ctypes.c_int, conf, b"log_level", b"0", error, 500)
handle = pointer("new", ctypes.c_void_p, 0, conf, error, 500)
cluster = pointer("mock_cluster_new", ctypes.c_void_p, handle, 1)
call("mock_group_initial_rebalance_delay_ms", None, cluster, 50)
print(call("mock_cluster_bootstraps", ctypes.c_char_p, cluster).decode(), flush=True)
sys.stdin.read()
"""

    def start(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", self.script],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        assert self.process.stdout is not None
        self.servers = self.process.stdout.readline().decode().strip()
        if not self.servers:
            raise RuntimeError("librdkafka's mock cluster did not start")

    def kill(self) -> None:
        process = self.process
        super().kill()
        if process is not None:
            for pipe in (process.stdin, process.stdout):
                assert pipe is not None
                pipe.close()

    @property
    def url(self) -> str:
        # The mock always waits so long for messages, and nearly a session for a group's members.
        return f"kafka://{self.servers}?fetch_wait=0.01&session_timeout=1.5"


BROKERS: Dict[str, Type[Broker]] = {
    "memory": Memory,
    "file": File,
    "mqtt": Mosquitto,
    "nats": Nats,
    "redis": Redis,
    "amqp": RabbitMQ,
    "kafka": Kafka,
}


def needed(kind: Type[Broker]) -> None:
    """Skip where a broker is not installed; fail where it must be."""
    missing = kind.missing()
    if missing and os.environ.get("ATE_REQUIRE_BROKERS") == "1":
        pytest.fail(missing)
    if missing:
        pytest.skip(missing)


class Proxy:
    """A TCP relay in front of a broker, to cut the network without ending the broker."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._lock = threading.Lock()
        self._cut = False
        self._open: Dict[socket.socket, None] = {}
        self._threads: List[threading.Thread] = []
        self._spawn(self._accept)

    def _spawn(self, target: Any, *arguments: Any) -> None:
        thread = threading.Thread(target=target, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            with self._lock:
                if self._cut:
                    near.close()
                    continue
                try:
                    far = socket.create_connection(("127.0.0.1", self._target))
                except OSError:
                    near.close()
                    continue
                self._open[near] = self._open[far] = None
            self._spawn(self._relay, near, far)
            self._spawn(self._relay, far, near)

    def _relay(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                data = source.recv(65536)
                if not data:
                    break
                sink.sendall(data)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def cut(self) -> None:
        """Break every connection and refuse new ones."""
        with self._lock:
            self._cut = True
            for end in tuple(self._open):
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)

    def restore(self) -> None:
        """Let new connections through again."""
        with self._lock:
            self._cut = False

    def __enter__(self) -> Proxy:
        return self

    def __exit__(self, *error: Any) -> None:
        self.cut()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(30)
        for end in tuple(self._open):
            end.close()
