"""Applications over the bus in memory: functions, sockets, resources, errors, the way out."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import inspect
import os
import queue
import signal
import sqlite3
import subprocess
import sys
import threading
import uuid
from dataclasses import replace

import pytest

from ate_dispatcher import (
    BusConnectionError,
    InvalidArgumentError,
    InvalidTypeError,
    NoReplyError,
    NotJSONError,
    RemoteError,
    ResourceError,
    StateError,
)
from ate_dispatcher.application import (
    DistributedApplication,
    DistributionApplication,
    Message,
    MessageBuilder,
    SocketProviderFactory,
)
from ate_dispatcher.application._function import Policy
from ate_dispatcher.application._worker import Worker
from ate_dispatcher.bus import Distributer
from ate_dispatcher.testing import Gate

BOUND = 60.0
"""Seconds that anything may take before a test gives up on it."""


@pytest.fixture
def url():
    """A bus that no other test is on."""
    return f"memory://{uuid.uuid4().hex}"


@pytest.fixture
def provider(url):
    return SocketProviderFactory.from_url(url)


@pytest.fixture
def app(provider):
    return DistributionApplication(provider)


@pytest.fixture
def client(provider):
    """A socket outside of any application."""
    with provider.socket(name="client") as socket:
        yield socket


@pytest.fixture
def bus(url):
    with Distributer(url) as bus:
        yield bus


class Resource:
    """A plain context manager that says what happens to it, and on which thread."""

    def __init__(self, name, log, fail=False):
        self.name, self.log, self.fail = name, log, fail

    def __enter__(self):
        if self.fail:
            raise OSError(f"{self.name} is broken")
        self.log.append(("enter", self.name, threading.current_thread()))
        return self.name.upper()

    def __exit__(self, *error):
        self.log.append(("exit", self.name, threading.current_thread()))


class AsyncResource(Resource):
    """The same, asynchronous."""

    __enter__ = None  # type: ignore[assignment]
    __exit__ = None  # type: ignore[assignment]

    async def __aenter__(self):
        self.task = asyncio.current_task()
        return Resource.__dict__["__enter__"](self)

    async def __aexit__(self, *error):
        assert asyncio.current_task() is self.task
        Resource.__dict__["__exit__"](self)


def taken(found, count=1):
    """Wait for so many things in a queue."""
    items = [found.get(timeout=BOUND) for _ in range(count)]
    return items[0] if count == 1 else items


# ---- as documented -------------------------------------------------------------------------------


def test_a_producer_and_an_application(app):
    """The document's first page: what one publishes, the other is called with."""
    found = queue.Queue()

    @app.application("site.voltage", state={"limit": 5})
    def check(message, socket, state, **ressources):
        found.put((message.payload, message.topic, message.client_name, state, ressources))

    @app.producer(state=[1, 2])
    def measure(socket, state):
        for value in state:
            socket.publish(Message(value, "site.voltage"))

    with app:
        assert taken(found, 2) == [
            (value, "site.voltage", "application.measure", {"limit": 5}, {}) for value in (1, 2)
        ]


def test_the_same_with_coroutines(app):
    """The document's own form: ``async def`` functions, on one loop thread of the application."""
    found = queue.Queue()

    @app.application(["a", "b.*"])
    async def consumer(message, socket, state):
        await socket.reply(message, [message.topic, state])
        found.put(threading.current_thread())

    @app.producer(state="s")
    async def producer(socket, state, message_builder):
        first = await socket.request(message_builder(1, "a"))
        second = await socket.request(message_builder(1, "b.c"), timeout=BOUND)
        found.put((first.payload, second.payload, threading.current_thread()))

    with app:
        one, two, (first, second, three) = taken(found, 3)
    assert (first, second) == (["a", None], ["b.c", None])
    assert one is two is three


def test_the_alias():
    """Two names in the documents, one class."""
    assert DistributedApplication is DistributionApplication


def test_the_documented_signatures():
    """The decorators take what the document says, by these names and with these defaults."""
    producer = inspect.signature(DistributionApplication.producer).parameters
    application = inspect.signature(DistributionApplication.application).parameters
    for found in (producer, application):
        defaults = [found[name].default for name in ("socket_provider", "state", "ressources")]
        assert defaults == [None, None, {}]
        assert found["state"].kind is inspect.Parameter.KEYWORD_ONLY
    assert application["topics"].kind is inspect.Parameter.POSITIONAL_OR_KEYWORD


def test_decorators_give_the_function_back(app):
    """Defect: they returned None."""

    def one(message, socket, state): ...

    def two(socket, state): ...

    assert app.application("a")(one) is one
    assert app.producer()(two) is two


def test_a_string_is_one_topic(app, client):
    """Defect: a string taken as a list of letters."""
    found = queue.Queue()

    @app.application("abc")
    def heard(message, socket, state):
        found.put(message.topic)

    with app:
        client.publish(Message(1, "a"))
        client.publish(Message(1, "abc"))
        assert taken(found) == "abc"


def test_the_message_builder_goes_where_it_is_asked_for(app, client):
    """A function with ``**ressources`` finds its resources there and nothing else."""
    found = queue.Queue()

    @app.application("a")
    def with_it(message, socket, state, *, message_builder):
        found.put(message_builder(1, "x"))

    @app.application("b")
    def without(message, socket, state, **ressources):
        found.put(ressources)

    with app:
        client.publish(Message(None, "a"))
        assert taken(found) == Message(1, "x", client_name="application.with_it")
        client.publish(Message(None, "b"))
        assert taken(found) == {}


def test_default_subscription_topics_come_too(url, client):
    """Configuration: every application of a provider hears them, and it has its own topics."""
    found = queue.Queue()
    provider = SocketProviderFactory.from_config(
        {"url": url, "default_subscription_topics": ["all", "a"]}
    )
    app = DistributionApplication(provider)

    @app.application("a")
    def heard(message, socket, state):
        found.put(message.topic)

    with app:
        for topic in ("all", "a", "all"):
            client.publish(Message(None, topic))
        assert taken(found, 3) == ["all", "a", "all"]


def test_applications_of_one_group_share_the_messages(url, client):
    """Configuration: of two in one group, one gets each message."""
    found = queue.Queue()
    provider = SocketProviderFactory.from_url(f"{url}?group=g")
    apps = [DistributionApplication(provider, name=name) for name in ("one", "two")]
    for app in apps:

        @app.application("work")
        def work(message, socket, state):
            found.put(message.payload)

    with apps[0], apps[1]:
        for number in range(10):
            client.publish(Message(number, "work"))
        assert sorted(taken(found, 10)) == list(range(10))
    assert found.empty()


def test_several_applications_in_one_process(provider):
    """Two applications speak with each other, each on its own threads."""
    server = DistributionApplication(provider, name="server")
    asker = DistributionApplication(provider, name="asker")
    found = queue.Queue()

    @server.application("q")
    def answer(message, socket, state):
        socket.reply(message, message.client_name)

    @asker.producer()
    def ask(socket, state):
        found.put(socket.request(Message(0, "q")).payload)

    with server, asker:
        assert taken(found) == "asker.ask"


# ---- sockets -------------------------------------------------------------------------------------


@pytest.fixture
def responders(provider):
    """Responders: one that answers, one slow, one failing, one silent; the slow one's gate."""
    with Gate(timeout=BOUND) as gate:
        server = DistributionApplication(provider, name="server")

        @server.application("echo")
        def echo(message, socket, state):
            socket.reply(message, message.payload)

        @server.application("echo.async")
        async def echo_async(message, socket, state):
            await asyncio.sleep(0)
            await socket.reply(message, message.payload)

        @server.application("slow")
        def slow(message, socket, state):
            gate.park()
            socket.reply(message, message.payload)

        @server.application("failing")
        def failing(message, socket, state):
            raise ValueError(f"no {message.payload}")

        @server.application("silent")
        def silent(message, socket, state): ...

        with server:
            yield gate
            gate.open()


KINDS = ("echo", "echo.async", "slow", "failing", "silent")


def judge(kind, number, answer):
    """Say whether this is what that responder makes of a request."""
    if kind in ("echo", "echo.async", "slow"):
        return isinstance(answer, Message) and answer.payload == number
    if kind == "failing":
        return isinstance(answer, RemoteError) and str(answer) == f"ValueError: no {number}"
    return isinstance(answer, NoReplyError)


def test_100_requests_from_10_threads_never_cross(client, responders):
    """Defect: concurrent requests crossing. A slow, a failing and a silent responder among them."""
    wrong, lock = [], threading.Lock()
    start = threading.Barrier(10)

    def ask(thread):
        start.wait(BOUND)
        for step in range(10):
            kind, number = KINDS[(thread + step) % 5], thread * 100 + step
            try:
                timeout = 0.3 if kind == "silent" else BOUND
                answer = client.request(Message(number, kind), timeout=timeout)
            except (RemoteError, NoReplyError) as error:
                answer = error
            if not judge(kind, number, answer):
                with lock:
                    wrong.append((kind, number, answer))

    threads = [threading.Thread(target=ask, args=(n,)) for n in range(10)]
    for thread in threads:
        thread.start()
    responders.wait_parked(1)
    responders.open()
    for thread in threads:
        thread.join(BOUND)
    assert not any(thread.is_alive() for thread in threads)
    assert wrong == []
    assert len(client._correlations) == 0


async def parked(gate):
    """Wait until somebody is at the gate, while the loop goes on."""
    await asyncio.get_running_loop().run_in_executor(None, gate.wait_parked, 1)


def test_100_requests_from_one_loop_never_cross(provider, responders):
    """The same from one event loop, all at once, while the loop goes on."""

    async def ask(socket, number):
        kind = KINDS[number % 5]
        try:
            timeout = 0.3 if kind == "silent" else BOUND
            answer = await socket.request(Message(number, kind), timeout)
        except (RemoteError, NoReplyError) as error:
            answer = error
        return judge(kind, number, answer)

    async def main():
        async with provider.async_socket() as socket:
            asked = asyncio.gather(*(ask(socket, number) for number in range(100)))
            await parked(responders)  # for ever, if the loop were blocked
            responders.open()
            return await asked

    assert asyncio.run(main()) == [True] * 100


def test_a_request_that_nobody_answers(client):
    """Defect: a request without a timeout. The error says topic and time, and is a TimeoutError."""
    with pytest.raises(NoReplyError, match=r"'nobody\.there' within 0\.05 s") as caught:
        client.request(Message(1, "nobody.there"), timeout=0.05)
    assert isinstance(caught.value, TimeoutError)
    default = inspect.signature(type(client).request).parameters["timeout"].default
    assert 0 < default < 3600


def test_a_late_answer_is_dropped_and_counted(provider, client, responders):
    """What comes after the timeout reaches nobody, not the next request either."""
    with pytest.raises(NoReplyError):
        client.request(Message("late", "slow"), timeout=0.05)
    responders.open()
    assert client.request(Message("next", "slow"), timeout=BOUND).payload == "next"
    assert client.late == 1


def test_a_cancelled_request_leaves_nothing(provider, responders):
    """Cancellation-safe: the answer is dropped, the socket goes on."""

    async def main():
        async with provider.async_socket() as socket:
            asking = asyncio.ensure_future(socket.request(Message(1, "slow"), BOUND))
            await parked(responders)
            asking.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asking
            assert len(socket._socket._correlations) == 0
            responders.open()
            answer = await socket.request(Message(2, "slow"), BOUND)
            return answer.payload, socket.late

    assert asyncio.run(main()) == (2, 1)


def test_a_reply_to_what_wants_none(app, client, caplog):
    """Replying to what was published is an error of the caller's, told as such."""
    found = queue.Queue()

    @app.application("a")
    def heard(message, socket, state):
        try:
            socket.reply(message, 1)
        except InvalidArgumentError as error:
            found.put(str(error))

    with app:
        client.publish(Message(1, "a"))
        assert "'a' wants no reply" in taken(found)


@pytest.mark.parametrize("timeout", [None, 0, -1, float("inf"), float("nan"), True, "1"])
def test_a_timeout_that_cannot_be_meant(client, timeout):
    """A request always ends: there is no timeout without end."""
    with pytest.raises((InvalidTypeError, InvalidArgumentError), match="timeout"):
        client.request(Message(1, "a"), timeout=timeout)


def test_what_is_no_message(client):
    """Bad input: told before anything is sent."""
    for verb in (client.publish, client.request, lambda message: client.reply(message, 1)):
        with pytest.raises(InvalidTypeError, match="must be a Message"):
            verb({"payload": 1})
    with pytest.raises(NotJSONError):
        client.publish(Message({1, 2}, "a"))
    with pytest.raises(NotJSONError):
        client.request(Message(object(), "a"))
    with pytest.raises(InvalidArgumentError, match="reply topic"):
        client.request(Message(1, "a", reply_topic="mine"))
    with pytest.raises(InvalidArgumentError, match="wildcard"):
        Message(1, "a.*")
    with pytest.raises(InvalidTypeError, match="client_name"):
        Message(1, "a", client_name=None)


def test_a_message_is_frozen():
    """A message handed to two functions is the same for both."""
    message = Message(1, "a")
    with pytest.raises(AttributeError):
        message.payload = 2
    assert replace(message, payload=2).payload == 2
    assert MessageBuilder("me")(1, "a").client_name == "me"


def test_falsy_payloads_arrive_as_sent(provider):
    """None, zero and empty are payloads."""
    found = queue.Queue()
    sent = [None, 0, False, "", [], {}]
    with provider.socket(found.put) as socket:
        socket.subscribe("a")
        for payload in sent:
            socket.publish(Message(payload, "a"))
        assert [message.payload for message in taken(found, len(sent))] == sent


def test_subscribe_and_unsubscribe(provider, client):
    """Topics come and go while it runs; what two of them match comes once."""
    found = queue.Queue()
    with provider.socket(found.put) as socket:
        socket.subscribe("a.*")
        socket.subscribe(["a.b", "c", "d"])
        socket.subscribe("c")
        for topic in ("a.b", "a.x", "c", "d"):
            client.publish(Message(None, topic))
        assert sorted(m.topic for m in taken(found, 4)) == ["a.b", "a.x", "c", "d"]
        socket.unsubscribe(["a.*", "d", "never.was"])
        for topic in ("a.x", "d", "a.b", "c"):
            client.publish(Message(None, topic))
        assert sorted(m.topic for m in taken(found, 2)) == ["a.b", "c"]
        socket.unsubscribe("c")
        socket.subscribe("c")
        client.publish(Message(None, "c"))
        assert taken(found).topic == "c"
    assert found.empty()


def test_a_function_changes_its_own_topics(app, client):
    """A handler may subscribe and unsubscribe without waiting for itself."""
    found = queue.Queue()

    @app.application("a")
    def heard(message, socket, state):
        if message.topic == "a":
            socket.subscribe("b")
            socket.unsubscribe("a")
        found.put(message.topic)

    with app:
        client.publish(Message(None, "a"))
        assert taken(found) == "a"
        client.publish(Message(None, "a"))
        client.publish(Message(None, "b"))
        assert taken(found) == "b"


def test_a_producer_has_nobody_to_give_messages_to(app):
    """Bad input: subscribing where nothing could be called."""
    found = queue.Queue()

    @app.producer()
    def producer(socket, state):
        try:
            socket.subscribe("a")
        except StateError as error:
            found.put(str(error))

    with app:
        assert "no callback" in taken(found)


def test_a_closed_socket(provider):
    """Bad input: used after it was closed."""
    socket = provider.socket()
    with socket:
        pass
    socket.close()
    for verb in (socket.publish, socket.request):
        with pytest.raises(StateError, match="closed"):
            verb(Message(1, "a"))


def test_closing_wakes_who_waits_for_an_answer(provider, responders):
    """A request on a socket that is closed ends at once, not at its timeout."""
    told = queue.Queue()
    socket = provider.socket()

    def ask():
        try:
            socket.request(Message(1, "slow"), timeout=BOUND * 10)
        except StateError as error:
            told.put(str(error))

    with socket:
        asking = threading.Thread(target=ask)
        asking.start()
        responders.wait_parked(1)
    assert "closed" in taken(told)
    asking.join(BOUND)


# ---- what comes from outside ---------------------------------------------------------------------


def test_one_malformed_message_never_kills_the_reader(app, url, bus, caplog):
    """Defect: it did. It is logged and counted, whatever the policy, and the next one arrives."""
    found = queue.Queue()

    @app.application("a", on_error="stop")
    def heard(message, socket, state):
        found.put((message.payload, socket.malformed))

    strange = [
        {"ate_message": 2, "payload": 1},
        {"ate_message": 1},
        {"ate_message": 1, "payload": 1, "reply": "a.*"},
        {"ate_message": 1, "payload": 1, "reply": 7},
        {"ate_message": 1, "payload": 1, "client": 7},
        {"ate_message": 1, "payload": 1, "correlation": []},
    ]
    with app:
        for data in strange:
            bus.publish(data, "a")
        bus._driver().publish(("a",), b"\xff no JSON")
        bus.publish({"ate_message": 1, "payload": "good"}, "a")
        assert taken(found) == ("good", len(strange) + 1)
    assert "skips a message" in caplog.text


def test_a_malformed_answer_is_skipped(provider, client, bus):
    """The same for answers: the right one still arrives."""

    def answer(data, topic):
        for strange in (1, {"ate_message": 1, "payload": 1}, {**data, "error": "e"}):
            bus.publish(strange, data["reply"])
        bus.publish({**data, "payload": "good"}, data["reply"])

    with bus.subscribe(answer, "q", with_topic=True):
        assert client.request(Message(1, "q"), timeout=BOUND).payload == "good"
    assert client.malformed == 3


def test_plain_json_is_a_payload(app, bus):
    """Who knows nothing of applications is heard all the same."""
    found = queue.Queue()

    @app.application("sensor")
    def heard(message, socket, state):
        found.put(message)

    with app:
        bus.publish({"volts": 5.01}, "sensor")
        assert taken(found) == Message({"volts": 5.01}, "sensor")


def test_on_the_wire_it_is_json(client, bus):
    """What others see: an object with the payload in it."""
    found = queue.Queue()
    with bus.subscribe(found.put, "a"):
        client.publish(Message((1, "µ"), "a", reply_topic="r", correlation="7"))
        assert taken(found) == {
            "ate_message": 1,
            "payload": [1, "µ"],
            "client": "client",
            "reply": "r",
            "correlation": "7",
        }


# ---- errors --------------------------------------------------------------------------------------


def test_an_error_is_logged_and_it_goes_on(app, client, caplog):
    """Policy "log", the default: the next message arrives."""
    found = queue.Queue()

    @app.application("a")
    def heard(message, socket, state):
        found.put(1 / message.payload)

    with app:
        client.publish(Message(0, "a"))
        client.publish(Message(1, "a"))
        assert taken(found) == 1.0
    assert "ZeroDivisionError" in caplog.text


@pytest.mark.parametrize("coroutine", [False, True])
def test_an_error_stops_the_application(provider, client, coroutine):
    """Policy "stop": `start` raises what the function raised, and the asker is told first."""
    app = DistributionApplication(provider, on_error="stop")
    if coroutine:

        @app.application("a")
        async def heard(message, socket, state):
            raise KeyError("gone")
    else:

        @app.application("a")
        def heard(message, socket, state):
            raise KeyError("gone")

    @app.producer()
    def ask(socket, state):
        with contextlib.suppress(RemoteError, StateError):
            socket.request(Message(1, "a"), BOUND)

    with pytest.raises(KeyError, match="gone"):
        app.start()
    with pytest.raises(KeyError, match="gone"), app:
        app._run.wait()


@pytest.mark.parametrize("coroutine", [False, True])
def test_dead_letters(provider, client, coroutine):
    """Policy dead letter: what could not be done, and why, is published; and it goes on."""
    app = DistributionApplication(provider, dead_letter="dead")
    letters, found = queue.Queue(), queue.Queue()
    if coroutine:

        @app.application("a")
        async def heard(message, socket, state):
            found.put(1 / message.payload)
    else:

        @app.application("a")
        def heard(message, socket, state):
            found.put(1 / message.payload)

    with provider.socket(letters.put) as reader, app:
        reader.subscribe("dead")
        client.publish(Message(0, "a"))
        client.publish(Message(1, "a"))
        assert taken(found) == 1.0
        letter = taken(letters).payload
    assert letter["topic"] == "a"
    assert letter["payload"] == 0
    assert letter["error"]["type"] == "ZeroDivisionError"


def test_a_malformed_message_becomes_a_dead_letter(provider, bus):
    """It too, as it came."""
    app = DistributionApplication(provider, dead_letter="dead")
    letters = queue.Queue()
    app.application("a")(lambda message, socket, state: None)
    with provider.socket(letters.put) as reader, app:
        reader.subscribe("dead")
        bus.publish({"ate_message": 99}, "a")
        assert taken(letters).payload["payload"] == {"ate_message": 99}


def test_a_producer_that_raises_ends_alone(app, client, caplog):
    """Policy "log" for a producer: the others go on."""
    found = queue.Queue()
    app.application("a")(lambda message, socket, state: found.put(message.payload))

    @app.producer()
    def bad(socket, state):
        raise OSError("no device")

    with app:
        client.publish(Message(1, "a"))
        assert taken(found) == 1
    assert "no device" in caplog.text


def test_system_exit_ends_its_function_alone(app, client, caplog):
    """C5: an exit inside a function is that function's."""
    found = queue.Queue()

    @app.application("a")
    def leaves(message, socket, state):
        found.put("leaving")
        sys.exit(3)

    app.application("b")(lambda message, socket, state: found.put(message.payload))
    with app:
        client.publish(Message(1, "a"))
        assert taken(found) == "leaving"
        client.publish(Message(2, "b"))
        assert taken(found) == 2


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"on_error": "retry"}, "'log' or 'stop'"),
        ({"on_error": "stop", "dead_letter": "d"}, "contradict"),
        ({"dead_letter": "d.*"}, "wildcard"),
        ({"dead_letter": "a.b"}, r"would come back.*on_error='log' and no dead_letter"),
    ],
)
def test_policies_that_cannot_be_meant(app, options, says):
    """Bad input: told where it is written."""
    with pytest.raises(InvalidArgumentError, match=says):
        app.application("a.*", **options)


def test_dead_letters_do_not_silently_replace_a_stop(provider):
    """Bad input: of an application that stops at errors; what is meant must be said."""
    app = DistributionApplication(provider, on_error="stop")
    with pytest.raises(InvalidArgumentError, match=r"contradict.*on_error='log' beside"):
        app.application("a", dead_letter="dead")
    app.application("a", on_error="log", dead_letter="dead")(print)
    assert [function.policy for function in app._functions] == [Policy(dead_letter="dead")]


def test_whoever_follows_dead_letters_sends_none(provider):
    """What the error of the application's policy advises is taken."""
    app = DistributionApplication(provider, dead_letter="dead")
    with pytest.raises(InvalidArgumentError, match="would come back"):
        app.application("dead")
    app.application("dead", on_error="log")(print)
    assert [function.policy for function in app._functions] == [Policy()]


class Yields:
    """A callable object whose call yields."""

    def __call__(self, *given):
        yield given


def yields(*given):
    yield given


async def yields_later(*given):
    yield given


@pytest.mark.parametrize(
    "function", [yields, yields_later, Yields(), functools.partial(yields), Yields().__call__]
)
def test_functions_that_yield_are_refused(app, function):
    """Bad input: nobody would run them; told at the decorator, with what to do."""
    with pytest.raises(InvalidTypeError, match=r"yields, .* with socket.publish"):
        app.producer()(function)
    with pytest.raises(InvalidTypeError, match=r"yields, .* with socket.publish"):
        app.application("a")(function)


async def never_awaited(*given):
    raise AssertionError("nobody awaits it")


@pytest.mark.parametrize(
    ("inner", "says"),
    [
        (never_awaited, "coroutine that nobody awaits: make it an async def"),
        (yields, "generator that nobody runs"),
        (yields_later, "generator that nobody runs"),
    ],
)
@pytest.mark.parametrize("coroutine", [False, True])
def test_what_is_left_to_run_is_the_error_of_its_function(provider, client, inner, says, coroutine):
    """A plain function around another that would never run: its policy holds, the asker is told.

    No coroutine is left that was never awaited; warnings are errors here.
    """
    app = DistributionApplication(provider)

    def around(*given):
        return inner(*given)

    async def around_later(*given):
        return inner(*given)

    app.producer(on_error="stop")(around_later if coroutine else around)
    with pytest.raises(InvalidTypeError, match=says):
        app.start()
    app = DistributionApplication(provider)
    app.application("a")(around_later if coroutine else around)
    with app, pytest.raises(RemoteError, match=says):
        client.request(Message(1, "a"), timeout=BOUND)


# ---- resources -----------------------------------------------------------------------------------


@pytest.mark.parametrize("coroutine", [False, True])
@pytest.mark.parametrize("keyword", ["ressources", "resources"])
def test_resources_are_entered_in_order_and_left_in_reverse(app, client, coroutine, keyword):
    """Defect: any non-empty ``ressources`` failed. Plain and asynchronous ones, for both forms."""
    log, found = [], queue.Queue()
    given = {
        "one": Resource("one", log),
        "two": AsyncResource("two", log),
        "three": Resource("three", log),
    }
    if coroutine:

        @app.application("a", **{keyword: given})
        async def heard(message, socket, state, one, **more):
            found.put((one, more, threading.current_thread()))
    else:

        @app.application("a", **{keyword: given})
        def heard(message, socket, state, one, **more):
            found.put((one, more, threading.current_thread()))

    with app:
        client.publish(Message(None, "a"))
        one, more, thread = taken(found)
        assert (one, more) == ("ONE", {"two": "TWO", "three": "THREE"})
    steps = [step[:2] for step in log]
    entered = [("enter", name) for name in given]
    assert steps == entered + [("exit", name) for name in reversed(given)]
    # So that a connection which belongs to its thread can be a resource.
    assert {step[2] for step in log if step[1] != "two"} == {thread}


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_resource_that_is_entered_once_is_told_so(app, asynchronous):
    """What ``@contextmanager`` makes, at the second start: the way out, not an AttributeError."""

    def resource():
        yield 1

    async def resource_later():
        yield 1

    if asynchronous:
        manager = contextlib.asynccontextmanager(resource_later)()
    else:
        manager = contextlib.contextmanager(resource)()
    app.producer(resources={"db": manager})(lambda socket, state, db: None)
    app.start()
    with pytest.raises(ResourceError, match=r"'db' .* is entered once: give an object of a class"):
        app.start()


def test_a_database_is_used_on_its_own_thread(app, client, tmp_path):
    """sqlite3 refuses other threads: entered, used and closed on the function's own."""

    @contextlib.contextmanager
    def database():
        connection = sqlite3.connect(str(tmp_path / "db"))
        connection.execute("create table t (n)")
        try:
            yield connection
        finally:
            connection.close()

    @app.application("put", ressources={"db": database()})
    def put(message, socket, state, db):
        db.execute("insert into t values (?)", (message.payload,))
        socket.reply(message, db.execute("select sum(n) from t").fetchone()[0])

    with app:
        assert [client.request(Message(n, "put"), BOUND).payload for n in (1, 2, 3)] == [1, 3, 6]


def test_a_producers_error_reaches_its_resources(app, caplog):
    """As in a ``with`` block: a transaction is rolled back, not committed."""
    seen = queue.Queue()

    @contextlib.contextmanager
    def transaction():
        try:
            yield
        except ValueError as error:
            seen.put(str(error))
            raise

    @app.producer(ressources={"t": transaction()})
    def bad(socket, state, t):
        raise ValueError("half done")

    app.start()
    assert taken(seen) == "half done"


@pytest.mark.parametrize("kind", [Resource, AsyncResource])
@pytest.mark.parametrize("coroutine", [False, True])
def test_a_resource_that_cannot_be_entered(app, client, kind, coroutine):
    """The application does not start, those entered are left, the error says which."""
    log, called = [], []
    app.application("a", ressources={"first": Resource("first", log)})(
        lambda message, socket, state, first: called.append(message)
    )
    given = {"second": kind("second", log), "third": kind("third", log, fail=True)}
    if coroutine:

        @app.producer(ressources=given)
        async def producer(socket, state, second, third):
            called.append(1)
    else:

        @app.producer(ressources=given)
        def producer(socket, state, second, third):
            called.append(1)

    for begin in (app.start, app.__enter__):
        log.clear()
        with pytest.raises(
            ResourceError, match=r"'third' of 'producer' .*OSError: third is broken"
        ) as caught:
            begin()
        assert isinstance(caught.value.__cause__, OSError)
        assert [step[:2] for step in log] == [
            *(("enter", name) for name in ("first", "second")),
            *(("exit", name) for name in ("second", "first")),
        ]
    assert called == []


def test_stop_while_it_fails_to_start(app):
    """Who stops an application that comes to nothing is not left waiting."""
    told = queue.Queue()

    class Fails:
        def __enter__(self):
            self.stopping = threading.Thread(target=lambda: told.put(app.stop()))
            self.stopping.start()
            while not app._run._asked.qsize():
                self.stopping.join(0.001)
            raise OSError("broken")

        def __exit__(self, *error): ...

    fails = Fails()
    app.producer(ressources={"r": fails})(lambda socket, state, r: None)
    with pytest.raises(ResourceError, match="broken"):
        app.start()
    assert taken(told) is True
    fails.stopping.join(BOUND)


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"ressources": {"a": Gate()}, "resources": {}}, InvalidArgumentError, "are the same"),
        ({"ressources": {"a": 1}}, InvalidTypeError, "'a' is no context manager"),
        ({"ressources": [1]}, InvalidTypeError, "by name"),
        ({"ressources": {"state": Gate()}}, InvalidArgumentError, "none of message, socket"),
        ({"ressources": {"no name": Gate()}}, InvalidArgumentError, "identifier"),
    ],
)
def test_resources_that_cannot_be_meant(app, options, error, says):
    """Bad input: told where it is written."""
    with pytest.raises(error, match=says):
        app.producer(**options)


@pytest.mark.parametrize(
    "function",
    [lambda: None, lambda socket: None, lambda socket, state: None, lambda **all: None, 7],
)
def test_functions_that_cannot_be_called(app, function):
    """Bad input: a function that lacks a parameter is told of at its decorator."""
    with pytest.raises(InvalidTypeError, match=r"cannot be called as|must be callable"):
        app.producer(ressources={"db": Gate()})(function)


def test_without_a_bus():
    """Bad input: no provider, or what is none."""
    app = DistributionApplication()
    with pytest.raises(InvalidArgumentError, match="there is no bus"):
        app.producer()
    with pytest.raises(InvalidTypeError, match="SocketProviderFactory"):
        app.producer(socket_provider="memory://x")
    with pytest.raises(InvalidTypeError, match="SocketProviderFactory"):
        DistributionApplication("memory://x")
    with pytest.raises(InvalidArgumentError, match="at least one topic"):
        DistributionApplication(SocketProviderFactory.from_url("memory://x")).application([])


# ---- the way in and out --------------------------------------------------------------------------


def test_start_runs_until_it_is_stopped(app, client):
    """`start` blocks, `stop` from another thread ends it, and it can be started again.

    Defect: exit deleted the application's own topics.
    """
    found = queue.Queue()
    app.application("a")(lambda message, socket, state: found.put(message.payload))
    for turn in range(2):
        running = threading.Thread(target=app.start)
        running.start()
        while found.empty():  # until it is subscribed
            client.publish(Message(turn, "a"))
        assert taken(found) == turn
        with pytest.raises(StateError, match="runs already"):
            app.start()
        with pytest.raises(StateError, match="runs already"):
            app.producer()(lambda socket, state: None)
        assert app.stop(timeout=BOUND)
        running.join(BOUND)
        assert not running.is_alive()
        while not found.empty():
            found.get()
    assert app.stop()


def test_start_ends_with_the_last_function(app):
    """Only producers, and all have returned: there is nothing left to run."""
    done = []
    app.producer()(lambda socket, state: done.append(1))
    app.start()
    assert done == [1]


def test_an_application_without_functions(app):
    """Bad input: nothing to start."""
    with pytest.raises(StateError, match="no functions"):
        app.start()


def test_a_function_may_stop_its_application(app, client):
    """`stop` inside a function does not wait for itself."""
    found = queue.Queue()

    @app.application("a")
    def heard(message, socket, state):
        found.put(app.stop())

    @app.producer()
    def ask(socket, state):
        socket.publish(Message(1, "a"))

    app.start()
    assert taken(found) is False


def test_a_message_in_hand_is_finished(app, client, gate):
    """`stop` gives it its time, and the answer still goes out."""
    found = queue.Queue()

    @app.application("a")
    def heard(message, socket, state):
        gate.park()
        socket.reply(message, "done")

    asking = threading.Thread(
        target=lambda: found.put(client.request(Message(1, "a"), BOUND).payload)
    )
    with app:
        asking.start()
        gate.wait_parked(1)
        stopping = threading.Thread(target=app.stop, args=(BOUND,))
        stopping.start()
        gate.open()
        assert taken(found) == "done"
        stopping.join(BOUND)
    asking.join(BOUND)


def test_producers_without_end_are_called_off(app):
    """`stop` cancels a coroutine, wakes `sleep`, and fails the requests of a plain function."""
    begun, ended = queue.Queue(), queue.Queue()

    @app.producer()
    async def forever(socket, state):
        begun.put(1)
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            ended.put("cancelled")
            raise

    @app.producer()
    def every_hour(socket, state):
        begun.put(1)
        while socket.sleep(3600):
            pass
        ended.put("slept")

    @app.producer()
    def asking(socket, state):
        begun.put(1)
        try:
            socket.request(Message(1, "nobody"), timeout=3600)
        except StateError:
            ended.put("asked")
            raise

    with app:
        taken(begun, 3)
        assert app.stop(BOUND)
    assert sorted(taken(ended, 3)) == ["asked", "cancelled", "slept"]


def test_what_does_not_end_is_named(app, client, gate, caplog):
    """`stop` returns False and says which function was left behind."""

    @app.application("a")
    def stuck(message, socket, state):
        gate.park()

    with app:
        client.publish(Message(1, "a"))
        gate.wait_parked(1)
        assert app.stop(timeout=0) is False
        gate.open()
    assert "left behind what did not end: stuck" in caplog.text


def test_a_handler_that_hangs_is_cancelled_after_the_timeout(app, client):
    """A coroutine in hand when the timeout is over is cancelled; its resources are left."""
    begun, log = queue.Queue(), []

    @app.application("a", ressources={"r": Resource("r", log)})
    async def hangs(message, socket, state, r):
        begun.put(1)
        await asyncio.Event().wait()

    with app:
        client.publish(Message(1, "a"))
        taken(begun)
        assert app.stop(timeout=0)
    assert [step[0] for step in log] == ["enter", "exit"]


def test_a_cancelled_entering_leaves_nothing(provider, monkeypatch):
    """Sockets: the connection that is made all the same is closed, and so are the threads."""
    gate, connected = Gate(), []
    connect = Distributer.connect

    def slowly(bus):
        gate.park()
        connected.append(connect(bus))

    monkeypatch.setattr(Distributer, "connect", slowly)
    socket = provider.async_socket()

    async def main():
        entering = asyncio.ensure_future(socket.__aenter__())
        await asyncio.get_running_loop().run_in_executor(None, gate.wait_parked)
        entering.cancel()
        with pytest.raises(asyncio.CancelledError):
            await entering
        gate.open()

    asyncio.run(main())
    socket._asking.shutdown(wait=True)
    assert [bus._connected for bus in connected] == [None]
    assert socket.stopping


@pytest.mark.parametrize("timeout", [None, float("inf")])
def test_a_stop_that_waits_for_ever(app, client, timeout):
    """The way out: it leaves the bus, and ends a producer that sleeps without end, all the same."""
    begun, ended = queue.Queue(), []
    app.application("a")(lambda message, socket, state: begun.put(message.payload))

    @app.producer()
    def forever(socket, state):
        begun.put("asleep")
        ended.append(socket.sleep(float("inf")))

    with app:
        assert taken(begun) == "asleep"
        client.publish(Message(1, "a"))
        assert taken(begun) == 1
        buses = tuple(app._run._buses.values())
        assert app.stop(timeout)
    assert ended == [False]
    assert [bus._closed for bus in buses] == [True]


@pytest.mark.parametrize("timeout", [-1, "1", True, float("nan")])
def test_a_stop_timeout_that_cannot_be_meant(app, timeout):
    """Bad input: told, and nothing is stopped."""
    with pytest.raises((InvalidTypeError, InvalidArgumentError), match="timeout"):
        app.stop(timeout)


@pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="signals as Unix has them")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_it(app, number):
    """On the main thread; the handlers that there were are back afterwards."""
    before = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
    app.application("a")(lambda message, socket, state: None)

    @app.producer()
    def kill(socket, state):
        while signal.getsignal(number) in before:
            socket.sleep(0.001)
        os.kill(os.getpid(), number)

    app.start()
    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == before


def test_a_broker_that_is_not_there(caplog):
    """Bad input: the application does not start, and its resources are not touched."""
    pytest.importorskip("paho.mqtt.client")
    log = []
    app = DistributionApplication(SocketProviderFactory.from_url("mqtt://127.0.0.1:1?timeout=2"))
    app.producer(ressources={"r": Resource("r", log)})(lambda socket, state, r: None)
    with pytest.raises(BusConnectionError):
        app.start()
    assert log == []


def test_asyncio_is_loaded_for_coroutines_alone():
    """DESIGN 4: nothing by ``import ate_dispatcher``, no asyncio for plain functions."""
    program = """
import sys
import ate_dispatcher
assert "ate_dispatcher.application" not in sys.modules
from ate_dispatcher.application import DistributionApplication, SocketProviderFactory
app = DistributionApplication(SocketProviderFactory.from_url("memory://x"))
app.producer()(lambda socket, state: None)
app.start()
assert "asyncio" not in sys.modules
async def coroutine(socket, state): ...
app.producer()(coroutine)
app.start()
assert "asyncio" in sys.modules
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        capture_output=True,
        text=True,
        timeout=50,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert done.returncode == 0, done.stderr


def test_reprs(app, provider, client):
    """What they are, where, and in which state."""
    app.producer()(lambda socket, state: None)
    assert repr(app) == "<DistributionApplication 'application', not running: <lambda>>"
    assert repr(provider).startswith("<SocketProvider memory://")
    assert repr(client).startswith("<Socket 'client' at memory://")
    assert repr(provider.async_socket()).startswith("<AsyncSocket 'socket' at memory://")


def settling(monkeypatch):
    """Note what the end of an application asks of its workers, and who waits for its turn."""
    asked, turn = [], threading.Event()
    end, wait, take = Worker.end, Worker.wait, Worker._next
    taken = []

    def noted_end(self):
        asked.append(("end", self.function.name))
        end(self)

    def noted_wait(self, timeout):
        asked.append(("wait", self.function.name))
        return wait(self, timeout)

    async def noted_take(self):
        taken.append(self.function.name)
        if taken.count("first") == 2:
            turn.set()
        return await take(self)

    monkeypatch.setattr(Worker, "end", noted_end)
    monkeypatch.setattr(Worker, "wait", noted_wait)
    monkeypatch.setattr(Worker, "_next", noted_take)
    return asked, turn


NAMES = ("first", "second", "third")


def test_resources_of_all_functions_are_left_in_reverse(app, monkeypatch):
    """Defect: each function left its own when it happened to end."""
    asked, _ = settling(monkeypatch)
    log = []
    for name in NAMES:

        def function(message, socket, state, **resources): ...

        function.__name__ = name
        app.application(name, resources={"r": Resource(name, log)})(function)
    with app:
        pass
    assert [step[:2] for step in log] == [
        *(("enter", name) for name in NAMES),
        *(("exit", name) for name in reversed(NAMES)),
    ]
    assert asked == [(what, name) for name in reversed(NAMES) for what in ("end", "wait")]


def test_resources_of_producers_that_are_called_off_are_left_in_reverse(app, monkeypatch):
    """One that returns early, because it was called off, waits for its turn to leave."""
    _, turn = settling(monkeypatch)
    log = []
    off = threading.Event()

    class Left(Resource):
        def __exit__(self, *error):
            super().__exit__(*error)
            turn.set()  # nobody is to wait for ever in a test that fails

    for name in NAMES:

        def function(socket, state, name=name, **resources):
            assert off.wait(BOUND)
            if name == "third":
                assert turn.wait(BOUND)

        function.__name__ = name
        app.producer(resources={"r": Left(name, log)})(function)

    call_off = Worker._call_off

    def noted(self):
        call_off(self)
        if self.function.name == "first":  # the last that is called off
            off.set()

    monkeypatch.setattr(Worker, "_call_off", noted)
    with app:
        pass
    assert [step[:2] for step in log][3:] == [("exit", name) for name in reversed(NAMES)]
