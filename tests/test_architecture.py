"""The layout that `ate_dispatcher.__init__` tells the reader, held against the source."""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

import ate_dispatcher

PACKAGE = Path(ate_dispatcher.__file__).parent
PROJECT = Path(__file__).parent.parent
HEAVY = {
    "asyncio", "http", "json", "multiprocessing", "socket", "sqlite3", "ssl", "subprocess", "uuid",
}  # fmt: skip


# ---- reading the source --------------------------------------------------------------------------


def modules():
    """Give every module of the package by its dotted name within it (`""` is the root)."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        found[".".join(part for part in parts if part != "__init__")] = path
    return found


MODULES = modules()


def layers():
    """Read the table in the package's docstring: layer by layer, lowest first, the modules."""
    table = ate_dispatcher.__doc__.split("::", 1)[1].strip().splitlines()
    return [re.split(" {2,}", line.strip(), maxsplit=1)[1].split() for line in table]


def level_of(module):
    """Give the number of a module's layer; a folder's modules stand in the folder's."""
    top = module.split(".")[0]
    return next(level for level, names in enumerate(layers()) if top in names)


class Imports(ast.NodeVisitor):
    """Collects what a module imports, in functions too, but not for type checkers only."""

    def __init__(self, module, is_package):
        self.found = []  # (module of the package or None, names from it, whether at run time)
        self._here = module.split(".") if module else []
        self._package = self._here if is_package else self._here[:-1]
        self._typing_only = False
        self.absolute = []

    def visit_If(self, node):
        guarded = isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        before, self._typing_only = self._typing_only, self._typing_only or guarded
        for child in node.body:
            self.visit(child)
        self._typing_only = before
        for child in node.orelse:
            self.visit(child)

    def visit_Import(self, node):
        for alias in node.names:
            self.absolute.append(alias.name)

    def visit_ImportFrom(self, node):
        if not node.level:
            self.absolute.append(node.module)
            return
        base = self._package[: len(self._package) - (node.level - 1)]
        source = ".".join([*base, node.module] if node.module else base)
        for alias in node.names:
            inner = f"{source}.{alias.name}" if source else alias.name
            target = inner if inner in MODULES else source
            self.found.append((target, alias.name, not self._typing_only))


def imports_of(module):
    path = MODULES[module]
    visitor = Imports(module, path.name == "__init__.py")
    visitor.visit(ast.parse(path.read_text(encoding="utf-8")))
    return visitor


IMPORTS = {module: imports_of(module) for module in MODULES}


# ---- layers --------------------------------------------------------------------------------------


def test_the_docstring_names_every_module_once():
    """The reader lands in `__init__` and finds the layout there, all of it."""
    named = [name for names in layers() for name in names]
    tops = {module.split(".")[0] for module in MODULES} - {"", "__main__"}
    assert sorted(named) == sorted(tops)


@pytest.mark.parametrize("module", sorted(set(MODULES) - {"", "__main__"}))
def test_a_lower_layer_never_imports_a_higher_one(module):
    """DESIGN 4: neither at the top of a module nor inside a function."""
    mine = level_of(module)
    higher = [
        target
        for target, _, at_run_time in IMPORTS[module].found
        if at_run_time and target and level_of(target) > mine
    ]
    assert higher == []


@pytest.mark.parametrize("module", sorted(set(MODULES) - {""}))
def test_nobody_inside_imports_from_the_package_root(module):
    """DESIGN 4: each name is imported from the module that it stands in."""
    from_root = [name for target, name, _ in IMPORTS[module].found if target == ""]
    absolute = [name for name in IMPORTS[module].absolute if name.split(".")[0] == "ate_dispatcher"]
    assert from_root == []
    assert absolute == []


def test_applications_need_the_bus_and_no_dispatcher():
    """DESIGN 4: they lie over the bus and the pure rules alone, and nobody below knows them."""
    rules = {"_codec", "_exceptions", "_loop_thread", "_topics", "_waiting", "_wording"}
    for module in (name for name in MODULES if name.split(".")[0] == "application"):
        tops = {target.split(".")[0] for target, _, _ in IMPORTS[module].found}
        assert tops <= {"application", "bus", *rules}, module


def test_asyncio_stays_with_the_coroutines():
    """DESIGN 4: of the applications, what plain functions need does not import asyncio."""
    users = [m for m in MODULES if m.startswith("application") and "asyncio" in IMPORTS[m].absolute]
    assert users == ["application._async_socket", "application._async_worker", "application._loop"]


def test_there_is_no_import_cycle():
    """Modules can be read in an order in which each needs only those before it."""
    needs = {
        module: {t for t, _, at_run_time in imports.found if at_run_time and t != module}
        for module, imports in IMPORTS.items()
    }
    order = []
    while needs:
        free = sorted(m for m, needed in needs.items() if not needed - set(order))
        assert free, f"a cycle among {sorted(needs)}"
        order += free
        for module in free:
            del needs[module]
    assert set(order) == set(MODULES)


def test_only_the_fakes_users_may_know_of_them():
    """DESIGN 4: nothing but tests imports `testing`."""
    users = [m for m, i in IMPORTS.items() if any(t == "testing" for t, _, _ in i.found)]
    assert users == []


def test_decisions_start_no_thread_and_read_no_clock():
    """DESIGN 4: what decides is given ``now``; only what stands above it has threads and clocks."""
    for module in (name for names in layers()[:2] for name in names):
        imports = IMPORTS[module].absolute
        assert not {"threading", "time", "queue", "_thread", "asyncio"} & set(imports), module


def test_decisions_of_supervision_start_no_thread_and_read_no_clock_either():
    """DESIGN 4: when to restart, what is a stall, who is missing: plain objects given ``now``."""
    for module in ("_restart", "_stalls", "_meeting"):
        imports = IMPORTS[f"supervision.{module}"]
        assert not {"threading", "time", "queue", "multiprocessing"} & set(imports.absolute), module
        assert {target.split(".")[0] for target, _, _ in imports.found} <= {
            "_backoff",
            "_checks",
            "_exceptions",
        }


def test_supervision_knows_nothing_above_the_dispatcher():
    """DESIGN 4: it lies over the core alone."""
    core = {name for names in layers() for name in names if name.startswith("_")}
    for module in (name for name in MODULES if name.split(".")[0] == "supervision"):
        tops = {target.split(".")[0] for target, _, _ in IMPORTS[module].found}
        assert tops <= {"supervision", "dispatcher", *core}, module


# ---- names ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("module", sorted(set(MODULES) - {"__main__"}))
def test_every_module_says_what_is_in_it(module):
    """Style: a docstring and an ``__all__`` of names that are there, without doubles."""
    tree = ast.parse(MODULES[module].read_text(encoding="utf-8"))
    assert ast.get_docstring(tree)
    listed = [
        ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign)
        and any(isinstance(t, ast.Name) and t.id == "__all__" for t in node.targets)
    ]
    assert len(listed) == 1
    (names,) = listed
    assert len(set(names)) == len(names)
    if not module.startswith(("demo", "bus.drivers.")):  # they need the extra of that name
        loaded = importlib.import_module(f"ate_dispatcher.{module}" if module else "ate_dispatcher")
        assert all(hasattr(loaded, name) for name in names)


PUBLIC = """
    VERSION_STR ATEDispatcher ATEDispatcherError AgentState BusConnectionError BusError
    BusTimeoutError BusURLError CallbackError ControlConnectionError ControlTimeoutError
    DeadlockError ExecutorProducer InvalidArgumentError
    InvalidTypeError ListenerStatistics MissingExtraError NameTakenError NoCurrentRequestError
    NoProducersError NoReplyError NotARecordingError NotJSONError Observer OptionsView Outcome
    OutcomeStatus OverloadedError PayloadTooLargeError Percentiles Phase ProcessLostError Producer
    ProducerStatistics RecordedError RecordingError RemoteError Request RequestCancelledError
    RequestExpiredError RequestFailedError RequestStatus ResourceError ResultListener
    SiteBarrierError StateError Statistics StopReport StorageError Straggler TopicFilter
    UndecodableMessageError UnknownIdError UnknownSchemeError UnsupportedByDriverError UsageError
    WaitTimeoutError WorkCalledOffError WorkExpiredError WorkRejectedError __version__
    current_request
""".split()  # noqa: SIM905


def test_the_public_names():
    """Style: a name that comes or goes is a decision, made here and in the changelog."""
    assert list(ate_dispatcher.__all__) == PUBLIC
    public = {name for name in vars(ate_dispatcher) if not name.startswith("_")}
    submodules = {module.split(".")[0] for module in MODULES}
    assert public - submodules <= set(PUBLIC)


APPLICATION = """
    BusConfig DistributedApplication DistributionApplication KafkaConfig Message MessageBuilder
    MqttConfig Socket SocketProvider SocketProviderFactory SupportedContextManagers
""".split()  # noqa: SIM905


def test_the_public_names_of_applications():
    """The same for their folder, whose names are those of a document."""
    from ate_dispatcher import application

    assert list(application.__all__) == APPLICATION


def test_the_public_names_of_supervision():
    """The same for that folder."""
    from ate_dispatcher import supervision

    names = ["Backoff", "ProcessProducer", "Restart", "SiteBarrier", "Supervised", "Supervisor"]
    assert list(supervision.__all__) == names


def test_the_monitor_knows_the_core_the_timeline_and_event_streams():
    """DESIGN 4: it lies over these alone, and only commands know it; it has one public name."""
    from ate_dispatcher import monitor

    core = {name for names in layers() for name in names if name.startswith("_")}
    for module in (name for name in MODULES if name.split(".")[0] == "monitor"):
        tops = {target.split(".")[0] for target, _, _ in IMPORTS[module].found}
        assert tops <= {"monitor", "dispatcher", "timeline", "sse", *core}, module
        if module in ("monitor._text", "monitor._allowance", "monitor._picture"):
            assert not {"threading", "time", "socket"} & set(IMPORTS[module].absolute), module
    users = {
        m.split(".")[0] for m, i in IMPORTS.items() if any("monitor" in t for t, _, _ in i.found)
    }
    assert users <= {"monitor", "cli", "demo"}
    assert list(monitor.__all__) == ["Monitor"]


def test_the_import_paths_of_0_1_0():
    """0.1.0: ``from ate_dispatcher.dispatcher import …`` gives the same classes."""
    from ate_dispatcher import dispatcher

    for name in ("ATEDispatcher", "Producer", "ResultListener"):
        assert getattr(dispatcher, name) is getattr(ate_dispatcher, name)


def test_every_error_is_public_and_ours():
    """Errors are one tree, all of it at the root, as it is drawn in `_exceptions`."""
    from ate_dispatcher import _exceptions

    for name in _exceptions.__all__:
        assert getattr(ate_dispatcher, name) is getattr(_exceptions, name)
        assert issubclass(getattr(_exceptions, name), ate_dispatcher.ATEDispatcherError)
        assert f"── {name}" in _exceptions.__doc__ or name == "ATEDispatcherError"


def test_the_package_is_marked_as_typed():
    """Type checkers of users see our annotations."""
    assert (PACKAGE / "py.typed").is_file()


# ---- what importing it costs ---------------------------------------------------------------------


def child(code):
    """Run code in a fresh interpreter that finds the package, and give what it printed."""
    program = f"import sys\nsys.path.insert(0, {str(PACKAGE.parent)!r})\n{code}"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_importing_it_loads_nothing_heavy():
    """DESIGN 4: ``import ate_dispatcher`` stays tiny: nothing of the standard library that is not.

    Nor anything from outside of it, typing-extensions excepted.
    """
    loaded = child(
        """
before = set(sys.modules)
import ate_dispatcher
new = sorted(set(sys.modules) - before)
for name in new:
    print(name, getattr(sys.modules[name], "__file__", None) or "", sep="|")
"""
    )
    files = dict(line.split("|", 1) for line in loaded.splitlines())
    tops = {name.split(".")[0] for name in files}
    assert "ate_dispatcher" in tops
    assert tops & HEAVY == set()
    outside = {name.split(".")[0] for name, file in files.items() if "site-packages" in file}
    assert outside <= {"ate_dispatcher", "typing_extensions"}
    assert "ate_dispatcher.testing" not in files


def test_the_ordinary_work_loads_nothing_heavy_either():
    """C12: what only some requests need is loaded when the first of them needs it."""
    loaded = child(
        """
from ate_dispatcher import ATEDispatcher, TopicFilter
with ATEDispatcher() as dispatcher:
    dispatcher.producer("t")(lambda topic: 1)
    dispatcher.listener(TopicFilter("#"))(lambda topic, value: None)
    assert dispatcher.send_request("t", ttl=60_000).wait(10, delivered=True)
print(*sys.modules, sep="\\n")
"""
    )
    assert {name.split(".")[0] for name in loaded.split()} & (HEAVY - {"multiprocessing"}) == set()


@pytest.mark.skipif(
    not sysconfig.get_config_var("Py_GIL_DISABLED"), reason="needs a free-threaded build"
)
def test_it_does_not_bring_the_global_lock_back():
    """Importing it does not have a free-threaded interpreter take the global lock again."""
    printed = child("import ate_dispatcher\nprint(sys._is_gil_enabled())")
    assert printed == "False\n"


UNIX_ONLY = """
import os, select, signal, socket, sys, time
for module, names in (
    (os, "fork forkpty register_at_fork kill killpg getuid getpgid setsid wait3 wait4 pipe2 "
         "sched_getaffinity sched_yield uname getloadavg posix_spawn"),
    (signal, "SIGKILL SIGHUP SIGUSR1 SIGUSR2 SIGALRM SIGCHLD SIGQUIT alarm setitimer "
             "pthread_kill pthread_sigmask sigwait siginterrupt set_wakeup_fd"),
    (select, "poll epoll"),
    (socket, "AF_UNIX"),
    (time, "pthread_getcpuclockid clock_gettime tzset"),
):
    for name in names.split():
        if hasattr(module, name):
            delattr(module, name)
for name in "fcntl resource pwd grp termios tty pty posix_ipc syslog crypt readline".split():
    sys.modules[name] = None
"""


def test_the_core_needs_nothing_that_only_unix_has():
    """DESIGN 4: it imports and runs with the names absent that Windows lacks."""
    printed = child(
        UNIX_ONLY
        + """
import signal, threading
from concurrent.futures import ThreadPoolExecutor
from ate_dispatcher import ATEDispatcher, ExecutorProducer, Observer, TopicFilter, current_request
from ate_dispatcher.testing import RecordingListener, ScriptedProducer

dispatcher = ATEDispatcher(max_open=50)
dispatcher.start()
dispatcher.stop_on_signals()
dispatcher.stop_on_signals(signal.SIGINT)
dispatcher.add_observer(Observer())
listener = dispatcher.add(RecordingListener(capacity=100), TopicFilter("#"))
dispatcher.add(ScriptedProducer(1, name="plain", site=0), "t")
dispatcher.add(ScriptedProducer(KeyError("x"), name="error"), "t")
dispatcher.add(ScriptedProducer(lambda t: current_request().sleep(60), name="slow"), "late")
dispatcher.add(ExecutorProducer(lambda t: 2, ThreadPoolExecutor, 1, name="pool"), "t")

@dispatcher.producer("t")
def stream(topic):
    yield 3
    yield 4

request = dispatcher.send_request("t", ttl=60_000)
assert request.wait(10, delivered=True)
assert request.values == {"plain": 1, "pool": 2, "stream": [3, 4]}, request.values
assert [o.producer for o in request.failed] == ["error"]
assert dispatcher.send_request("late", ttl=5).gather(30).status.name == "EXPIRED"
cancelled = dispatcher.send_request("late", ttl=60_000)
cancelled.cancel()
assert cancelled.gather(30).status.name == "CANCELLED"
assert request.future().result(10) is request
assert dispatcher.flush(30)
report = dispatcher.stop()
assert report.clean, report
print(len(listener.ends), threading.active_count())
"""
    )
    assert printed.split() == ["3", "1"]


def test_what_lies_over_the_core_needs_nothing_of_unix_either():
    """The same for restarts, barriers, recorders, timeline, event streams, bus and channels."""
    printed = child(
        UNIX_ONLY
        + """
import os, tempfile, threading
from ate_dispatcher import ATEDispatcher, TopicFilter
from ate_dispatcher.application import DistributionApplication, SocketProviderFactory
from ate_dispatcher.bridge import AgentHost, Bridge
from ate_dispatcher.bus import Distributer
from ate_dispatcher.channels import Channels
from ate_dispatcher.record import CSVRecorder, JSONLinesRecorder, SQLiteRecorder, read
from ate_dispatcher.sse import ChannelFeed, SSEChannel, parse_events
from ate_dispatcher.supervision import ProcessProducer, SiteBarrier, Supervisor
from ate_dispatcher.testing import ScriptedProducer
from ate_dispatcher.timeline import Timeline

ProcessProducer, DistributionApplication, SocketProviderFactory  # made, not run: they need more
with tempfile.TemporaryDirectory() as folder:
    os.chdir(folder)
    with ATEDispatcher() as dispatcher, Supervisor(dispatcher) as supervisor:
        host = AgentHost("memory://floor")
        host.add(ScriptedProducer(2, name="far"), "t")
        host.start()
        barrier = SiteBarrier(lambda: 1)
        dispatcher.producer("s", site=0)(lambda topic: barrier())
        supervisor.run(lambda: ScriptedProducer(1, name="near"), "t")
        for make, name in ((JSONLinesRecorder, "j"), (CSVRecorder, "c"), (SQLiteRecorder, "s")):
            dispatcher.add(make(name), TopicFilter("#"))
        channel = SSEChannel()
        dispatcher.add(ChannelFeed(channel), TopicFilter("#"))
        with Timeline(dispatcher) as timeline, Bridge(dispatcher, "memory://floor") as bridge:
            bridge.wait_for("far", timeout=10)
            request = dispatcher.send_request("t", ttl=20_000)
            assert request.wait(20, delivered=True)
            assert request.values == {"near": 1, "far": 2}, request.outcomes
            request = dispatcher.send_request("s", ttl=20_000).gather(20)
            assert list(request.values.values()) == [1], request.outcomes
        timeline.save("t.json")
        host.stop()
    assert os.path.getsize("t.json")
    assert [len([e for e in read(name)]) for name in "jcs"] == [5, 5, 5]
    os.chdir("/")
came = threading.Event()
with Distributer("memory://lab") as bus, Channels(bus) as channels:
    channels.register("cells", "*", lambda channel, event, data: came.set())
    channels.publish("cells", "voltage", 4.2)
    assert came.wait(10)
print("done")
"""
    )
    assert printed == "done\n"


def test_a_script_that_forgets_to_stop_needs_nothing_of_unix_either():
    """C9, DESIGN 4: the way out at the end of the script is the same there."""
    printed = child(
        UNIX_ONLY
        + """
from ate_dispatcher import ATEDispatcher
dispatcher = ATEDispatcher()
dispatcher.start()
dispatcher.producer("t")(lambda topic: "result")
dispatcher.listener("t")(lambda topic, response: print(response))
dispatcher.send_request("t")
"""
    )
    assert printed == "result\n"
