"""Listeners with actions, that answer each other; and channels by their ids."""

from __future__ import annotations

import threading

import pytest

from ate_dispatcher import (
    InvalidArgumentError,
    InvalidTypeError,
    NameTakenError,
    StateError,
    UnknownIdError,
)
from ate_dispatcher.sse import (
    ChannelContainer,
    Message,
    MessageQueueListener,
    SignedMessage,
    SimpleDistributedApplicationChannel,
    SimpleDistributedApplicationListener,
    SSEChannel,
)


@pytest.fixture
def channel():
    with SimpleDistributedApplicationChannel(channel_id="app") as channel:
        yield channel


@pytest.fixture
def alice(channel):
    listener = SimpleDistributedApplicationListener()
    channel.register_listener(listener)
    return listener


@pytest.fixture
def bob(channel):
    return channel.add_listener()


# ---- actions -------------------------------------------------------------------------------------


def test_an_action_answers_its_sender(channel, alice, bob):
    """As its stream is read; the answer is signed and comes to who asked."""
    bob.set_action("ping", lambda msg: [Message("pong", msg.payload + 1), Message("pong", 0)])
    alice.dispatch_to(bob, Message("ping", 1))
    received = next(channel.message_stream(bob))
    assert (received["event"], received["data"]) == ("ping", 1)
    got = []
    alice.set_action("pong", got.append)
    answers = channel.message_stream(alice)
    next(answers)
    next(answers)
    assert got == [SignedMessage(bob.id, "pong", 2), SignedMessage(bob.id, "pong", 0)]


def test_two_threads_talk(channel, alice, bob):
    """Each reads its own stream; a message of the type stop ends it."""
    numbers = []

    def count(msg):
        numbers.append(msg.payload)
        return [Message("next", msg.payload + 1)] if msg.payload < 50 else [Message("stop")]

    for listener in (alice, bob):
        listener.set_action("next", count)
    threads = [
        threading.Thread(target=lambda own=own: list(channel.message_stream(own)))
        for own in (alice, bob)
    ]
    for thread in threads:
        thread.start()
    alice.dispatch_to(bob.id, Message("next", 0))
    threads[0].join(30)
    bob.stop()
    threads[1].join(30)
    assert not any(thread.is_alive() for thread in threads)
    assert numbers == list(range(51))


@pytest.mark.parametrize("name", ["start", "stop"])
def test_reserved_actions_are_not_to_be_set(bob, name):
    """Defect: reserved action names silently overridden."""
    with pytest.raises(InvalidArgumentError, match=f"'{name}' is reserved: override {name}"):
        bob.set_action(name, print)


def test_start_and_stop_are_fired_by_messages(channel):
    """A subclass that overrides them does more."""
    fired = []

    class Own(SimpleDistributedApplicationListener):
        def start(self):
            fired.append("start")
            super().start()

        def stop(self):
            fired.append("stop")
            super().stop()

    own = Own()
    channel.register_listener(own)
    stream = channel.message_stream(own)
    del fired[:]
    channel.dispatch(own.id, Message("start"))
    channel.dispatch(own.id, Message("stop"))
    channel.dispatch(own.id, Message("later"))
    assert [item["event"] for item in stream] == ["start", "stop"]
    assert fired == ["start", "stop"]
    assert not own.is_running()


def test_an_action_that_raises_stays(channel, alice, bob, caplog):
    """It is logged and counted, and the stream goes on."""
    bob.set_action("divide", lambda msg: [Message("result", 1 // msg.payload)])
    alice.dispatch_to(bob, Message("divide", 0))
    alice.dispatch_to(bob, Message("divide", 1))
    stream = channel.message_stream(bob)
    next(stream)
    next(stream)
    assert "ZeroDivisionError" in caplog.text
    assert channel.statistics().errors == 1
    assert channel.statistics().waiting == 1


def test_what_cannot_be_done_says_why(bob, alice):
    """Called directly, the errors come to the caller."""
    with pytest.raises(UnknownIdError, match="has no action for 'what'"):
        bob.on_message(SignedMessage(alice.id, "what"))
    bob.set_action("wrong", lambda msg: "text")
    with pytest.raises(InvalidTypeError, match="'wrong' must give a list of messages or None"):
        bob.on_message(SignedMessage(alice.id, "wrong"))
    bob.set_action("ask", lambda msg: [Message("answer")])
    with pytest.raises(InvalidTypeError, match="does not say whom for"):
        bob.on_message(Message("ask"))
    with pytest.raises(UnknownIdError, match="no listener 'gone'"):
        bob.on_message(SignedMessage("gone", "ask"))
    with pytest.raises(InvalidTypeError, match="must be callable, not 3"):
        bob.set_action("a", 3)
    with pytest.raises(InvalidTypeError, match="name of an action must be a string"):
        bob.set_action(1, print)
    with pytest.raises(UnknownIdError, match="no listener 'nobody'"):
        bob.dispatch_to("nobody", Message("m"))
    with pytest.raises(InvalidTypeError, match="a message must be"):
        bob.dispatch_to(alice, "m")


def test_a_listener_belongs_to_one_channel(channel, alice):
    """It may go to another one once it was removed; alone, it cannot send."""
    other = SimpleDistributedApplicationChannel()
    with pytest.raises(StateError, match="is in channel 'app' already"):
        other.register_listener(alice)
    channel.register_listener(alice)
    channel.remove_listener(alice.id)
    with pytest.raises(StateError, match="is in no channel"):
        alice.dispatch_to("x", Message("m"))
    other.register_listener(alice)
    with pytest.raises(InvalidTypeError, match="must be a SimpleDistributedApplicationListener"):
        other.register_listener(MessageQueueListener())


def test_a_closed_channel_keeps_no_listener(channel):
    """A registration that failed leaves the listener free."""
    channel.close()
    listener = SimpleDistributedApplicationListener()
    with pytest.raises(StateError, match="was closed"):
        channel.register_listener(listener)
    SimpleDistributedApplicationChannel().register_listener(listener)


# ---- containers ----------------------------------------------------------------------------------


def test_a_container():
    """Channels come and go by their ids, in the order in which they came."""
    container = ChannelContainer()
    first, second, third = (SSEChannel(channel_id=name) for name in "cba")
    container.register(first)
    container.register(first)
    container.register_iterable(iter([second, third]))
    assert container.get("b") is second
    assert list(container.get_all_ids()) == ["c", "b", "a"]
    assert "b" in container
    assert container.rm("b") is second
    assert not second.closed
    assert len(container) == 2


def test_ids_may_be_read_while_others_change():
    """What was listed stays as it was."""
    container = ChannelContainer()
    container.register_iterable(SSEChannel() for _ in range(3))
    for channel_id in container.get_all_ids():
        container.rm(channel_id)
    assert list(container.get_all_ids()) == []


def test_what_a_container_refuses():
    """All of an iterable or nothing."""
    container = ChannelContainer()
    container.register(SSEChannel(channel_id="a"))
    with pytest.raises(NameTakenError, match="there already is a channel 'a'"):
        container.register_iterable([SSEChannel(channel_id="b"), SSEChannel(channel_id="a")])
    with pytest.raises(NameTakenError, match="two channels of the id 'b'"):
        container.register_iterable([SSEChannel(channel_id="b"), SSEChannel(channel_id="b")])
    with pytest.raises(InvalidTypeError, match="must be an AbstractChannel, not 3"):
        container.register_iterable([SSEChannel(channel_id="b"), 3])
    with pytest.raises(InvalidTypeError, match="must be an iterable"):
        container.register_iterable(SSEChannel())
    for call in (container.get, container.rm):
        with pytest.raises(UnknownIdError, match="there is no channel 'b'"):
            call("b")
    assert container.get_all_ids() == ("a",)
