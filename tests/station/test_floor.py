"""A whole run: hundreds of devices on eight sites whose instruments fail, hang and crash."""

from __future__ import annotations

import functools
import gc
import json
import logging
import multiprocessing
import multiprocessing.resource_tracker
import os
import random
import sys
import threading
from pathlib import Path

import floor
import pytest
from trace_rules import validated

from ate_dispatcher import (
    AgentState,
    ATEDispatcher,
    OutcomeStatus,
    ProcessLostError,
    RequestStatus,
    ResultListener,
    TopicFilter,
)
from ate_dispatcher._backoff import Backoff
from ate_dispatcher._resources import RESOURCES
from ate_dispatcher.record import (
    CSVRecorder,
    JSONLinesRecorder,
    RecordedOutcome,
    SQLiteRecorder,
    read,
    replay,
)
from ate_dispatcher.supervision import ProcessProducer, Restart, SiteBarrier, Supervisor
from ate_dispatcher.timeline import Timeline

BOUND = 60  # seconds that anything may take before a test gives up on it
SURE = 60_000  # milliseconds that no request of the first devices needs
TTL = 400
DISABLED = 5
RECORDERS = {"jsonl": JSONLinesRecorder, "csv": CSVRecorder, "sqlite": SQLiteRecorder}
SLOW = pytest.mark.skipif(os.environ.get("ATE_SLOW") != "1", reason="long: set ATE_SLOW=1")


class Hears(ResultListener):
    """Keeps what a recording must give back, in the one order in which it came."""

    def __init__(self, name=None):
        super().__init__(name=name)
        self.heard = []

    def process_dispatcher_outcome(self, outcome):
        self.heard.append(row(outcome))

    def process_dispatcher_end(self, request):
        self.heard.append((request.topic, request.status, request.roster))


def row(outcome):
    parts = (outcome.topic, outcome.producer, outcome.site, outcome.status, outcome.value)
    return (*parts, outcome.reason, outcome.tags["device"])


def handles():
    """Give what this process has open, by what it is; the socket or pipe, not its number."""
    found = []
    for entry in Path("/proc/self/fd").iterdir():
        try:
            found.append(os.readlink(entry))
        except OSError:  # the one with which the folder is read
            continue
    return sorted(found)


class Floor:
    """The run of some devices.

    Attributes
    ----------
    requests : list of Request
        Everything that was sent.
    report : StopReport
    pids : set of int
        Every process that there was.
    """

    def __init__(self, seed, devices, folder):
        self.seed = seed
        self.devices = devices
        self.folder = folder
        self.requests = []
        self.moves = []
        self.pids = set()
        self.heard = Hears("heard")
        self.made = []
        self.trace = None

    def run(self):
        floor.RELEASED.clear()
        dispatcher = ATEDispatcher(name="floor")
        timeline = Timeline(dispatcher)
        with dispatcher, Supervisor(dispatcher) as supervisor:
            dispatcher.add(self.heard, TopicFilter("#"))
            self.recorders = [
                dispatcher.add(kind(self.folder / f"run.{name}", name=name), TopicFilter("#"))
                for name, kind in RECORDERS.items()
            ]
            self.build(dispatcher, supervisor)
            for number, first in enumerate(range(0, self.devices, floor.SITES)):
                self.insertion(dispatcher, number, first)
            assert dispatcher.flush(BOUND), dispatcher.laggards()
            self.restarts = {n: w.restarts for n, w in supervisor.supervised.items()}
            self.note_processes(supervisor)
            assert supervisor.stop(BOUND)
            floor.RELEASED.set()
            for dmm in self.made:
                if dmm._ate_abandoned:
                    dmm.join(BOUND)
        self.report = dispatcher.stop()
        self.trace = timeline.trace()
        timeline.detach()

    def build(self, dispatcher, supervisor):
        """Eight sites: a meter in a thread, a load in a thread or a process, a slot."""
        policy = Restart(attempts=10_000, per=1.0, backoff=Backoff(0.005, 0.02))
        soak = SiteBarrier(self.move)
        for site in range(floor.SITES):
            dispatcher.add(floor.Slot(site, soak), "soak")
            supervisor.run(
                functools.partial(self.make_dmm, site),
                "voltage",
                "resistance",
                name=f"dmm{site}",
                restart=policy,
                stall_after=0.25,
            )
            if site in (2, DISABLED + 1):
                factory = functools.partial(floor.Load, self.seed, f"load{site}")
                make = functools.partial(ProcessProducer, factory, site=site, grace=0.2)
            else:
                make = functools.partial(floor.Source, self.seed, f"load{site}", site=site)
            supervisor.run(make, "current", name=f"load{site}", restart=policy)
        self.await_ready(dispatcher)
        self.supervisor = supervisor

    def await_ready(self, dispatcher):
        """Ask everybody once, for as long as starting takes."""
        tagged = dispatcher.with_options(tags={"device": -1})
        for topic in ("voltage", "resistance", "current"):
            self.requests.append(tagged.send_request(topic, -1, ttl=SURE))
            assert self.requests[-1].wait(BOUND)
        assert set(dispatcher.states().values()) <= {AgentState.READY, AgentState.BUSY}

    def make_dmm(self, site):
        dmm = floor.Dmm(self.seed, f"dmm{site}", site=site, resources=(f"GPIB{site // 2}",))
        self.made.append(dmm)
        return dmm

    def move(self, celsius):
        self.moves.append(celsius)
        return celsius

    def insertion(self, dispatcher, number, first):
        """Test the devices of one insertion, all sites at once; the first ones with patience."""
        draw = random.Random(f"{self.seed} {number}")
        if number == 1:
            dispatcher.disable_site(DISABLED)
        self.note_processes(self.supervisor)
        ttl = SURE if number == 0 else TTL
        tagged = dispatcher.with_options(
            tags={"device": first}, priority=draw.choice((0, 0, 5)), until=None
        )
        self.send(tagged, "soak", draw.choice((25, -40, 85)), ttl=SURE).wait(BOUND)
        side = threading.Thread(target=self.beside, args=(dispatcher, first, draw.random()))
        side.start()
        for topic in ("voltage", "current", "resistance"):
            request = self.send(tagged, topic, first, ttl=ttl)
            if draw.random() < 0.05 and number:
                request.cancel()
            if draw.random() < 0.7 or not number:
                assert request.wait(BOUND)
        side.join()

    def beside(self, dispatcher, first, chance):
        """What somebody else sends meanwhile: to some of them, and to nobody."""
        tagged = dispatcher.with_options(tags={"device": first}, sites=[0, 3, DISABLED])
        with self.send(tagged, "current", first + 1, ttl=TTL) as request:
            if chance < 0.5:
                request.wait(BOUND)
        self.send(dispatcher.with_options(tags={"device": first}), "nobody", ttl=TTL)

    def send(self, tagged, topic, *args, ttl):
        request = tagged.send_request(topic, *args, ttl=ttl)
        self.requests.append(request)
        return request

    def note_processes(self, supervisor):
        for ward in supervisor.supervised.values():
            self.pids.add(getattr(ward.producer, "pid", None))


def check_sums(run):
    """Every request has ended, with one outcome for each of its roster, and all said so."""
    for request in run.requests:
        assert request.status is not RequestStatus.OPEN, request
        assert tuple(o.producer for o in request.outcomes) == request.roster, request
        if request.topic == "nobody":
            assert request.status is RequestStatus.NO_PRODUCERS
    ends = [event for event in run.heard.heard if len(event) == 3]
    assert len(ends) == len(run.requests)
    finals = [e for e in run.heard.heard if len(e) == 7 and e[3] is not OutcomeStatus.PARTIAL]
    assert len(finals) == sum(len(request.roster) for request in run.requests)


def check_first_faults(run):
    """What is certain has happened, and was told as what it was."""
    first = [r for r in run.requests if r.tags["device"] == 0 and r.ttl == SURE]
    outcomes = {(r.topic, o.producer): o for r in first for o in r.outcomes}
    assert outcomes["voltage", "dmm0"].status is OutcomeStatus.ERROR
    assert outcomes["voltage", "dmm1"].status is OutcomeStatus.REJECTED
    assert "stalled" in outcomes["voltage", "dmm1"].reason
    assert isinstance(outcomes["current", "load2"].exception, ProcessLostError)
    assert run.restarts["dmm0"] >= 1
    assert run.restarts["dmm1"] >= 1
    for request in run.requests:
        if request.tags["device"] >= floor.SITES:
            assert not [o for o in request.outcomes if o.site == DISABLED], request


def check_recordings(run):
    """Each recording, read and replayed, gives the very events that a listener has heard."""
    for recorder in run.recorders:
        assert recorder.lost == 0
        events = [
            row(e) if isinstance(e, RecordedOutcome) else (e.topic, e.status, e.roster)
            for e in read(recorder.path)
        ]
        assert events == run.heard.heard, recorder.name
        again = Hears()
        report = replay(recorder.path, [again])
        assert (report.gaps, report.errors) == ((), 0)
        assert again.heard == run.heard.heard, recorder.name


def check_nothing_left(run, before, threads):
    """No thread, process, descriptor, resource; the report of the stop has nothing to complain."""
    assert run.report.clean, run.report
    assert (RESOURCES._holders, RESOURCES._lines) == ({}, {})
    assert multiprocessing.active_children() == []
    for pid in run.pids - {None}:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
    assert set(threading.enumerate()) == threads
    gc.collect()
    assert handles() == before


@pytest.mark.timeout(600)
@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="needs a system with /proc")
@pytest.mark.parametrize("devices", [32, pytest.param(500, marks=SLOW)])
def test_a_run_adds_up_is_recorded_and_leaves_nothing(devices, tmp_path, caplog):
    """Everything together: outcomes, restarts, processes, sites, resources, recordings."""
    caplog.set_level(logging.CRITICAL)  # what is to be expected here would fill the screen
    anew = random.SystemRandom().randrange(10**6) if devices == 500 else 2026
    seed = int(os.environ.get("ATE_SEED", anew))
    multiprocessing.resource_tracker.ensure_running()  # one for the process, kept for good
    gc.collect()
    before, threads = handles(), set(threading.enumerate())
    run = Floor(seed, devices, tmp_path)
    try:
        run.run()
        check_sums(run)
        check_first_faults(run)
        check_recordings(run)
        validated(json.loads(json.dumps(run.trace)))
        check_nothing_left(run, before, threads)
    except BaseException:
        sys.stderr.write(f"\nthe run of {devices} devices: again with ATE_SEED={seed}\n")
        raise
    finally:
        floor.RELEASED.set()
