"""Applications over real brokers: the documented usage in both forms, many requests at once."""

from __future__ import annotations

import asyncio
import queue
import shutil
import subprocess
import threading
import uuid

import pytest
from brokers import BROKERS, Mosquitto, needed

from ate_dispatcher import BusConnectionError, NoReplyError, RemoteError
from ate_dispatcher.application import (
    DistributionApplication,
    KafkaConfig,
    Message,
    MqttConfig,
    SocketProviderFactory,
)
from ate_dispatcher.bus import Distributer, drivers_at_hand
from ate_dispatcher.testing import Gate

BOUND = 40.0
"""Seconds that anything may take before a test gives up on it."""

SILENCE = 2.0
"""Seconds after which a request to a silent responder gives up."""

NAMES = [name for name in ("mqtt", "redis", "nats", "kafka") if name in drivers_at_hand()]


@pytest.fixture(scope="module", params=NAMES)
def broker(request):
    kind = BROKERS[request.param]
    needed(kind)
    with kind() as running:
        yield running


@pytest.fixture
def provider(broker):
    return SocketProviderFactory.from_url(broker.url)


@pytest.fixture
def root():
    """A word that no other test's topics begin with."""
    return f"t{uuid.uuid4().hex[:10]}"


def taken(found, count=1):
    items = [found.get(timeout=BOUND) for _ in range(count)]
    return items[0] if count == 1 else items


def test_the_documented_usage(provider, root):
    """A producer and an application, plain and as coroutines, publish, ask and answer."""
    app, found = DistributionApplication(provider), queue.Queue()

    @app.application([f"{root}.heard"], state="plain")
    def heard(message, socket, state):
        found.put((state, message.payload, message.topic, message.client_name))

    @app.application(f"{root}.asked", state="async")
    async def asked(message, socket, state):
        await socket.reply(message, [state, message.payload])

    @app.producer()
    def plain(socket, state):
        socket.publish(Message({"volts": None}, f"{root}.heard"))
        found.put(socket.request(Message(1, f"{root}.asked"), timeout=BOUND).payload)

    @app.producer()
    async def coroutine(socket, state, message_builder):
        answer = await socket.request(message_builder(2, f"{root}.asked"), timeout=BOUND)
        found.put(answer.payload)

    with app:
        items = taken(found, 3)
    for item in (
        ("plain", {"volts": None}, f"{root}.heard", "application.plain"),
        ["async", 1],
        ["async", 2],
    ):
        assert item in items


def test_its_topics_outlive_it(provider, broker, root):
    """Defect: exit deleted the application's own topics. It runs again, and hears again."""
    app, found = DistributionApplication(provider), queue.Queue()
    app.application(f"{root}.a")(lambda message, socket, state: found.put(message.payload))
    with provider.socket() as client:
        for turn in range(2):
            with app:
                client.publish(Message(turn, f"{root}.a"))
                assert taken(found) == turn
    if broker.url.startswith("kafka"):
        from confluent_kafka.admin import AdminClient

        admin = AdminClient({"bootstrap.servers": broker.servers})
        assert any(root in topic for topic in admin.list_topics(timeout=BOUND).topics)


@pytest.fixture
def responders(provider, root):
    """Responders: one that answers, one slow, one failing, one silent; the slow one's gate."""
    with Gate(timeout=BOUND) as gate:
        server = DistributionApplication(provider, name="server")

        @server.application(f"{root}.echo")
        def echo(message, socket, state):
            socket.reply(message, message.payload)

        @server.application(f"{root}.slow")
        async def slow(message, socket, state):
            await asyncio.get_running_loop().run_in_executor(None, gate.park)
            await socket.reply(message, message.payload)

        @server.application(f"{root}.failing")
        def failing(message, socket, state):
            raise ValueError(f"no {message.payload}")

        @server.application(f"{root}.silent")
        def silent(message, socket, state): ...

        with server:
            yield gate
            gate.open()


KINDS = ("echo", "slow", "failing", "silent")


def judge(kind, number, answer):
    if kind in ("echo", "slow"):
        return isinstance(answer, Message) and answer.payload == number
    if kind == "failing":
        return isinstance(answer, RemoteError) and str(answer) == f"ValueError: no {number}"
    return isinstance(answer, NoReplyError)


def test_100_requests_from_10_threads_never_cross(provider, root, responders):
    """Over a real broker, with a slow, a failing and a silent responder among them."""
    wrong = queue.Queue()

    def ask(client, thread):
        for step in range(10):
            kind, number = KINDS[(thread + step) % 4], thread * 100 + step
            try:
                timeout = 0.1 if kind == "silent" else BOUND
                answer = client.request(Message(number, f"{root}.{kind}"), timeout=timeout)
            except (RemoteError, NoReplyError) as error:
                answer = error
            if not judge(kind, number, answer):
                wrong.put((kind, number, answer))

    with provider.socket() as client:
        threads = [threading.Thread(target=ask, args=(client, n)) for n in range(10)]
        for thread in threads:
            thread.start()
        responders.wait_parked(1)
        responders.open()
        for thread in threads:
            thread.join(BOUND)
        assert not any(thread.is_alive() for thread in threads)
    assert list(wrong.queue) == []


def test_100_requests_from_one_loop_never_cross(provider, root, responders):
    """The same from one event loop, all at once."""

    async def ask(socket, number):
        kind = KINDS[number % 4]
        try:
            timeout = SILENCE if kind == "silent" else BOUND
            answer = await socket.request(Message(number, f"{root}.{kind}"), timeout)
        except (RemoteError, NoReplyError) as error:
            answer = error
        return judge(kind, number, answer)

    async def main():
        async with provider.async_socket() as socket:
            asked = asyncio.gather(*(ask(socket, number) for number in range(100)))
            await asyncio.get_running_loop().run_in_executor(None, responders.wait_parked, 1)
            responders.open()
            return await asked

    assert asyncio.run(main()) == [True] * 100


class LockedMosquitto(Mosquitto):
    """Only for the user ate."""

    @property
    def settings(self):
        path = self.folder / "passwords"
        program = shutil.which("mosquitto_passwd") or "/usr/bin/mosquitto_passwd"
        subprocess.run([program, "-b", "-c", str(path), "ate", "s3cret/@"], check=True)
        path.chmod(0o644)
        return f"allow_anonymous false\npassword_file {path}\n"


def once(config, topic):
    """Send one message through an application of this configuration."""
    app, found = DistributionApplication(SocketProviderFactory.from_config(config)), queue.Queue()
    app.application(topic)(lambda message, socket, state: found.put(message.client_name))
    app.producer()(lambda socket, state: socket.publish(Message(1, topic)))
    with app:
        return taken(found)


def test_mqtt_config_says_who_we_are():
    """Defect: username and password silently ignored. With them we are let in, else refused."""
    needed(Mosquitto)
    with LockedMosquitto() as broker:
        options = {"host": "127.0.0.1", "port": broker.port, "client_id": "rack2"}
        known = MqttConfig(username="ate", password="s3cret/@", **options)
        assert once(known, "a") == "rack2"
        for wrong in ({}, {"username": "ate"}, {"username": "ate", "password": "other"}):
            with pytest.raises(BusConnectionError) as caught:
                once(MqttConfig(**wrong, **options), "a")
            assert "other" not in str(caught.value)


def test_mqtt_config_that_retains(root):
    """What is published is kept for those who come later; a question and its answer are not."""
    needed(Mosquitto)
    app, heard = queue.Queue(), queue.Queue()
    with Mosquitto() as broker:
        config = MqttConfig("127.0.0.1", broker.port, retain=True)
        provider = SocketProviderFactory.from_config(config)
        with provider.socket(app.put) as answering, provider.socket() as asking:
            answering.subscribe([f"{root}.ask", f"{root}.tell"])
            asking.publish(Message("kept", f"{root}.tell"))
            assert taken(app).payload == "kept"
            thread = threading.Thread(target=lambda: answering.reply(taken(app), "yes"))
            thread.start()
            assert asking.request(Message("now?", f"{root}.ask"), BOUND).payload == "yes"
            thread.join(BOUND)
        with Distributer(broker.url) as later:
            later.subscribe(heard.put, f"{root}.#", "ate.reply.#")
            later.publish("fence", f"{root}.fence")
            assert [taken(heard)["payload"], taken(heard)] == ["kept", "fence"]


def test_kafka_config_with_a_group(root):
    """The document's other configuration, group and all: what came meanwhile is not lost."""
    needed(BROKERS["kafka"])
    with BROKERS["kafka"]() as broker:
        config = KafkaConfig(broker.servers, group_id="g", client_id="rack2")
        assert once(config, f"{root}.a") == "rack2"
        with Distributer(config.url) as bus:
            bus.publish("meanwhile", f"{root}.a")
        app = DistributionApplication(SocketProviderFactory.from_config(config))
        found = queue.Queue()
        app.application(f"{root}.a")(lambda message, socket, state: found.put(message.payload))
        with app:
            assert taken(found) == "meanwhile"
