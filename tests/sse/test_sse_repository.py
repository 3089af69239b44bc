"""Channels that survive a restart, with their listeners and what these have not read."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import ate_dispatcher
from ate_dispatcher import (
    InvalidArgumentError,
    InvalidTypeError,
    NameTakenError,
    StateError,
    StorageError,
    UndecodableMessageError,
    UnknownIdError,
)
from ate_dispatcher.sse import (
    MESSAGE_TYPE_CLOSED,
    AbstractChannelRepository,
    MemoryStorage,
    Message,
    MessageQueueListener,
    SignedMessage,
    SimpleDistributedApplicationChannel,
    SimpleDistributedApplicationListener,
    SQLiteStorage,
    SSEChannel,
    SSEChannelRepository,
    parse_events,
)

IDS = ["1", "10", "1/0", "1%2F0", "%", "ü ", "100"]


@pytest.fixture(params=["memory", "sqlite"])
def storages(request, tmp_path):
    """A function that gives the storage as it is found after a restart."""
    memory, opened = MemoryStorage(), []

    def reopened():
        if request.param == "memory":
            return memory
        for storage in opened:
            storage.close()
        opened.append(SQLiteStorage(tmp_path / "channels.db"))
        return opened[-1]

    yield reopened
    for storage in opened:
        storage.close()


def waiting(channel, listener_id):
    """Give what waits for a listener, and read it."""
    channel.broadcast(Message(MESSAGE_TYPE_CLOSED))
    return [item["data"] for item in channel.message_stream(listener_id)]


def test_everything_survives_a_restart(storages):
    """Configuration, listeners, and what they have not read, in order; what was read is gone."""
    data = {
        "channel_id": "bench",
        "stream_delay_seconds": 0,
        "retry_timeout_milliseconds": 2000,
    }
    channel = SSEChannelRepository(storages()).create(data)
    channel.register_listener(MessageQueueListener("a"))
    channel.register_listener(MessageQueueListener("b"))
    for payload in range(12):
        channel.broadcast(Message("m", payload))
    channel.dispatch("b", SignedMessage("a", "m", {"ü": [None]}, id="7"))
    stream = channel.message_stream("a")
    assert [next(stream)["data"] for _ in range(5)] == [0, 1, 2, 3, 4]

    again = SSEChannelRepository(storages()).load("bench")
    assert again.id == "bench"
    assert again.retry_timeout_milliseconds == 2000
    assert again.get_listeners_ids() == ("a", "b")
    seen = []
    again.get_listener("b").on_message = seen.append
    again.broadcast(Message("m", "new"))
    assert waiting(again, "a") == [4, 5, 6, 7, 8, 9, 10, 11, "new"]  # 4 was in hand
    assert waiting(again, "b")[-2:] == [{"ü": [None]}, "new"]
    assert seen[-2] == SignedMessage("a", "m", {"ü": [None]}, id="7")

    last = SSEChannelRepository(storages()).load("bench")
    assert waiting(last, "a") == []


def test_ids_of_before_the_restart_suppress_nothing(storages):
    """The numbers go on, the epoch is another."""
    channel = SSEChannelRepository(storages()).create({"channel_id": "c"})
    channel.register_listener(MessageQueueListener("a"))
    channel.broadcast(Message("m", 1))
    channel.broadcast(Message("m", 2))
    stream = channel.event_stream("a")
    (event,) = parse_events(next(stream) + next(stream))
    again = SSEChannelRepository(storages()).load("c")
    again.broadcast(Message("m", 3))
    again.close()
    pieces = b"".join(again.event_stream("a", last_event_id=event.id))
    assert [e.data for e in parse_events(pieces)] == ["1", "2", "3"]


def test_channels_1_and_10_are_two(storages):
    """Defect: one channel's prefix being another's beginning. Whatever their ids are."""
    repository = SSEChannelRepository(storages())
    for channel_id in IDS:
        channel = repository.create({"channel_id": channel_id})
        for name in ("1", "10", "/"):
            channel.register_listener(MessageQueueListener(name))
            channel.dispatch(name, Message("m", [channel_id, name]))
    repository = SSEChannelRepository(storages())
    assert sorted(repository.get_all_ids()) == sorted(IDS)
    repository.delete("1")
    repository.load("10").remove_listener("1")
    repository = SSEChannelRepository(storages())
    assert sorted(c.id for c in repository.load_all()) == sorted(set(IDS) - {"1"})
    for channel in repository.load_all():
        names = ("10", "/") if channel.id == "10" else ("1", "10", "/")
        assert sorted(channel.get_listeners_ids()) == sorted(names)
        for name in names:
            assert waiting(channel, name) == [[channel.id, name]]


def test_nothing_is_left_of_what_was_read_or_removed():
    """Not in the storage either; and what gave way is forgotten."""
    storage = MemoryStorage()
    repository = SSEChannelRepository(storage, capacity=3)
    channel = repository.create({"channel_id": "c"})
    channel.register_listener(MessageQueueListener("a"))
    for payload in range(10):
        channel.broadcast(Message("m", payload))
    assert len(storage.items("message/")) == 3
    assert waiting(channel, "a") == [8, 9]
    assert storage.items("message/") == []
    channel.broadcast(Message("m", 1))
    with channel.message_stream("a") as stream:
        next(stream)
        assert len(storage.items("message/")) == 1  # being handled
    assert storage.items("message/") == []
    channel.broadcast(Message("m", 2))
    channel.remove_listener("a")
    assert [key for key, _ in storage.items("")] == ["channel/c/"]
    repository.delete("c")
    assert storage.items("") == []
    assert channel.closed


def test_coming_back_with_less_room(storages):
    """The newest stay, by number and not by spelling; the others are forgotten."""
    channel = SSEChannelRepository(storages()).create({"channel_id": "c"})
    channel.register_listener(MessageQueueListener("a"))
    for payload in range(12):
        channel.broadcast(Message("m", payload))
    storage = storages()
    again = SSEChannelRepository(storage, capacity=4).load("c")
    assert len(storage.items("message/")) == 4
    again.close()
    assert [item["data"] for item in again.message_stream("a")] == [8, 9, 10, 11]


def test_senders_and_a_reader_at_once():
    """Whoever of both is second forgets a message: none stays that was read."""
    storage = MemoryStorage()
    channel = SSEChannelRepository(storage, capacity=10_000).create({"channel_id": "c"})
    channel.register_listener(MessageQueueListener("a"))
    got = []
    reader = threading.Thread(
        target=lambda: got.extend(item["data"] for item in channel.message_stream("a"))
    )
    reader.start()
    senders = [
        threading.Thread(target=lambda: [channel.broadcast(Message("m", n)) for n in range(200)])
        for _ in range(3)
    ]
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join()
    channel.broadcast(Message(MESSAGE_TYPE_CLOSED))
    reader.join(30)
    assert len(got) == 600
    assert storage.items("message/") == []


@pytest.mark.parametrize("late", ["read", "removed"])
def test_a_message_that_is_stored_late_is_forgotten(late):
    """Its reader, or who removed the listener, was faster than the storage."""

    class Slow(MemoryStorage):
        meanwhile = None

        def set(self, key, value):
            if key.startswith("message/") and self.meanwhile:
                self.meanwhile()
            super().set(key, value)

    storage = Slow()
    channel = SSEChannelRepository(storage).create({"channel_id": "c"})
    channel.register_listener(MessageQueueListener("a"))
    stream = channel.message_stream("a")

    def read():
        next(stream)
        stream.close()

    storage.meanwhile = read if late == "read" else lambda: channel.remove_listener("a")
    channel.broadcast(Message("m", 1))
    assert storage.items("message/") == []


def test_what_waited_for_a_reader_that_was_too_slow_is_stored_until_it_is_read():
    """Also what the storage had late."""

    class Slow(MemoryStorage):
        late = True

        def set(self, key, value):
            if self.late and key.startswith("message/"):  # meanwhile the reader is too slow
                self.late = False
                for payload in range(1, 5):
                    channel.broadcast(Message("m", payload))
            super().set(key, value)

    storage = Slow()
    channel = SSEChannelRepository(storage, capacity=3).create({"channel_id": "c"})
    channel.register_listener(MessageQueueListener("a"))
    stream = channel.message_stream("a")
    channel.broadcast(Message("m", 0))
    assert len(storage.items("message/")) == 5
    assert [next(stream)["data"] for _ in range(2)] == [0, 1]
    assert len(storage.items("message/")) == 4  # the second is being handled
    stream.close()
    assert len(storage.items("message/")) == 3
    channel.close()
    assert [item["data"] for item in channel.message_stream("a")] == [2, 3, 4]
    assert storage.items("message/") == []


def test_a_message_that_a_slow_reader_is_handling_is_stored_late_all_the_same():
    """It may be cut off while it handles it: then it is to get it once more."""

    class Slow(MemoryStorage):
        late = True

        def set(self, key, value):
            if self.late and key.startswith("message/"):
                self.late = False
                assert next(stream)["data"] == 0
                for payload in range(1, 5):
                    channel.broadcast(Message("m", payload))
            super().set(key, value)

    storage = Slow()
    channel = SSEChannelRepository(storage, capacity=3).create({"channel_id": "c"})
    channel.register_listener(MessageQueueListener("a"))
    stream = channel.message_stream("a")
    channel.broadcast(Message("m", 0))
    assert len(storage.items("message/")) == 5


def test_what_nobody_was_given_is_stored_until_it_is_read():
    """Also if its stream has ended, and what the storage had late; where there is no room it goes.

    A reader that was too slow gives back before what else it had.
    """

    class Slow(MemoryStorage):
        late = True

        def set(self, key, value):
            super().set(key, value)
            if self.late and key.startswith("message/"):
                self.late = False
                assert next(stream)["data"] == 0
                stream.cut()

    storage = Slow()
    channel = SSEChannelRepository(storage, capacity=3).create({"channel_id": "c"})
    channel.register_listener(MessageQueueListener("a"))
    stream = channel.message_stream("a")
    channel.broadcast(Message("m", 0))
    stream.give_back()
    stream.close()
    assert len(storage.items("message/")) == 1
    stream = channel.message_stream("a")
    assert next(stream)["data"] == 0
    for payload in range(1, 5):
        channel.broadcast(Message("m", payload))
    assert stream.dropped
    assert [next(stream)["data"] for _ in range(2)] == [1, 2]
    stream.give_back()
    stream.close()
    stream = channel.message_stream("a")
    assert next(stream)["data"] == 2
    for payload in range(5, 6):
        channel.broadcast(Message("m", payload))
    stream.give_back()
    assert (channel.statistics().lost, channel.statistics().waiting) == (1, 3)
    stream.close()
    assert len(storage.items("message/")) == 3
    channel.close()
    assert [item["data"] for item in channel.message_stream("a")] == [3, 4, 5]
    assert storage.items("message/") == []


@pytest.mark.parametrize("comes_again", [True, False])
def test_what_is_given_back_while_another_stream_is_open_is_given_once(comes_again):
    """Whether the other one has it already, as it asked for what came after an event, or not."""
    channel = SSEChannelRepository().create({})
    channel.register_listener(MessageQueueListener("a"))
    stream = channel.event_stream("a")
    begin = next(stream)
    channel.broadcast(Message("m", 1))
    assert b"data: 1" in next(stream)
    last = begin.decode().partition(": ")[2].strip() if comes_again else None
    other = channel.event_stream("a", last)
    next(other)
    stream.give_back()
    stream.close()
    channel.broadcast(Message("m", 2))
    channel.close()
    assert [piece.partition(b"data: ")[2][:1] for piece in other] == [b"1", b"2"]


def test_what_is_too_much_after_a_reader_was_too_slow_is_forgotten():
    """The next stream begins with as much as may wait."""
    storage = MemoryStorage()
    channel = SSEChannelRepository(storage, capacity=3).create({"channel_id": "c"})
    channel.register_listener(MessageQueueListener("a"))
    channel.message_stream("a")
    for payload in range(5):
        channel.broadcast(Message("m", payload))
    assert len(storage.items("message/")) == 5
    stream = channel.message_stream("a")
    assert len(storage.items("message/")) == 3
    channel.close()
    assert [item["data"] for item in stream] == [2, 3, 4]


def test_a_full_disk_for_one_listener_is_not_for_the_others():
    """The sender gets the error, the message still reaches everybody, stored where it could be."""

    class Full(MemoryStorage):
        def set(self, key, value):
            if key.startswith("message/c/a/"):
                raise StorageError("no room")
            super().set(key, value)

    storage = Full()
    channel = SSEChannelRepository(storage).create({"channel_id": "c"})
    for name in "ab":
        channel.register_listener(MessageQueueListener(name))
    with pytest.raises(StorageError, match="no room"):
        channel.broadcast(Message("m", 1))
    assert next(channel.message_stream("a"))["data"] == 1
    assert [key.split("/")[2] for key, _ in storage.items("message/")] == ["b"]


def test_a_closed_channel_stores_no_listener():
    """What was refused is not there after a restart."""
    storage = MemoryStorage()
    channel = SSEChannelRepository(storage).create({"channel_id": "c"})
    channel.close()
    with pytest.raises(StateError, match="was closed"):
        channel.add_listener()
    assert storage.items("listener/") == []


CHILD = """
import os, sys
sys.path.insert(0, sys.argv[1])
from ate_dispatcher.sse import Message, MessageQueueListener, SQLiteStorage, SSEChannelRepository
channel = SSEChannelRepository(SQLiteStorage(sys.argv[2])).create({"channel_id": "c"})
channel.register_listener(MessageQueueListener("a"))
for number in range(100_000):
    channel.broadcast(Message("m", number))
    print(number, flush=True)
"""


def test_what_was_sent_outlives_a_kill(tmp_path):
    """``kill -9``: whatever `broadcast` had returned for is there afterwards."""
    path = tmp_path / "channels.db"
    home = str(Path(ate_dispatcher.__file__).parents[1])
    with subprocess.Popen(
        [sys.executable, "-c", CHILD, home, str(path)], stdout=subprocess.PIPE, text=True
    ) as child:
        for line in child.stdout:
            if int(line) >= 20:
                child.kill()
                break
        sent = [int(line), *(int(rest) for rest in child.stdout if rest.endswith("\n"))][-1]
    assert child.returncode in (-getattr(signal, "SIGKILL", 9), 1)
    with SQLiteStorage(path) as storage:
        channel = SSEChannelRepository(storage, capacity=200_000).load("c")
        assert waiting(channel, "a")[: sent + 1] == list(range(sent + 1))


def test_one_channel_of_an_id_is_open_at_a_time():
    """Loading it again gives the same; creating it again is refused."""
    repository = SSEChannelRepository()
    channel = repository.create({})
    assert repository.load(channel.id) is channel
    with pytest.raises(NameTakenError, match="there already is a channel"):
        repository.create({"channel_id": channel.id})
    channel.close()
    assert repository.load(channel.id) is not channel


def test_a_repository_of_ones_own():
    """`build` says what is made of the data."""

    class Loud(SSEChannel):
        pass

    class Repository(AbstractChannelRepository):
        def build(self, channel_data, connections_factory):
            return Loud(0, 5, channel_data["channel_id"], connections_factory)

    storage = MemoryStorage()
    Repository(storage).create({"channel_id": "c"})
    assert type(Repository(storage).load("c")) is Loud


def test_listeners_come_back_as_what_their_channel_makes():
    """With their ids and what waits for them; actions are set anew."""

    class Repository(AbstractChannelRepository):
        def build(self, channel_data, connections_factory):
            return SimpleDistributedApplicationChannel(
                connections_factory=connections_factory, **channel_data
            )

    storage = MemoryStorage()
    channel = Repository(storage).create({"channel_id": "c"})
    alice, bob = channel.add_listener(), SimpleDistributedApplicationListener("bob")
    channel.register_listener(bob)
    alice.dispatch_to(bob, Message("ping", 1))
    channel = Repository(storage).load("c")
    assert set(channel.get_listeners_ids()) == {alice.id, "bob"}
    back = channel.get_listener("bob")
    assert type(back) is SimpleDistributedApplicationListener
    back.set_action("ping", lambda msg: [Message("pong", msg.payload)])
    assert next(channel.message_stream("bob"))["data"] == 1
    assert next(channel.message_stream(alice.id))["event"] == "pong"


def test_a_capacity_that_cannot_be_is_refused_at_the_call():
    """And not where the first channel is made."""
    for wrong, error in ((0, InvalidArgumentError), ("3", InvalidTypeError)):
        with pytest.raises(error, match="capacity must be"):
            SSEChannelRepository(capacity=wrong)


def test_bad_channel_data():
    """Nothing is stored of it."""
    storage = MemoryStorage()
    repository = SSEChannelRepository(storage)
    for data, error, says in (
        (None, InvalidTypeError, "channel_data must be a dict, not None"),
        ({"retry": 3}, InvalidArgumentError, "channel_data has 'retry'; there are only stream_d"),
        ({"channel_id": 3}, InvalidTypeError, "channel_id must be a string"),
        ({"stream_delay_seconds": -3}, InvalidArgumentError, "stream_delay_seconds"),
    ):
        with pytest.raises(error, match=says):
            repository.create(data)
    assert storage.items("") == []
    for call in (repository.load, repository.delete):
        with pytest.raises(UnknownIdError, match="no channel 'x' in the repository"):
            call("x")
    with pytest.raises(InvalidTypeError, match="must be a KeyValueStorage"):
        SSEChannelRepository({})


def test_a_storage_that_cannot_be(tmp_path):
    """The error names the file."""
    wrong = tmp_path / "text.db"
    wrong.write_text("no database, but long enough to be looked at " * 10, encoding="utf-8")
    for path in (wrong, tmp_path / "nowhere" / "a.db", tmp_path):
        with pytest.raises(StorageError, match=path.name):
            SQLiteStorage(path)
    with pytest.raises(InvalidTypeError, match="path must be a path"):
        SQLiteStorage(3)
    storage = SQLiteStorage(tmp_path / "right.db")
    storage.close()
    storage.close()
    with pytest.raises(StateError, match=r"right\.db' was closed"):
        storage.get("a")


def test_what_is_stored_and_cannot_be_read():
    """The error says so; nothing is thrown away."""
    storage = MemoryStorage()
    storage.set("channel/c/", "{broken")
    with pytest.raises(UndecodableMessageError, match="no JSON"):
        SSEChannelRepository(storage).load("c")
    assert storage.get("channel/c/") == "{broken"


def test_storages(storages):
    """The same rules for each: values by keys, and what begins alike, in order."""
    storage = storages()
    for key in ("a/2/", "a/1/", "a/10/", "A/1/", "b%/", "b_/"):
        storage.set(key, key.upper())
    storage.set("a/1/", "new")
    assert storage.get("a/1/") == "new"
    assert storage.get("a/3/") is None
    assert storage.items("a/") == [("a/1/", "new"), ("a/10/", "A/10/"), ("a/2/", "A/2/")]
    assert storage.items("b%") == [("b%/", "B%/")]
    storage.delete("a/1/")
    storage.delete("a/1/")
    assert [key for key, _ in storages().items("a/")] == ["a/10/", "a/2/"]
