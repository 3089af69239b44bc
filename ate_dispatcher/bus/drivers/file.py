"""``file:///dir/``: a bus in a folder, for tests and one machine; what was published stays there.

The folder holds ``messages.jsonl``, one record a line and only ever appended to; ``lock``, which
every writer holds; a file under ``groups/`` for each group and filter: how far its messages were
handed out, who has which in hand, whose turn is next; and under ``alive/`` a file for each driver
with group members, locked for as long as it lives. Messages outlive the processes, not a power cut.
Empty the folder only while nobody is connected to it.

This is the one driver that polls: it looks at the log's size every ``?poll=`` seconds. What this
process itself publishes is noticed at once.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import sys
import threading
from functools import partial
from time import monotonic, sleep
from types import MappingProxyType
from typing import (
    Any,
    BinaryIO,
    Callable,
    ClassVar,
    Dict,
    Iterator,
    List,
    Mapping,
    Optional,
    Sequence,
    Tuple,
)

from ..._exceptions import (
    BusConnectionError,
    BusError,
    BusTimeoutError,
    BusURLError,
    UndecodableMessageError,
)
from ..._topics import ONE_WORD, TopicFilter
from .._driver import Capabilities, Driver, Inbox
from .._grammar import Words
from .._url import BusURL, choice, seconds

__all__ = ["FileDriver"]

PATROL = 0.25
"""Seconds after which groups are looked at though nothing was published: for the dead and gone."""

Message = Tuple[Words, bytes]

# The followers of each folder in this process, to be woken by its publishers. Each tuple is
# replaced whole under the lock, so that reading one is an atomic step and needs none.
_followers: Dict[str, Tuple[threading.Event, ...]] = {}
_followers_lock = threading.Lock()


class _Subscriber:
    """A subscription without a group. The follower alone moves `next`."""

    def __init__(self, filters: Sequence[TopicFilter], inbox: Inbox, begin: int) -> None:
        self.filters = filters
        self.inbox = inbox
        self.next = begin


class _Member:
    """One subscription's part in one group. Guarded by the driver's lock.

    Its messages are told by where they stand in the log: the one that the callback has, and the one
    that it has done with while the group's file does not say so yet.
    """

    def __init__(self, inbox: Inbox, via: int) -> None:
        self.inbox = inbox
        self.via = via
        self.in_hand: Optional[int] = None
        self.finished: Optional[int] = None


class _Group:
    """One driver's members of a group's filter. All of it is guarded by the driver's lock."""

    def __init__(self, path: str, pattern: TopicFilter) -> None:
        self.path = path
        self.pattern = pattern
        self.members: Dict[str, _Member] = {}
        self.scanned = 0
        """Up to here the log has nothing for this group behind what its file says."""
        self.stale = False
        """Whether a member has left that the group's file still knows."""
        self.told = False
        """Whether the members know that the file cannot be written."""

    @property
    def waits(self) -> bool:
        """Whether its file may have, or need, something new."""
        return self.stale or any(own.in_hand is None for own in self.members.values())


class _State:
    """What a group's file says, while the folder is locked; members by their names."""

    def __init__(
        self,
        offset: int,
        back: Sequence[int] = (),
        in_hand: Mapping[str, int] = MappingProxyType({}),
        idle: Sequence[str] = (),
    ) -> None:
        self.offset = offset
        """Everything before was handed out, or is not for this group."""
        self.back = list(back)
        """What was handed out and has come back from members that left or died."""
        self.in_hand = dict(in_hand)
        """What each member was given: it may not have noticed yet."""
        self.idle = list(idle)
        """Members that were given nothing, the longest waiting first."""

    @classmethod
    def read(cls, text: str, size: int) -> _State:
        """Read a file's text. One that cannot be of this log is begun anew: again, not never."""
        try:
            found = cls(**json.loads(text))
            numbers = [found.offset, *found.back, *found.in_hand.values()]
            if all(type(number) is int and 0 <= number <= size for number in numbers):
                return found
        except (ValueError, TypeError, AttributeError, RecursionError):
            pass
        return cls(0)

    def write(self) -> str:
        return json.dumps(vars(self))


class FileDriver(Driver):
    """Publishers and subscribers of one folder, in any number of processes of one machine."""

    scheme = "file"
    capabilities: ClassVar[Capabilities] = Capabilities(
        delivery="at most once",
        group_delivery="at least once",
        backlog=True,
        order="publisher",
        persistent=True,
    )
    options = {"poll": seconds, "from": choice("start", "end")}

    def __init__(self, url: BusURL) -> None:
        super().__init__(url)
        if url.user or url.password:
            raise BusURLError("a file:// URL has no user and no password")
        if url.hosts not in ((), (("localhost", None),)):
            raise BusURLError("a file:// URL names no host: write three slashes, file:///dir/")
        path = url.path
        if os.name == "nt" and path[2:3] == ":":  # "/C:/dir"
            path = path[1:]
        if not path or "\0" in path:
            raise BusURLError("a file:// URL needs the path of a folder, as in file:///tmp/bus/")
        self._folder = os.path.realpath(path)
        self._poll = min(self.settings.get("poll", 0.02), threading.TIMEOUT_MAX)
        self._patience = min(self.timeout, threading.TIMEOUT_MAX)
        self._from_start = self.settings.get("from") == "start"
        # Who uses the descriptors, or waits for the folder's lock, which may be long, has the turn.
        self._turn = threading.Lock()
        self._closed = False  # set once, by close; whoever waits looks at it
        self._whole = -1  # the log's size after our last write: so far it ends with a newline
        # Guards what follows; taken after the turn if both are needed, and held for a few steps.
        self._lock = threading.Lock()
        self._groups: Dict[str, _Group] = {}
        self._count = 0
        self._token = ""
        self._alive: Optional[int] = None
        self._follower: Optional[threading.Thread] = None
        # Replaced whole under the lock, so that the follower needs none to read it.
        self._subscribers: Tuple[_Subscriber, ...] = ()
        self._wake = threading.Event()

    # ---- life ------------------------------------------------------------------------------------

    def connect(self) -> None:
        """Open the folder; make it if the one above it is there."""
        with contextlib.ExitStack() as undo:
            try:
                for folder in (self._folder, self._inside("groups"), self._inside("alive")):
                    if not os.path.isdir(folder):
                        with contextlib.suppress(FileExistsError):  # another process was quicker
                            os.mkdir(folder)
                self._lock_file = _open(self._inside("lock"))
                undo.callback(os.close, self._lock_file)
                self._log = _open(self._inside("messages.jsonl"), os.O_APPEND)
                undo.callback(os.close, self._log)
                self._reader: BinaryIO = open(self._inside("messages.jsonl"), "rb")  # noqa: SIM115
            except OSError as error:
                raise self.failed("opening the folder", error) from error
            undo.pop_all()

    def close(self) -> None:
        """End the follower. What members still have in hand is anybody's from now on."""
        self._closed = True
        with self._turn:  # nobody begins a follower any more
            follower = self._follower
        if follower is not None:
            self._wake.set()
            follower.join()
            with _followers_lock:
                others = tuple(own for own in _followers[self._folder] if own is not self._wake)
                _followers[self._folder] = others
                if not others:
                    del _followers[self._folder]
        with self._turn, contextlib.suppress(OSError):
            self._reader.close()
            os.close(self._log)
            os.close(self._lock_file)
            if self._alive is not None:
                os.close(self._alive)
                os.unlink(self._inside("alive", self._token))
        self._stir()

    def _inside(self, *names: str) -> str:
        return os.path.join(self._folder, *names)

    @contextlib.contextmanager
    def _exclusive(self, what: str) -> Iterator[None]:
        """Have the turn and the folder's lock; the system's errors are translated here."""
        limit = monotonic() + self._patience
        if not self._turn.acquire(timeout=self._patience):
            raise BusTimeoutError(f"{what} at {self.url}: this process was busy for too long")
        try:
            self._lock_folder(what, limit)
            try:
                yield
            finally:
                _unlock(self._lock_file)
        except BusError:  # some of them are OSErrors too
            raise
        except OSError as error:
            raise self.failed(what, error) from error
        finally:
            self._turn.release()

    def _lock_folder(self, what: str, limit: float) -> None:
        # Waiting in the system would be fairer, but has no limit: the holder may be frozen.
        pause = 0.00005
        while not self._closed:
            if _try_lock(self._lock_file):
                return
            if monotonic() > limit:
                raise BusTimeoutError(f"{what} at {self.url}: another process keeps it locked")
            sleep(pause)
            pause = min(2 * pause, 0.001)
        raise BusConnectionError(f"{what} at {self.url}: it was closed")

    # ---- publishing ------------------------------------------------------------------------------

    def publish(self, words: Words, payload: bytes) -> None:
        """Append one line."""
        line = _line(words, payload)
        with self._exclusive("publishing"):
            self._append(line)
        self._stir()

    def _append(self, line: bytes) -> None:
        size = os.fstat(self._log).st_size
        if size and size != self._whole:
            self._reader.seek(size - 1)
            if self._reader.read(1) != b"\n":  # whoever wrote it was killed
                line = b"\n" + line
        rest = memoryview(line)
        while rest:  # once, but for a full disk, which then raises
            rest = rest[os.write(self._log, rest) :]
        self._whole = size + len(line)

    def _stir(self) -> None:
        """Wake the followers of this folder in this process."""
        for event in _followers.get(self._folder, ()):
            if not event.is_set():  # if it is, that follower has yet to look
                event.set()

    # ---- subscribing -----------------------------------------------------------------------------

    def subscribe(
        self, filters: Sequence[TopicFilter], group: str, inbox: Inbox
    ) -> Callable[[], None]:
        """Read from the log's present end on, or take part in the group of each filter."""
        members: List[Tuple[_Group, str]] = []
        with self._exclusive("subscribing"), self._lock:
            begin = 0 if self._from_start else os.fstat(self._log).st_size
            if group:
                self._show_alive()
            shares = [self._share(group, pattern, begin) for pattern in filters if group]
            self._begin_follower()
            if not group:
                subscriber = _Subscriber(tuple(filters), inbox, begin)
                self._subscribers = (*self._subscribers, subscriber)
            for via, shared in enumerate(shares):
                shared = self._groups.setdefault(shared.path, shared)
                self._count += 1
                name = f"{self._token}/{self._count}"
                shared.members[name] = _Member(inbox, via)
                members.append((shared, name))
        if not group:
            self._wake.set()
            return partial(self._leave, subscriber)
        try:
            for shared, _ in members:
                self._serve(shared)  # it is live when its name is in the group's file
        except BusError:
            self._leave_groups(members)
            raise
        return partial(self._leave_groups, members)

    def _share(self, group: str, pattern: TopicFilter, begin: int) -> _Group:
        """Find a group, or make it: what is published from now on is its, members or not."""
        words = ["*" if word in ONE_WORD else word for word in pattern.words]
        name = hashlib.sha256(json.dumps([group, *words]).encode()).hexdigest()[:32]
        path = self._inside("groups", name)
        if path in self._groups:
            return self._groups[path]
        if not os.path.exists(path):
            _replace(path, _State(begin).write())
        return _Group(path, pattern)

    def _leave(self, subscriber: _Subscriber) -> None:
        with self._lock:
            self._subscribers = tuple(own for own in self._subscribers if own is not subscriber)

    def _leave_groups(self, members: List[Tuple[_Group, str]]) -> None:
        """Go, without waiting for the folder: the follower gives back what was in hand.

        If the driver is closed before it does, whoever finds its members dead does so.
        """
        with self._lock:
            for group, name in members:
                group.members.pop(name).in_hand = None
                group.stale = True
        self._wake.set()

    # ---- reading (the follower's thread) ---------------------------------------------------------

    def _begin_follower(self) -> None:
        if self._follower is None:
            file = open(self._inside("messages.jsonl"), "rb")  # noqa: SIM115 - the follower's own
            follower = threading.Thread(
                target=self._follow, args=(file,), name=f"follower of {self.url}", daemon=True
            )
            follower.start()
            self._follower = follower
            with _followers_lock:
                others = _followers.get(self._folder, ())
                _followers[self._folder] = (*others, self._wake)

    def _follow(self, file: BinaryIO) -> None:
        seen, due, told = -1, 0.0, False
        with file:
            while True:
                woken = self._wake.wait(self._poll)
                self._wake.clear()
                if self._closed:
                    return
                size, now = os.fstat(file.fileno()).st_size, monotonic()
                if not woken and size == seen and now < due:
                    continue
                seen, due = size, now + PATROL
                try:
                    self._read(file)
                    told = False
                except OSError as error:  # the disk; it may come back
                    for own in () if told else self._subscribers:
                        own.inbox.report(self.failed("reading", error))
                    told = True
                with self._lock:
                    groups = [own for own in self._groups.values() if own.waits]
                for group in groups:
                    self._tend(group)

    def _read(self, file: BinaryIO) -> None:
        """Hand every new line to the subscribers that have not passed it."""
        subscribers = self._subscribers
        if not subscribers:
            return
        for begin, line in _lines(file, min(own.next for own in subscribers)):
            message = _message(line)
            for own in subscribers:
                if own.next > begin:
                    continue
                own.next = begin + len(line)
                if message is None:
                    self._complain(own.inbox, begin, line)
                elif any(pattern.matches_words(message[0]) for pattern in own.filters):
                    own.inbox.put(*message)

    def _complain(self, inbox: Inbox, begin: int, line: bytes) -> None:
        if line.strip():
            shown = line[:60] + (b"..." if len(line) > 60 else b"")
            where = f"the line at byte {begin} of {self._inside('messages.jsonl')}"
            inbox.report(UndecodableMessageError(f"{where} is no record: {shown!r}"))

    # ---- groups (any thread) ---------------------------------------------------------------------

    def _tend(self, group: _Group) -> None:
        """Serve a group; if that fails, tell its members once and let the follower try again."""
        try:
            self._serve(group)
            group.told = False
        except BusError as error:
            with self._lock:
                tell = () if self._closed or group.told else tuple(group.members.values())
                group.told = True
            for member in tell:
                member.inbox.report(error)

    def _serve(self, group: _Group) -> None:
        """Bring a group's file up to date, give whoever is idle a message, and fetch our own.

        Whoever comes first gives to everybody, in turn: otherwise the quickest process, which has
        the lock again as soon as it has let it go, would take all.
        """
        bad: List[Tuple[int, bytes]] = []
        given: Dict[str, Message] = {}
        with self._exclusive("sharing work"), self._lock:
            text = _text(group.path)
            state = _State.read(text, os.fstat(self._log).st_size)
            self._settle(group, state)
            scanned = max(state.offset, group.scanned)
            while state.idle and group.members:
                found, scanned = self._next(group, state, scanned, bad)
                if found is None:
                    break
                name = state.idle.pop(0)
                state.in_hand[name], given[name] = found
            if state.write() != text:
                _replace(group.path, state.write())
            # It is in the file; only now may it be true here, as nothing is done if that fails.
            group.scanned, group.stale = scanned, False
            for begin, line in bad:
                self._complain(next(iter(group.members.values())).inbox, begin, line)
            for name, member in group.members.items():
                member.finished = None
                if name in state.in_hand and member.in_hand is None:
                    self._hand_over(group, member, state.in_hand[name], given.pop(name, None))
            if not group.members:
                self._groups.pop(group.path, None)
        if given or (state.back and not group.members):  # others have it to do, perhaps here
            self._stir()

    def _settle(self, group: _Group, state: _State) -> None:
        """Take out what our members have finished; give back what the gone and the dead had."""
        ours = f"{self._token}/"
        names = [*state.in_hand, *state.idle]
        others = {name.partition("/")[0] for name in names if not name.startswith(ours)}
        living = tuple(f"{token}/" for token in others if self._is_alive(token))
        state.idle = [
            name for name in state.idle if name in group.members or name.startswith(living)
        ]
        for name, begin in tuple(state.in_hand.items()):
            member = group.members.get(name)
            if member is None and not name.startswith(living):
                del state.in_hand[name]
                state.back.append(begin)
            elif member is not None and member.finished == begin:
                del state.in_hand[name]
        state.back.sort()
        known = {*state.idle, *state.in_hand}
        # A member may have something that a file begun anew does not know.
        state.idle += [
            name
            for name, member in group.members.items()
            if name not in known and member.in_hand is None
        ]

    def _hand_over(
        self, group: _Group, member: _Member, begin: int, message: Optional[Message]
    ) -> None:
        if message is None:  # given by another driver
            self._reader.seek(begin)
            message = _message(self._reader.readline())
        if message is None:
            member.finished = begin
            return
        member.in_hand = begin
        done = partial(self._done, group, member, begin)
        member.inbox.put(*message, via=member.via, done=done)

    def _next(
        self, group: _Group, state: _State, scanned: int, bad: List[Tuple[int, bytes]]
    ) -> Tuple[Optional[Tuple[int, Message]], int]:
        """Take the oldest message that is for a group; tell also how far was looked."""
        while state.back:
            begin = state.back.pop(0)
            self._reader.seek(begin)
            message = _message(self._reader.readline())
            if message is not None:
                return (begin, message), scanned
        for begin, line in _lines(self._reader, scanned):
            scanned = begin + len(line)
            message = _message(line)
            if message is None:
                bad.append((begin, line))
                state.offset = scanned  # so that no other member finds it again
            elif group.pattern.matches_words(message[0]):
                state.offset = scanned
                return (begin, message), scanned
        return None, scanned

    def _done(self, group: _Group, member: _Member, begin: int) -> None:
        """A member has done with its message, and takes the next."""
        with self._lock:
            if self._closed or member.in_hand != begin:  # it left meanwhile
                return
            member.in_hand, member.finished = None, begin
        self._tend(group)

    def _show_alive(self) -> None:
        """Lock a file that the system unlocks when this process dies; sweep those of the dead."""
        if self._alive is None:
            for token in os.listdir(self._inside("alive")):
                self._is_alive(token)
            self._token = f"{os.getpid()}-{os.urandom(8).hex()}"
            self._alive = _open(self._inside("alive", self._token))
            _try_lock(self._alive)

    def _is_alive(self, token: str) -> bool:
        path = self._inside("alive", os.path.basename(token))
        try:
            descriptor = os.open(path, os.O_RDWR)
        except FileNotFoundError:
            return False
        try:
            if not _try_lock(descriptor):
                return True
            _unlock(descriptor)
        finally:
            os.close(descriptor)
        os.unlink(path)
        return False


# ---- records ------------------------------------------------------------------------------------


def _line(words: Words, payload: bytes) -> bytes:
    record: Dict[str, Any] = {"topic": words}
    try:
        record["data"] = payload.decode("utf-8")
    except UnicodeDecodeError:
        record["base64"] = base64.b64encode(payload).decode("ascii")
    return json.dumps(record).encode("ascii") + b"\n"


def _message(line: bytes) -> Optional[Message]:
    """Read a line; None if it is no record, such as what a killed writer has left."""
    try:
        record = json.loads(line)
        words = record["topic"]
        if not (isinstance(words, list) and words and all(isinstance(w, str) for w in words)):
            return None
        if "base64" in record:
            return tuple(words), base64.b64decode(record["base64"], validate=True)
        return tuple(words), record["data"].encode("utf-8")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def _lines(file: BinaryIO, begin: int) -> Iterator[Tuple[int, bytes]]:
    """Give the complete lines from `begin` on, and where each stands."""
    file.seek(begin)
    while True:
        line = file.readline()
        if not line.endswith(b"\n"):
            return
        yield begin, line
        begin += len(line)


# ---- files --------------------------------------------------------------------------------------


def _open(path: str, flags: int = 0) -> int:
    binary = getattr(os, "O_BINARY", 0)  # Windows
    return os.open(path, os.O_RDWR | os.O_CREAT | binary | flags, 0o666)


def _text(path: str) -> str:
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            return file.read()
    except FileNotFoundError:
        return ""


def _replace(path: str, text: str) -> None:
    """Write a file as a whole or not at all; the folder is locked."""
    with open(path + ".new", "w", encoding="ascii") as file:
        file.write(text)
    os.replace(path + ".new", path)


if sys.platform == "win32":

    def _try_lock(descriptor: int) -> bool:
        import msvcrt

        os.lseek(descriptor, 0, os.SEEK_SET)
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except PermissionError:
            return False
        return True

    def _unlock(descriptor: int) -> None:
        import msvcrt

        os.lseek(descriptor, 0, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_UNLCK, 1)

else:

    def _try_lock(descriptor: int) -> bool:
        import fcntl

        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _unlock(descriptor: int) -> None:
        import fcntl

        fcntl.flock(descriptor, fcntl.LOCK_UN)
