"""Channels and their streams: who gets what, when a stream ends, what is bounded."""

from __future__ import annotations

import queue
import threading
import time

import pytest

from ate_dispatcher import (
    InvalidArgumentError,
    InvalidTypeError,
    NameTakenError,
    NotJSONError,
    OverloadedError,
    StateError,
    UnknownIdError,
)
from ate_dispatcher.sse import (
    MESSAGE_TYPE_CLOSED,
    AbstractChannel,
    Connection,
    ConnectionsFactory,
    EventParser,
    Message,
    MessageContract,
    MessageQueueListener,
    SignedMessage,
    SSEChannel,
    parse_events,
)

BOUND = 60.0
CLOSED = Message(MESSAGE_TYPE_CLOSED)


@pytest.fixture
def channel():
    with SSEChannel(channel_id="bench") as channel:
        yield channel


def small(capacity, **options):
    return SSEChannel(connections_factory=ConnectionsFactory(capacity), **options)


def data_of(stream):
    return [item["data"] for item in stream]


def event_of(stream):
    """Give the first event of a stream, before which there is an id without an event."""
    (event,) = parse_events(next(stream) + next(stream))
    return event


class Reader:
    """Reads a stream on a thread of its own."""

    def __init__(self, stream):
        self.items = queue.Queue()
        self.thread = threading.Thread(target=self._run, args=(stream,))
        self.thread.start()

    def _run(self, stream):
        for item in stream:
            self.items.put(item)

    def take(self):
        return self.items.get(timeout=BOUND)

    def ended(self):
        self.thread.join(BOUND)
        return not self.thread.is_alive()


class Waits:
    """Lets a test know that a reader waits for a message, and how often one was woken."""

    def __init__(self, connection):
        self.count = 0
        self.began = threading.Semaphore(0)
        ready = connection._ready
        wait = ready.wait

        def counted(timeout=None):
            self.count += 1
            self.began.release()  # under the condition's lock: nobody is told before `wait`
            return wait(timeout)

        ready.wait = counted


# ---- who gets what -------------------------------------------------------------------------------


def test_adapt_has_exactly_the_documented_keys(channel):
    """The id is for the wire only."""
    assert channel.adapt(Message("t", [1])) == {"event": "t", "retry": 5, "data": [1]}


def test_dispatch_goes_to_one_and_broadcast_to_all(channel):
    """In the order in which the channel took them."""
    a, b = channel.add_listener(), channel.add_listener()
    channel.dispatch(a.id, Message("m", 1))
    channel.broadcast(Message("m", 2))
    channel.dispatch(b.id, Message("m", 3))
    channel.broadcast(CLOSED)
    assert data_of(channel.message_stream(a)) == [1, 2]
    assert data_of(channel.message_stream(b.id)) == [2, 3]


def test_watch_gives_everything_to_whomever(channel):
    """From the moment on at which it was opened."""
    listener = channel.add_listener()
    channel.broadcast(Message("m", "before"))
    watching = channel.watch()
    channel.dispatch(listener.id, Message("m", 1))
    channel.broadcast(Message("m", 2))
    channel.close()
    assert data_of(watching) == [1, 2]
    assert channel.statistics().watchers == 0


@pytest.mark.parametrize("payload", [None, 0, False, "", [], {}])
def test_falsy_payloads_arrive(channel, payload):
    """As they were sent, in a stream and on the wire."""
    listener = channel.add_listener()
    channel.broadcast(Message("m", payload))
    channel.broadcast(CLOSED)
    assert data_of(channel.message_stream(listener)) == [payload]


def test_on_message_sees_each_message_and_may_raise(channel, caplog):
    """What it raises is logged and counted, and the stream goes on."""
    seen = []

    class Picky(MessageQueueListener):
        def on_message(self, msg):
            seen.append(msg.payload)
            if msg.payload == 1:
                raise ValueError("not that one")

    listener = Picky("p")
    channel.register_listener(listener)
    for payload in range(3):
        channel.broadcast(Message("m", payload))
    channel.broadcast(CLOSED)
    assert data_of(channel.message_stream(listener)) == [0, 1, 2]
    assert seen == [0, 1, 2]
    assert channel.statistics().errors == 1
    assert "not that one" in caplog.text


def test_many_senders_one_order(channel):
    """C6's promise: every reader sees the same order, and each sender's own."""
    listeners = [channel.add_listener() for _ in range(3)]
    streams = [channel.message_stream(listener) for listener in listeners]
    watching = channel.watch()

    def send(sender):
        for number in range(100):
            channel.broadcast(Message("m", [sender, number]))

    threads = [threading.Thread(target=send, args=(sender,)) for sender in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    channel.close()
    first, *others = [data_of(stream) for stream in (*streams, watching)]
    assert all(other == first for other in others)
    for sender in range(4):
        assert [n for s, n in first if s == sender] == list(range(100))


# ---- waiting and ending --------------------------------------------------------------------------


def test_an_idle_stream_sleeps(channel):
    """Defect: polling at 100 % CPU. It waits once, without a timeout, and is woken by a message."""
    listener = channel.add_listener()
    waits = Waits(channel._ate_connections[listener.id])
    reader = Reader(channel.message_stream(listener))
    assert waits.began.acquire(timeout=BOUND)
    used = time.process_time()
    threading.Event().wait(1.0)  # only for what is measured: nothing here depends on it
    assert time.process_time() - used < 0.5
    assert waits.count == 1
    channel.broadcast(Message("m", 1))
    assert reader.take()["data"] == 1
    assert waits.began.acquire(timeout=BOUND)
    assert waits.count == 2
    channel.close()
    assert reader.ended()


@pytest.mark.parametrize(
    ("end", "reason"),
    [
        (lambda channel, listener: channel.remove_listener(listener.id), "removed"),
        (lambda channel, listener: channel.close(), "channel was closed"),
        (lambda channel, listener: listener.stop(), "stopped"),
        (lambda channel, listener: channel.message_stream(listener), "another stream"),
        (lambda channel, listener: channel.broadcast(CLOSED), MESSAGE_TYPE_CLOSED),
    ],
)
def test_a_waiting_stream_ends(channel, end, reason, caplog):
    """Defect: a removed listener flooding its stream with errors. It ends, once, without a word."""
    listener = channel.add_listener()
    waits = Waits(channel._ate_connections[listener.id])
    stream = channel.message_stream(listener)
    reader = Reader(stream)
    assert waits.began.acquire(timeout=BOUND)
    end(channel, listener)
    assert reader.ended()
    assert reader.items.empty()
    assert reason in stream.reason
    assert list(stream) == []
    assert caplog.text == ""


def test_closing_a_stream_wakes_its_reader(channel):
    """From another thread; the listener stays, and so does what comes for it."""
    listener = channel.add_listener()
    waits = Waits(channel._ate_connections[listener.id])
    stream = channel.message_stream(listener)
    reader = Reader(stream)
    assert waits.began.acquire(timeout=BOUND)
    stream.close()
    assert reader.ended()
    channel.broadcast(Message("m", 1))
    assert next(channel.message_stream(listener))["data"] == 1


def test_leaving_a_with_block_stops_watching(channel):
    """Nothing is kept for who has gone."""
    with channel.watch():
        assert channel.statistics().watchers == 1
    assert channel.statistics().watchers == 0


def test_closing_a_channel_gives_what_waits_first(channel):
    """Then the stream ends, and nothing can be sent any more."""
    listener = channel.add_listener()
    channel.broadcast(Message("m", 1))
    channel.close()
    channel.close()
    assert data_of(channel.message_stream(listener)) == [1]
    assert list(channel.watch()) == []
    for call in (
        lambda: channel.broadcast(Message("m")),
        lambda: channel.dispatch(listener.id, Message("m")),
        channel.add_listener,
    ):
        with pytest.raises(StateError, match="channel 'bench' was closed"):
            call()


def test_a_stopped_listener_goes_on_with_its_next_stream(channel):
    """What came in between waits there."""
    listener = channel.add_listener()
    listener.stop()
    assert not listener.is_running()
    channel.broadcast(Message("m", 1))
    assert next(channel.message_stream(listener))["data"] == 1
    assert listener.is_running()


def test_the_delay_between_messages():
    """It is the least time between two, and cut short by the end of the stream."""
    channel = SSEChannel(stream_delay_seconds=0.05)
    listener = channel.add_listener()
    for payload in range(3):
        channel.broadcast(Message("m", payload))
    channel.broadcast(CLOSED)
    began = time.monotonic()
    assert data_of(channel.message_stream(listener)) == [0, 1, 2]
    assert time.monotonic() - began >= 0.1
    slow = SSEChannel(stream_delay_seconds=1000)
    listener = slow.add_listener()
    slow.broadcast(Message("m", 1))
    waits = Waits(slow._ate_connections[listener.id])
    reader = Reader(slow.message_stream(listener))
    reader.take()
    assert waits.began.acquire(timeout=BOUND)
    slow.remove_listener(listener.id)
    assert reader.ended()


# ---- bounds --------------------------------------------------------------------------------------


def test_an_abandoned_listener_is_bounded():
    """Defect: unbounded abandoned queues. The oldest give way, counted."""
    channel = small(10)
    listener = channel.add_listener()
    for payload in range(1000):
        channel.broadcast(Message("m", payload))
    statistics = channel.statistics()
    assert (statistics.messages, statistics.waiting, statistics.lost) == (1000, 10, 990)
    channel.close()
    assert data_of(channel.message_stream(listener)) == list(range(990, 1000))


def cut_short(stream):
    """Give the data of a stream of three messages at most, whose end is an error."""
    data = []
    with pytest.raises(OverloadedError, match=r"3 messages behind.*capacity="):
        data.extend(item["data"] for item in stream)
    return data


def test_a_slow_reader_is_dropped_and_counted(caplog):
    """Nobody else is disturbed; it gets what waited, and cannot take that for all there was."""
    channel = small(3)
    slow, quick = channel.add_listener(), channel.add_listener()
    slow_stream, quick_stream = channel.message_stream(slow), channel.message_stream(quick)
    for payload in range(5):
        channel.broadcast(Message("m", payload))
        assert next(quick_stream)["data"] == payload
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert slow.id in caplog.text
    assert cut_short(slow_stream) == [0, 1, 2]
    assert cut_short(slow_stream) == []
    assert slow_stream.reason == "its reader was 3 messages behind"
    assert channel.statistics().slow == 1
    assert quick_stream.reason == ""
    channel.close()
    assert data_of(channel.message_stream(slow)) == [3, 4]  # what came meanwhile has waited
    channel.remove_listener(slow.id)
    assert channel.statistics().slow == 1
    assert channel.statistics().lost == 0


def test_who_comes_again_after_it_was_too_slow_is_not_too_slow_at_once():
    """Defect: what waited stayed where it was, and the next message ended the next stream."""
    channel = small(3)
    listener = channel.add_listener()
    stream = channel.message_stream(listener)
    for payload in range(4):
        channel.broadcast(Message("m", payload))
    assert cut_short(stream) == [0, 1, 2]
    stream = channel.message_stream(listener)
    channel.broadcast(Message("m", 4))
    channel.broadcast(CLOSED)
    assert data_of(stream) == [3, 4]
    assert channel.statistics().slow == 1


def test_a_slow_stream_that_is_not_read_leaves_what_waited_to_the_next():
    """As much of it as may wait, the newest; the rest is counted. The old stream just ends."""
    channel = small(3)
    listener = channel.add_listener()
    slow = channel.message_stream(listener)
    for payload in range(5):
        channel.broadcast(Message("m", payload))
    assert channel.statistics().waiting == 5
    stream = channel.message_stream(listener)
    assert channel.statistics().lost == 2
    channel.close()
    assert data_of(stream) == [2, 3, 4]
    assert list(slow) == []
    assert slow.reason == "another stream was opened for the listener"


@pytest.mark.parametrize(
    ("end", "left"),
    [
        (lambda channel, listener, stream: stream.close(), 4),
        (lambda channel, listener, stream: listener.stop(), 4),
        (lambda channel, listener, stream: channel.remove_listener(listener), 0),
    ],
    ids=["closed", "stopped", "removed"],
)
def test_a_slow_stream_that_is_ended_otherwise_has_an_ordinary_end(end, left):
    """What it had not given stays with its listener, if there still is one."""
    channel = small(3)
    listener = channel.add_listener()
    stream = channel.message_stream(listener)
    for payload in range(5):
        channel.broadcast(Message("m", payload))
    assert next(stream)["data"] == 0
    end(channel, listener, stream)
    assert list(stream) == []
    assert "behind" not in stream.reason
    assert channel.statistics().waiting == left


def test_a_slow_stream_whose_last_message_waited_is_complete():
    """Everything up to `MESSAGE_TYPE_CLOSED` is there, although more was sent after it."""
    channel = small(3)
    listener = channel.add_listener()
    stream = channel.message_stream(listener)
    for message in (Message("m", 0), CLOSED, Message("m", 1), Message("m", 2)):
        channel.broadcast(message)
    assert data_of(stream) == [0]
    assert list(stream) == []
    assert "behind" not in stream.reason


def test_a_slow_client_gets_no_error_but_comes_again():
    """A stream of bytes just ends, as if the connection were lost, and keeps nothing for it."""
    channel = small(3)
    listener = channel.add_listener()
    stream = channel.event_stream(listener)
    for payload in range(5):
        channel.broadcast(Message("m", payload))
    next(stream)  # the id
    assert list(stream) == []
    assert stream.reason == "its reader was 3 messages behind"
    statistics = channel.statistics()
    assert (statistics.slow, statistics.waiting, statistics.lost) == (1, 3, 2)


def test_a_watcher_that_does_not_read_is_let_go():
    """Also one that nobody has closed. What waited then is still given."""
    channel = small(3)
    watching = channel.watch()
    for payload in range(10):
        channel.broadcast(Message("m", payload))
    statistics = channel.statistics()
    assert (statistics.watchers, statistics.slow, statistics.waiting) == (0, 1, 0)
    assert cut_short(watching) == [0, 1, 2]


def test_listeners_that_come_and_go_leave_nothing():
    """C12: nothing is kept of those that were removed."""
    channel = small(3)
    for _ in range(100):
        listener = channel.add_listener()
        channel.broadcast(Message("m", 1))
        channel.message_stream(listener)
        channel.remove_listener(listener)
        assert listener._ate_connections == ()
    assert channel.get_listeners_ids() == ()
    assert len(channel._ate_history) == 3


# ---- on the wire ---------------------------------------------------------------------------------


def test_the_bytes_of_a_stream(channel):
    """Defect: no ids. Text stands as it is, everything else as JSON; the end is told."""
    listener = channel.add_listener()
    channel.broadcast(Message("a", "two\nlines"))
    channel.broadcast(Message("b", {"ü": [1, None]}))
    channel.broadcast(CLOSED)
    pieces = list(channel.event_stream(listener))
    epoch = channel._ate_epoch.encode()
    assert pieces[0] == b"id: %s-0\n\n" % epoch
    assert pieces[1] == b"id: %s-1\nevent: a\nretry: 5\ndata: two\ndata: lines\n\n" % epoch
    events = parse_events(b"".join(pieces))
    assert [(e.type, e.data) for e in events] == [
        ("a", "two\nlines"),
        ("b", '{"ü":[1,null]}'),
        (MESSAGE_TYPE_CLOSED, "null"),
    ]


def test_what_was_sent_is_what_arrives(channel):
    """What a sender does to its payload afterwards changes nothing on the wire."""
    payload = [1]
    watching = channel.watch_events()
    channel.broadcast(Message("m", payload))
    payload.append(2)
    assert event_of(watching).data == "[1]"


def test_a_quiet_stream_is_kept_alive(channel):
    """Defect: no keep-alive. Comments, so that a client that is gone is noticed."""
    listener = channel.add_listener()
    stream = channel.event_stream(listener, keep_alive_seconds=0.01)
    next(stream)  # the id where it begins
    assert [next(stream), next(stream)] == [b":\n\n"] * 2
    channel.broadcast(Message("m", 1))
    assert b"data: 1" in next(stream)


def test_a_stream_that_delays_its_next_message_is_kept_alive():
    """Comments all the while; the message comes when its time has come, and the end at once."""
    slow, quick = SSEChannel(stream_delay_seconds=1000), SSEChannel(stream_delay_seconds=0.05)
    for channel in (slow, quick):
        channel.register_listener(MessageQueueListener("a"))
        for payload in (1, 2):
            channel.broadcast(Message("m", payload))
    reader = Reader(slow.event_stream("a", keep_alive_seconds=0.01))
    pieces = [reader.take() for _ in range(4)]
    assert b"data: 1" in pieces[1]
    assert pieces[2:] == [b":\n\n"] * 2
    slow.remove_listener("a")
    assert reader.ended()
    began = time.monotonic()
    quick.close()
    pieces = list(quick.event_stream("a", keep_alive_seconds=0.01))
    assert b"data: 2" in pieces[-1]
    assert time.monotonic() - began >= 0.05


def ids_of(pieces):
    return [event.id for event in parse_events(b"".join(pieces))]


def test_a_client_that_was_cut_off_misses_nothing(channel):
    """Defect: no replay. What it had not received comes again, then what waits, each once."""
    listener = channel.add_listener()
    first = channel.event_stream(listener)
    for payload in range(6):
        channel.broadcast(Message("m", payload))
    ids = ids_of(next(first) for _ in range(5))  # of which only two went through
    second = channel.event_stream(listener, last_event_id=ids[1])
    channel.close()
    assert [e.data for e in parse_events(b"".join(second))] == ["2", "3", "4", "5"]
    assert "another stream" in first.reason


def test_a_client_that_was_cut_off_before_its_first_event(channel):
    """It knows where it was all the same: the first thing that it gets is an id."""
    listener = channel.add_listener()
    channel.broadcast(Message("m", 0))
    for open_stream in (channel.watch_events, lambda *last: channel.event_stream(listener, *last)):
        parser = EventParser()
        with open_stream() as stream:
            assert parser.feed(next(stream)) == []
        channel.broadcast(Message("m", 1))
        with open_stream(parser.last_event_id) as stream:
            assert event_of(stream).data == ("1" if open_stream == channel.watch_events else "0")


def test_replay_for_a_new_listener(channel):
    """A browser that gets a listener of its own each time: what all were sent, not others' own."""
    other = channel.add_listener()
    watching = channel.watch_events()
    channel.broadcast(Message("m", 1))
    last = event_of(watching).id
    channel.broadcast(Message("m", 2))
    channel.dispatch(other.id, Message("m", "private"))
    channel.broadcast(Message("m", 3))
    listener = channel.add_listener()
    stream = channel.message_stream(listener, last_event_id=last)
    again = channel.watch(last_event_id=last)
    channel.close()
    assert data_of(stream) == [2, 3]
    assert data_of(again) == [2, "private", 3]


@pytest.mark.parametrize("last", ["0000-99", "nonsense", "7", "ffffffff-1", "x" * 10_000])
def test_an_id_of_another_life_suppresses_nothing(channel, last):
    """Ids carry an epoch: after a restart a client gets all there is."""
    channel.broadcast(Message("m", 1))
    stream = channel.watch(last_event_id=last)
    assert next(stream)["data"] == 1


def test_no_id_no_replay(channel):
    """A new client begins with what comes."""
    channel.broadcast(Message("m", 1))
    streams = [channel.watch(), channel.watch(last_event_id="")]
    channel.close()
    assert [list(stream) for stream in streams] == [[], []]


def test_two_channels_have_two_epochs():
    """Also two of one name, one after the other."""
    assert SSEChannel(channel_id="a")._ate_epoch != SSEChannel(channel_id="a")._ate_epoch


# ---- what is one's own ---------------------------------------------------------------------------


def test_an_own_channel_and_an_own_message():
    """`AbstractChannel` and `MessageContract` are to be implemented."""

    class Reading(MessageContract):
        type = "reading"
        payload = 4.2

    class Plain(AbstractChannel):
        def adapt(self, msg):
            return (msg.type, msg.payload, msg.id)

    channel = Plain()
    listener = channel.add_listener()
    channel.broadcast(Reading())
    assert next(channel.message_stream(listener)) == ("reading", 4.2, None)


def test_an_own_adapt_is_what_goes_over_the_wire():
    """And what it gives is looked at when a message is sent."""

    class Shouting(SSEChannel):
        def adapt(self, msg):
            return {**super().adapt(msg), "data": msg.payload.upper()}

    class Silent(SSEChannel):
        def adapt(self, msg):
            return None

    channel = Shouting()
    watching = channel.watch_events()
    channel.broadcast(Message("m", "hey"))
    assert event_of(watching).data == "HEY"
    with pytest.raises(InvalidTypeError, match="adapt of Silent must give a dict with 'data'"):
        Silent().broadcast(Message("m", "hey"))


def test_an_own_connections_factory():
    """It may give each listener another capacity."""

    class ByName(ConnectionsFactory):
        def create(self, listener):
            return Connection(listener, 1 if listener and listener.id == "one" else 5)

    channel = SSEChannel(connections_factory=ByName())
    for name in ("one", "five"):
        channel.register_listener(MessageQueueListener(name))
    for payload in range(9):
        channel.broadcast(Message("m", payload))
    channel.close()
    assert data_of(channel.message_stream("one")) == [8]
    assert data_of(channel.message_stream("five")) == [4, 5, 6, 7, 8]


# ---- bad input -----------------------------------------------------------------------------------


def test_registering(channel):
    """Twice is once; another of the same id is refused."""
    listener = MessageQueueListener("l")
    channel.register_listener(listener)
    channel.register_listener(listener)
    assert channel.get_listener("l") is listener
    with pytest.raises(NameTakenError, match="channel 'bench' already has a listener 'l'"):
        channel.register_listener(MessageQueueListener("l"))
    with pytest.raises(InvalidTypeError, match="must be a MessageQueueListener, not 'l'"):
        channel.register_listener("l")


def test_unknown_listeners(channel):
    """Each call says which listener of which channel it did not find."""
    stranger = MessageQueueListener("nobody")
    for call in (
        lambda: channel.get_listener("nobody"),
        lambda: channel.remove_listener("nobody"),
        lambda: channel.remove_listener(stranger),
        lambda: channel.dispatch("nobody", Message("m")),
        lambda: channel.message_stream("nobody"),
        lambda: channel.event_stream(stranger),
    ):
        with pytest.raises(UnknownIdError, match="channel 'bench' has no listener 'nobody'"):
            call()
    channel.register_listener(MessageQueueListener("nobody"))
    with pytest.raises(UnknownIdError):  # another one of that id is not this one
        channel.message_stream(stranger)


@pytest.mark.parametrize(
    ("call", "error", "says"),
    [
        (lambda c: c.broadcast("m"), InvalidTypeError, "must be a Message.*not 'm'"),
        (lambda c: c.broadcast({"type": "m"}), InvalidTypeError, "must be a Message"),
        (lambda c: c.broadcast(Message("m", {1})), NotJSONError, "of type set"),
        (lambda c: c.broadcast(Message("m", float("nan"))), NotJSONError, "no number"),
        (lambda c: c.broadcast(Message("m", "\ud800")), InvalidArgumentError, "surrogate"),
        (lambda c: c.dispatch(3, Message("m")), InvalidTypeError, "listener_id must be a string"),
        (lambda c: c.dispatch("", Message("m")), InvalidArgumentError, "must not be empty"),
        (lambda c: c.watch(last_event_id=3), InvalidTypeError, "last_event_id must be a string"),
        (lambda c: c.watch_events(keep_alive_seconds=0), InvalidArgumentError, "more than zero"),
        (lambda c: Message(3), InvalidTypeError, "type must be a string, not 3"),
        (lambda c: Message(""), InvalidArgumentError, "type must not be empty"),
        (lambda c: Message("a\ndata: b"), InvalidArgumentError, "must be one line"),
        (lambda c: Message("a", id=3), InvalidTypeError, "a message's id must be a string"),
        (lambda c: SignedMessage(None, "a"), InvalidTypeError, "sender_id must be a string"),
        (lambda c: SSEChannel(-1), InvalidArgumentError, "stream_delay_seconds must be a time"),
        (lambda c: SSEChannel("1"), InvalidTypeError, "stream_delay_seconds must be a number"),
        (lambda c: SSEChannel(0, -1), InvalidArgumentError, "must not be negative: -1"),
        (lambda c: SSEChannel(0, 1.5), InvalidTypeError, "must be a whole number, not 1.5"),
        (lambda c: SSEChannel(channel_id=1), InvalidTypeError, "channel_id must be a string"),
        (
            lambda c: SSEChannel(connections_factory=dict),
            InvalidTypeError,
            "must be a ConnectionsFactory",
        ),
        (lambda c: ConnectionsFactory(0), InvalidArgumentError, "capacity must be at least 1"),
        (lambda c: ConnectionsFactory("9"), InvalidTypeError, "capacity must be a whole number"),
        (lambda c: MessageQueueListener(3), InvalidTypeError, "listener_id must be a string"),
    ],
)
def test_bad_input(channel, call, error, says):
    """A clear error at the call, and nothing was sent."""
    with pytest.raises(error, match=says):
        call(channel)
    assert channel.statistics().messages == 0
    assert channel.statistics().watchers == 0


def test_messages_say_what_they_are():
    """Equal by what they hold; a repr for logs."""
    message = SignedMessage("alice", "m", {"a": 1}, id="7")
    assert (message.sender_id, message.type, message.payload, message.id) == (
        "alice",
        "m",
        {"a": 1},
        "7",
    )
    assert message == SignedMessage("alice", "m", {"a": 1}, id="7")
    assert message != Message("m", {"a": 1}, id="7")
    assert repr(message) == "<SignedMessage 'm': {'a': 1}>"
