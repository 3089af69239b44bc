"""Event streams under scheduling noise: nothing is lost, doubled, out of order or left stored."""

from __future__ import annotations

import threading

import pytest
from noise import noise
from scenarios import together

from ate_dispatcher.sse import (
    MESSAGE_TYPE_CLOSED,
    DataProcessingChannel,
    EventParser,
    MemoryStorage,
    Message,
    MessageQueueListener,
    SSEChannelRepository,
)

SENDERS, EACH = 3, 15


def senders(channel):
    """Make functions that send, each its own numbers in order."""

    def send(sender):
        for number in range(EACH):
            channel.broadcast(Message("m", [sender, number]))

    return [lambda sender=sender: send(sender) for sender in range(SENDERS)]


def in_order(got):
    return all([n for s, n in got if s == sender] == list(range(EACH)) for sender in range(SENDERS))


def read_while_cut_off(chance):
    """A client that is cut off again and again gets everything, and nothing stays in storage."""
    storage = MemoryStorage()
    channel = SSEChannelRepository(storage).create({"channel_id": "c"})
    channel.register_listener(MessageQueueListener("a"))
    watching = channel.watch()
    got, last, done = [], "", threading.Event()

    def read():
        nonlocal last
        while not done.is_set():
            with channel.event_stream("a", last_event_id=last) as stream:
                parser = EventParser()
                for piece in stream:
                    events = parser.feed(piece)
                    if not events:
                        last = parser.last_event_id
                        continue
                    (event,) = events
                    if event.type == MESSAGE_TYPE_CLOSED:
                        done.set()
                        break
                    if chance.random() < 0.2:
                        break  # given, and not received
                    last = event.id
                    got.append(event.data)

    def send():
        together(*senders(channel))
        channel.broadcast(Message(MESSAGE_TYPE_CLOSED))

    together(read, send)
    seen = [item["data"] for item in watching]
    assert len(seen) == SENDERS * EACH
    assert in_order(seen)
    assert got == [f"[{sender},{number}]" for sender, number in seen]
    assert storage.items("message/") == []


def come_and_go(chance):
    """Listeners come and go while messages are sent: nothing of them is left."""
    storage = MemoryStorage()
    channel = SSEChannelRepository(storage).create({"channel_id": "c"})

    def visit():
        for _ in range(6):
            listener = channel.add_listener()
            stream = channel.message_stream(listener)
            if chance.random() < 0.5:
                next(stream)
            channel.remove_listener(listener)
            assert list(stream) == []

    stop = threading.Event()

    def send():
        while not stop.is_set():
            channel.broadcast(Message("m"))

    def visit_all():
        try:
            together(visit, visit)
        finally:
            stop.set()

    together(send, visit_all)
    assert [key for key, _ in storage.items("")] == ["channel/c/"]
    assert channel.statistics().listeners == 0


def process(chance):
    """Every message has one result, whichever of its threads is faster."""
    channel = DataProcessingChannel(3)
    results = channel.process_queue(channel.add_listener())
    got = []

    def send():
        together(*senders(channel))
        channel.broadcast(Message(MESSAGE_TYPE_CLOSED))

    together(send, lambda: got.extend(result["data"] for result in results))
    expected = [[sender, number] for sender in range(SENDERS) for number in range(EACH)]
    assert sorted(got) == expected


@pytest.mark.parametrize("scenario", [read_while_cut_off, come_and_go, process])
@pytest.mark.parametrize("seed", range(6))
def test_under_noise(scenario, seed):
    """The same holds however the threads are interleaved."""
    with noise(seed) as chance:
        scenario(chance)
