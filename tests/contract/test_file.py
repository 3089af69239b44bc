"""What is special of the file driver: torn lines, other processes, and what outlives them."""

from __future__ import annotations

import contextlib
import errno
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

import ate_dispatcher
from ate_dispatcher import (
    BusConnectionError,
    BusTimeoutError,
    BusURLError,
    UndecodableMessageError,
)
from ate_dispatcher.bus import Distributer
from ate_dispatcher.bus.drivers import file as driver_module
from ate_dispatcher.testing import Gate

BOUND = 60.0
PACKAGE = pathlib.Path(ate_dispatcher.__file__).parent.parent


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "bus"


@pytest.fixture
def url(folder):
    return f"file://{folder}/"


@pytest.fixture
def make(url):
    """Make connected distributers, all closed after the test."""
    with contextlib.ExitStack() as stack:

        def make(options="", **more):
            return stack.enter_context(Distributer(url + options, **more))

        yield make


class Child:
    """Another process with a bus, and `say` and `heard` to stay in step with it."""

    def __init__(self, code, url):
        self.process = subprocess.Popen(
            [sys.executable, "-c", f"import sys\nurl = sys.argv[1]\n{PRELUDE}{code}", url],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(PACKAGE)},
        )

    def heard(self):
        """Give the next line that it prints."""
        return self.process.stdout.readline().strip()

    def say(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def end(self):
        """Let it end, or see that it was killed; give what it still printed."""
        if self.process.stdout.closed:
            return []
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        rest = self.process.stdout.read().split()
        self.process.wait(BOUND)
        self.process.stdout.close()
        return rest


PRELUDE = """
import os
from ate_dispatcher.bus import Distributer
bus = Distributer(url).connect()
"""


@pytest.fixture
def child(url):
    """Start other processes, all ended after the test."""
    with contextlib.ExitStack() as stack:

        def start(code):
            own = Child(code, url)
            stack.callback(own.end)
            stack.callback(own.process.kill)
            return own

        yield start


def torn(folder, half=b'{"topic": ["a"], "data": "hal'):
    """Append what a killed writer would have left."""
    with open(folder / "messages.jsonl", "ab") as log:
        log.write(half)


# ---- URLs ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ("file://", "needs the path of a folder"),
        ("file://bus/dir/", "names no host: write three slashes"),
        ("file://localhost:80/tmp/x/", "names no host"),
        ("file://me:s3cret@/tmp/x/", "no user and no password"),
        ("file:///tmp/a%00b/", "needs the path of a folder"),
        ("file:///tmp/x/?poll=0", "'poll' of file:// must be a positive number"),
        ("file:///tmp/x/?from=middle", "'from' of file:// must be one of start, end"),
        ("file:///tmp/x/?pol=1", "did you mean 'poll'"),
    ],
)
def test_urls_that_cannot_be_meant(wrong, why):
    """URLs: each mistake is told before anything is opened, without the password."""
    with pytest.raises(BusURLError, match=why) as caught:
        Distributer(wrong)
    assert "s3cret" not in str(caught.value)


def test_a_url_with_spaces_and_localhost(tmp_path, basket):
    """URLs: the path is percent-decoded, and localhost is nobody else."""
    with Distributer(f"file://localhost{tmp_path}/a%20b%25?poll=0.01&timeout=5") as bus:
        bus.subscribe(basket, "a")
        bus.publish(1, "a")
        assert basket.take(1) == [1]
    assert (tmp_path / "a b%").is_dir()


def test_folders_that_cannot_be(tmp_path):
    """Connecting: no folder above, a file in the way, a log that is none: told at once."""
    (tmp_path / "taken").write_text("")
    (tmp_path / "odd" / "messages.jsonl").mkdir(parents=True)
    for place in ("none/bus", "taken", "taken/bus", "odd"):
        with pytest.raises(BusConnectionError, match=r"opening the folder at file:///.* failed"):
            Distributer(f"file://{tmp_path}/{place}").connect()


def test_a_folder_that_is_not_writable(tmp_path, monkeypatch):
    """Connecting: a folder of somebody else is told at once."""

    def refuse(*arguments, **options):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)  # root may write anywhere
    monkeypatch.setattr("builtins.open", refuse)
    with pytest.raises(BusConnectionError, match="Permission denied"):
        Distributer(f"file://{tmp_path}").connect()


def test_nothing_that_windows_lacks_is_needed_to_import_it():
    """Importing: without `fcntl` the module still loads."""
    code = "import sys; sys.modules['fcntl'] = None; import ate_dispatcher.bus.drivers.file"
    subprocess.run(
        [sys.executable, "-c", code],
        check=True,
        timeout=BOUND,
        env={**os.environ, "PYTHONPATH": str(PACKAGE)},
    )


# ---- torn and strange lines ----------------------------------------------------------------------


def test_a_torn_line_is_skipped_and_told_once(make, folder, baskets):
    """Torn: the writer after it begins a new line; each subscriber is told once, and no more."""
    good, errors = baskets(), baskets()
    bus = make(on_error=lambda own, error: errors(error))
    bus.subscribe(good, "a")
    bus.publish(1, "a")
    torn(folder)
    make().publish(2, "a")  # another writer, which does not know that the line is torn
    bus.publish(3, "a")
    assert good.take(3) == [1, 2, 3]
    (error,) = errors.take(1)
    assert isinstance(error, UndecodableMessageError)
    assert 'is no record: b\'{"topic": ["a"]' in str(error)
    assert errors.left() == []


def test_a_group_skips_a_torn_line_too(make, folder, baskets):
    """Torn: one member of a group is told, the others never meet it."""
    good, errors = baskets(), baskets()
    members = [make(on_error=lambda own, error: errors(error)) for _ in range(2)]
    for bus in members:
        bus.subscribe(good, "a", subscriber_group="g")
    torn(folder)
    members[0].publish("ends it", "b")
    assert len(errors.take(1)) == 1
    for bus in members:
        bus.close()
    late = make(on_error=lambda own, error: errors(error))
    late.subscribe(good, "a", subscriber_group="g")
    late.publish("late", "a")
    assert good.take(1) == ["late"]
    assert errors.left() == []


def test_subscribing_behind_a_torn_line(make, folder, baskets):
    """Torn: who subscribes while the log ends in one begins after it, and has nothing to be told.

    A line that lacks but its end is whole as soon as somebody ends it; it came before, though.
    """
    good, errors = baskets(), baskets()
    bus = make(on_error=lambda own, error: errors(error))
    for half in (b'{"topic": ["a"], "da', b'{"topic": ["a"], "data": "\\"before\\""}'):
        torn(folder, half)
        with bus.subscribe(good, "a"):
            bus.publish(1, "a")
            assert good.take(1) == [1]
    assert errors.left() == []


@pytest.mark.parametrize(
    "line",
    [
        b"\xff\xfe",
        b"[]",
        b"null",
        b'{"topic": "a", "data": "1"}',
        b'{"topic": [], "data": "1"}',
        b'{"topic": ["a", 1], "data": "1"}',
        b'{"topic": ["a"]}',
        b'{"topic": ["a"], "data": 1}',
        b'{"topic": ["a"], "data": "\\ud800"}',
        b'{"topic": ["a"], "base64": "?"}',
        b"[" * 100_000,
    ],
)
def test_lines_of_strangers(make, folder, baskets, line):
    """Strangers: a line that is no record is told, and the next is read."""
    good, errors = baskets(), baskets()
    bus = make(on_error=lambda own, error: errors(error))
    bus.subscribe(good, "a")
    torn(folder, line + b"\n")
    bus.publish("good", "a")
    assert good.take(1) == ["good"]
    assert "is no record" in str(errors.take(1)[0])


def test_a_full_disk_in_the_middle_of_a_line(make, monkeypatch, baskets):
    """Torn: publish raises, the half line is passed over, and the bus goes on."""
    good, errors = baskets(), baskets()
    bus = make(on_error=lambda own, error: errors(error))
    bus.subscribe(good, "a")
    written, write = [], os.write

    def full(descriptor, data):
        if written:
            raise OSError(errno.ENOSPC, "No space left on device")
        written.append(write(descriptor, bytes(data)[:12]))
        return written[0]

    with monkeypatch.context() as patched:
        patched.setattr(driver_module.os, "write", full)
        with pytest.raises(BusConnectionError, match="No space left on device"):
            bus.publish(1, "a")
    bus.publish(2, "a")
    assert good.take(1) == [2]
    assert "is no record" in str(errors.take(1)[0])


def test_a_group_s_file_that_cannot_be_read(make, folder, basket):
    """Torn: a group whose file says nothing sensible is given all again, rather than nothing."""
    texts = ("", "{", '{"offset": -1}', '{"offset": 999999}', '{"offset": "x", "y": 1}')
    make().publish(1, "a")
    for text in (None, *texts):
        if text is not None:
            (path,) = (folder / "groups").iterdir()
            path.write_text(text)
        bus = make("?from=start")
        bus.subscribe(basket, "a", subscriber_group="g")
        assert basket.take(1) == [1]
        bus.close()  # nobody else writes the file


# ---- what outlives the process -------------------------------------------------------------------


def test_a_writer_killed_in_the_middle(make, child, baskets):
    """Other processes: killed within a line and with the lock held, it has lost only that line."""
    good, again, errors = baskets(), baskets(), baskets()
    bus = make(on_error=lambda own, error: errors(error))
    bus.subscribe(good, "a.#")
    writer = child("""
for number in range(20):
    bus.publish(number, f"a.{number}")
driver = bus._driver()
with driver._exclusive("being killed"):
    os.write(driver._log, b'{"topic": ["a"], "data": "ha')
    print("half", flush=True)
    sys.stdin.read()
""")
    assert writer.heard() == "half"
    writer.process.kill()
    writer.process.wait(BOUND)
    bus.publish("after", "a")
    assert good.take(21) == [*range(20), "after"]
    assert "is no record" in str(errors.take(1)[0])
    make("?from=start").subscribe(again, "a.#")
    assert again.take(21) == [*range(20), "after"]


def test_from_start_and_from_the_end(make, basket):
    """Options: without a group `from=start` reads what was before; otherwise nobody does."""
    publisher = make()
    for number in range(3):
        publisher.publish(number, "a")
    publisher.close()
    make().subscribe(lambda data: basket(["end", data]), "a")
    bus = make("?from=start")
    bus.subscribe(lambda data: basket(["start", data]), "a")
    assert basket.take(3) == [["start", number] for number in range(3)]
    bus.publish(3, "a")
    assert sorted(basket.take(2)) == [["end", 3], ["start", 3]]
    bus.subscribe(lambda data: basket(["group", data]), "a", subscriber_group="new")
    assert basket.take(4) == [["group", number] for number in range(4)]


def test_a_group_s_backlog_in_another_process(make, child, basket):
    """Other processes: a group goes on where the one before it stood, and reads nothing twice."""
    bus = make()
    with bus.subscribe(basket, "a", subscriber_group="g"):
        bus.publish("first", "a")
        assert basket.take(1) == ["first"]
    for number in range(5):
        bus.publish(number, "a")
    bus.close()
    reader = child("""
bus.subscribe(lambda data: print(data, flush=True), "a", subscriber_group="g")
sys.stdin.read()
bus.close()
""")
    assert [reader.heard() for _ in range(5)] == list("01234")
    assert reader.end() == []
    again = make()
    again.subscribe(basket, "a", subscriber_group="g")
    again.publish("last", "a")
    assert basket.take(1) == ["last"]


def test_two_processes_share_a_group(make, child, basket):
    """Other processes: each message is handled once, and none of the two takes all."""
    worker = child("""
bus.subscribe(lambda data: bus.publish(data, "done.there"), "work", subscriber_group="g")
print("live", flush=True)
sys.stdin.read()
bus.close()
""")
    bus = make()
    bus.subscribe(basket, "done.*", with_topic=True)
    bus.subscribe(lambda data: bus.publish(data, "done.here"), "work", subscriber_group="g")
    assert worker.heard() == "live"
    for number in range(60):
        bus.publish(number, "work")
    found = basket.take(60)
    assert sorted(data for data, _ in found) == list(range(60))
    assert {topic for _, topic in found} == {"done.here", "done.there"}
    bus.publish("fence", "done.fence")
    assert basket.take(1) == [("fence", "done.fence")]


def test_what_a_killed_member_had_in_hand(make, child, basket):
    """Other processes: it is another's, though nobody said farewell; the finished is not."""
    worker = child("""
def work(data):
    print(data, flush=True)
    if data == 1:
        sys.stdin.read()
bus.subscribe(work, "work", subscriber_group="g")
print("live", flush=True)
sys.stdin.read()
""")
    assert worker.heard() == "live"
    bus = make()
    for number in range(4):
        bus.publish(number, "work")
    assert [worker.heard(), worker.heard()] == ["0", "1"]
    bus.subscribe(basket, "work", subscriber_group="g")
    assert sorted(basket.take(2)) == [2, 3]
    worker.process.send_signal(signal.SIGKILL)
    worker.process.wait(BOUND)
    assert basket.take(1) == [1]
    bus.publish("last", "work")
    assert basket.take(1) == ["last"]
    assert len(list((pathlib.Path(bus._driver()._folder) / "alive").iterdir())) == 1


# ---- waking and waiting --------------------------------------------------------------------------


def test_this_process_is_noticed_at_once(make, basket):
    """Polling: what the same process publishes wakes its followers, however rarely they look."""
    make("?poll=600").subscribe(basket, "a")
    make("?poll=600").subscribe(basket, "a", subscriber_group="g")
    publisher = make("?poll=600")
    for number in range(3):
        publisher.publish(number, "a")
        assert basket.take(2) == [number] * 2


def test_a_member_s_turn(make, baskets):
    """Groups: members of two drivers take turns, though one is always quicker to the lock."""
    for number in range(20):
        two = [baskets(), baskets()]
        for own in two:
            make().subscribe(own, f"a.{number}", subscriber_group="g")
        publisher = make()
        publisher.publish(1, f"a.{number}")
        publisher.publish(2, f"a.{number}")
        assert sorted(own.take(1)[0] for own in two) == [1, 2]


@contextlib.contextmanager
def frozen(folder):
    """Hold the folder's lock, as a stopped process would."""
    descriptor = os.open(folder / "lock", os.O_RDWR)
    try:
        limit = time.monotonic() + BOUND
        while not driver_module._try_lock(descriptor):  # a follower may be looking just now
            assert time.monotonic() < limit
        yield
    finally:
        os.close(descriptor)


def test_a_writer_that_stands_still(make, folder, basket):
    """Outages: publish and subscribe raise within the timeout; close is quick; then all is well."""
    bus, other = make("?timeout=0.2"), make("?timeout=60")
    bus.subscribe(basket, "a")
    other.subscribe(basket, "b", subscriber_group="g")
    with frozen(folder):
        for call in (lambda: bus.publish(1, "a"), lambda: bus.subscribe(basket, "b")):
            begun = time.monotonic()
            with pytest.raises(BusTimeoutError, match="another process keeps it locked"):
                call()
            assert time.monotonic() - begun < 15
        begun = time.monotonic()
        other.close()
        assert time.monotonic() - begun < 15
    bus.publish(2, "a")
    assert basket.take(1) == [2]


def test_done_while_it_cannot_be_written(make, folder, baskets):
    """Outages: what was handled meanwhile is handled, and not given again; it is told."""
    good, errors, parked = baskets(), baskets(), Gate()
    with parked:
        bus = make("?timeout=0.1", on_error=lambda own, error: errors(error))

        def work(data):
            if data == 1:
                parked.park()
            good(data)

        bus.subscribe(work, "a", subscriber_group="g")
        bus.publish(1, "a")
        bus.publish(2, "a")
        parked.wait_parked()
        with frozen(folder):
            parked.open()
            assert good.take(1) == [1]
            assert isinstance(errors.take(1)[0], BusTimeoutError)
        assert good.take(1) == [2]
    bus.publish(3, "a")
    assert good.take(1) == [3]


def test_closed_with_a_message_in_hand(make, baskets):
    """Life: a callback that outlives its bus neither fails nor keeps its message from others."""
    good, slow = baskets(), baskets()
    with Gate() as gate:

        def stuck(data):
            gate.park()
            slow(data)

        bus = make()
        subscription = bus.subscribe(stuck, "a", subscriber_group="g")
        bus.publish(1, "a")
        gate.wait_parked()
        bus.close(timeout=0)
        make().subscribe(good, "a", subscriber_group="g")
        assert good.take(1) == [1]
        gate.open()
        assert subscription.join(BOUND)
    assert slow.take(1) == [1]
    assert subscription.errors == 0
