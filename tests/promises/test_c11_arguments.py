"""C11: the caller's arguments are the caller's, options go through a view, subclasses are free."""

from __future__ import annotations

import inspect
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from ate_dispatcher import (
    ATEDispatcher,
    ExecutorProducer,
    OutcomeStatus,
    Producer,
    RequestStatus,
    ResultListener,
    current_request,
)
from ate_dispatcher.testing import RecordingListener, ScriptedProducer

BOUND = 60  # seconds that anything may take before a test gives up on it
FOR_EVER = 1e9  # a TTL in milliseconds that no test reaches

OK = OutcomeStatus.OK

# What the library itself has as a parameter, an attribute or an option somewhere.
KEYWORDS = """
    self uuid reply_to priority name args kwargs timeout request response outcome message producer
    listener dispatcher home to sites site until tags copy sent queued deadline status value values
    reason exception function fn executor future callback address capacity overflow delivered drain
    wait clock ttl_ms topics
""".split()  # noqa: SIM905


def statuses(request):
    return [outcome.status for outcome in request.outcomes]


class Echo(Producer):
    """Gives back what it was called with."""

    def produce_dispatcher_output(self, /, topic, *args, **kwargs):
        return topic, args, kwargs


class Stream(Producer):
    def produce_dispatcher_output(self, /, topic, *args, **kwargs):
        yield topic, args, kwargs


class Coroutine(Producer):
    async def produce_dispatcher_output(self, /, topic, *args, **kwargs):
        return topic, args, kwargs


def echo(topic, *args, **kwargs):
    return topic, args, kwargs


def in_a_pool(**options):
    return ExecutorProducer(echo, ThreadPoolExecutor, 1, **options)


# ---- the arguments -------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [Echo, Stream, Coroutine, in_a_pool])
@pytest.mark.parametrize("options", [False, True])
def test_c11_any_keyword_but_ttl_and_topic_reaches_producers(dispatcher, kind, options):
    """C11: ``self``, ``uuid``, ``reply_to``, ``priority``, … are the caller's, and arrive as sent.

    So they do through a view with options, whose own names (``to``, ``tags``, …) are no exception.
    """
    producer = dispatcher.add(kind(), "t")
    send = (dispatcher.with_options(tags={}) if options else dispatcher).send_request
    kwargs = {keyword: object() for keyword in KEYWORDS}
    request = send("t", 1, "two", None, ttl=FOR_EVER, **kwargs).gather(BOUND)
    answer = request.values[producer.name]
    assert (answer[0] if kind is Stream else answer) == ("t", (1, "two", None), kwargs)
    assert request.args == (1, "two", None)
    assert dict(request.kwargs) == kwargs
    assert request.ttl == FOR_EVER


@pytest.mark.parametrize("keyword", KEYWORDS)
def test_c11_one_keyword_at_a_time(dispatcher, keyword):
    """C11: a plain function gets it, alone and without positional arguments."""
    heard = []
    dispatcher.producer("t", name="echo")(lambda topic, **kwargs: heard.append(kwargs))
    assert dispatcher.send_request("t", **{keyword: "mine"}).gather(BOUND).succeeded
    assert heard == [{keyword: "mine"}]


def test_c11_arguments_are_the_very_objects(dispatcher):
    """C11: untouched means not copied, not wrapped and not converted."""
    producers = [dispatcher.add(ScriptedProducer(), "t") for _ in range(2)]
    listed, mapped = [1], {"a": 1}
    assert dispatcher.send_request("t", listed, key=mapped).wait(BOUND)
    for producer in producers:
        (call,) = producer.calls
        assert call.args[0] is listed
        assert call.kwargs["key"] is mapped


def test_c11_each_producer_has_keywords_of_its_own(dispatcher):
    """C11: one that takes its ``kwargs`` apart takes nothing away from the others."""
    seen = []

    def pops(topic, **kwargs):
        seen.append(kwargs.pop("channel"))

    for name in ("a", "b", "c"):
        dispatcher.producer("t", name=name)(pops)
    request = dispatcher.send_request("t", channel=3).gather(BOUND)
    assert seen == [3, 3, 3]
    assert dict(request.kwargs) == {"channel": 3}


def test_c11_topic_and_ttl_have_their_meaning(dispatcher):
    """C11: the two that are not the caller's: neither topic nor ttl is among the ``kwargs``."""
    echo = dispatcher.add(Echo(), "t")
    request = dispatcher.send_request(topic="t", ttl=1234).gather(BOUND)
    assert request.values[echo.name] == ("t", (), {})
    assert (request.topic, request.ttl) == ("t", 1234)


def test_c11_falsy_arguments_and_results_arrive_as_they_are(dispatcher):
    """C11: nothing is mistaken for nothing."""
    listener = dispatcher.add(RecordingListener(), "t")
    dispatcher.producer("t")(lambda topic, value: value)
    values = [None, 0, "", [], {}, False, 0.0]
    for value in values:
        dispatcher.send_request("t", value)
    assert dispatcher.flush(BOUND)
    assert [(type(value), value) for value in listener.values] == [
        (type(value), value) for value in values
    ]


# ---- with_options: the view ----------------------------------------------------------------------


@pytest.fixture
def bench(dispatcher):
    """A dispatcher with ``dmm0`` to ``dmm2`` at sites 0 to 2 and a chamber without a site."""
    for site in range(3):
        dispatcher.add(ScriptedProducer(site, name=f"dmm{site}", site=site), "t")
    dispatcher.add(ScriptedProducer("hot", name="chamber"), "t")
    return dispatcher


def test_c11_a_view_has_the_same_send_request(dispatcher):
    """C11: same parameters, so code that is given a view cannot tell."""
    view = dispatcher.with_options()
    assert inspect.signature(view.send_request) == inspect.signature(dispatcher.send_request)


def test_c11_a_view_changes_nothing_but_its_own_requests(bench):
    """C11: the dispatcher and other views go on as before; a view may be used again."""
    first, second = bench.with_options(to="dmm0"), bench.with_options(to="dmm1")
    for _ in range(2):
        assert first.send_request("t").gather(BOUND).values == {"dmm0": 0}
        assert second.send_request("t").gather(BOUND).values == {"dmm1": 1}
        assert len(bench.send_request("t").gather(BOUND).values) == 4


def test_c11_no_options_are_no_options(bench):
    """C11: a view without any is the dispatcher itself."""
    request = bench.with_options().send_request("t").gather(BOUND)
    assert request.status is RequestStatus.COMPLETE
    assert len(request.values) == 4
    assert dict(request.tags) == {}


def test_c11_views_keep_the_callers_order(bench):
    """C8, C11: a view posts to the same mailbox, so it cannot overtake or be overtaken."""
    bench.with_options(tags={"n": 1}).send_request("t", 1)
    bench.send_request("t", 2)
    bench.with_options(tags={"n": 3}).send_request("t", 3)
    assert bench.flush(BOUND)
    dmm = bench.agents["dmm0"]
    assert [call.args[0] for call in dmm.calls] == [1, 2, 3]


# ---- to and sites --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "answers"),
    [
        ({"to": "dmm1"}, ["dmm1"]),
        ({"to": ["chamber", "dmm0"]}, ["dmm0", "chamber"]),
        ({"to": {"dmm2"}}, ["dmm2"]),
        ({"to": iter(["dmm2"])}, ["dmm2"]),
        ({"sites": [0, 2]}, ["dmm0", "dmm2"]),
        ({"sites": range(2)}, ["dmm0", "dmm1"]),
        ({"sites": iter([1])}, ["dmm1"]),
        ({"to": ["dmm0", "chamber"], "sites": [0]}, ["dmm0"]),
    ],
)
def test_c11_to_and_sites_narrow_the_roster(bench, options, answers):
    """C11: only those asked for are asked; the others are not in the roster and hear nothing."""
    request = bench.with_options(**options).send_request("t").gather(BOUND)
    assert [outcome.producer for outcome in request.succeeded] == answers
    assert bench.flush(BOUND)
    asked = [name for name in ("dmm0", "dmm1", "dmm2", "chamber") if bench.agents[name].calls]
    assert asked == answers


def test_c11_sites_may_be_strings(dispatcher):
    """C11: a site is a number or a string; both select, ``"0"`` is not ``0``."""
    dispatcher.add(ScriptedProducer("left", name="a", site="left"), "t")
    dispatcher.add(ScriptedProducer("zero", name="b", site=0), "t")
    dispatcher.add(ScriptedProducer("nought", name="c", site="0"), "t")
    send = lambda sites: dispatcher.with_options(sites=sites).send_request("t").gather(BOUND)  # noqa: E731
    assert send(["left"]).values == {"a": "left"}
    assert send([0]).values == {"b": "zero"}
    assert send(["0"]).values == {"c": "nought"}


def test_c11_a_named_producer_that_is_not_there_keeps_its_row(bench):
    """C11, C2: the missing one is REJECTED by name; the others answer."""
    request = bench.with_options(to=["dmm0", "dmm9"]).send_request("t").gather(BOUND)
    assert request.roster == ("dmm0", "dmm9")
    assert request.values == {"dmm0": 0}
    (failure,) = request.failed
    assert failure.status is OutcomeStatus.REJECTED
    assert "'dmm9'" in failure.reason
    assert "'t'" in failure.reason


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"to": "dmm9"}, "to='dmm9'"),
        ({"to": []}, "to="),
        ({"sites": [7, 8]}, "sites=7, 8"),
        ({"sites": []}, "sites="),
        ({"to": "dmm0", "sites": [1]}, "to='dmm0' and sites=1"),
    ],
)
def test_c11_nobody_of_that_name_or_site(bench, options, words):
    """C11, C1: the request ends at once and says who was asked for and who is there."""
    request = bench.with_options(**options).send_request("t", ttl=FOR_EVER).gather(BOUND)
    assert request.status is RequestStatus.NO_PRODUCERS
    assert words in request.reason
    assert "'dmm0', 'dmm1', 'dmm2', 'chamber'" in request.reason
    assert request.outcomes == ()


# ---- until ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("needed", [1, 2])
def test_c11_until_a_number_of_good_answers(dispatcher, gate, needed):
    """C11, C1: after so many values the request ends SATISFIED, the rest is NOT_NEEDED."""
    dispatcher.add(ScriptedProducer(ValueError("an error is no answer"), name="bad"), "t")
    for number in range(needed):
        dispatcher.add(ScriptedProducer(number, name=f"good{number}"), "t")
    slow = dispatcher.add(ScriptedProducer(gate, name="slow"), "t")
    request = dispatcher.with_options(until=needed).send_request("t", ttl=FOR_EVER).gather(BOUND)
    assert request.status is RequestStatus.SATISFIED
    assert len(request.values) == needed
    assert request.outcomes[-1].status is OutcomeStatus.NOT_NEEDED
    assert request.outcomes[-1].producer == slow.name
    request.raise_for_status()  # who was not needed has not failed


def test_c11_until_more_than_there_are(bench):
    """C11: a rule that is never met changes nothing."""
    request = bench.with_options(until=5).send_request("t").gather(BOUND)
    assert request.status is RequestStatus.COMPLETE
    assert len(request.values) == 4


def test_c11_until_counts_each_request_anew(bench):
    """C11: a view may be used again and again, each request starts to count at nought."""
    view = bench.with_options(until=4)
    requests = [view.send_request("t").gather(BOUND) for _ in range(3)]
    assert [len(request.values) for request in requests] == [4, 4, 4]
    assert {request.status for request in requests} == {RequestStatus.SATISFIED}


def test_c11_until_a_predicate(dispatcher, gate):
    """C11: it is shown the good outcomes as they are accepted, and ends the request when true."""
    seen = []

    def enough(outcome):
        seen.append((outcome.producer, outcome.value))
        return "yes" if outcome.value > 1 else ""

    dispatcher.add(ScriptedProducer(ZeroDivisionError, name="bad"), "t")
    dispatcher.add(ScriptedProducer(1, name="low"), "t")
    dispatcher.add(ScriptedProducer(2, name="high"), "t")
    dispatcher.add(ScriptedProducer(gate, name="slow"), "t")
    request = dispatcher.with_options(until=enough).send_request("t", ttl=FOR_EVER).gather(BOUND)
    assert request.status is RequestStatus.SATISFIED
    assert ("high", 2) in seen
    assert {producer for producer, _ in seen} <= {"low", "high"}
    assert request.outcomes[-1].status is OutcomeStatus.NOT_NEEDED


def test_c11_until_met_by_the_last_answer(bench):
    """C11: SATISFIED wins over COMPLETE, and nobody is NOT_NEEDED."""
    request = bench.with_options(until=4).send_request("t").gather(BOUND)
    assert request.status is RequestStatus.SATISFIED
    assert statuses(request) == [OK] * 4


# ---- tags ----------------------------------------------------------------------------------------


def test_c11_tags_go_with_the_request_and_its_outcomes(dispatcher, gate):
    """C11: on the handle, on every kind of outcome, in the hook, and in what listeners get."""
    listener = dispatcher.add(RecordingListener(), "t")
    inside = []
    dispatcher.producer("t", name="good")(lambda topic: inside.append(current_request().tags))
    dispatcher.add(ScriptedProducer(KeyError(1), name="bad"), "t")
    request = dispatcher.with_options(tags={"lot": "A7"}).send_request("t")
    assert request.wait(BOUND, delivered=True)
    assert dict(request.tags) == {"lot": "A7"}
    assert inside == [{"lot": "A7"}]
    assert [dict(outcome.tags) for outcome in listener.outcomes] == [{"lot": "A7"}] * 2
    assert listener.outcomes[0].as_dict()["tags"] == {"lot": "A7"}
    assert listener.ends[0].tags == request.tags


def test_c11_tags_are_taken_when_given(dispatcher):
    """C11: a mapping that its owner goes on writing to does not change what was sent."""
    tags = {"lot": "A7"}
    view = dispatcher.with_options(tags=tags)
    tags["lot"] = "B1"
    assert dict(view.send_request("t").tags) == {"lot": "A7"}


# ---- copy ----------------------------------------------------------------------------------------


def receive(dispatcher, copy):
    """Send a nested list to two producers; give what was sent, what came in and what came out.

    The producers answer with what they got; two listeners hear both.
    """
    got = []
    lock = threading.Lock()

    def work(topic, data, **kwargs):
        with lock:
            got.append((data, kwargs["more"]))
        return data

    listeners = [dispatcher.add(RecordingListener(), "t") for _ in range(2)]
    for name in ("a", "b"):
        dispatcher.producer("t", name=name)(work)
    sent = ([["inner"]], {"key": ["inner"]})
    view = dispatcher.with_options(copy=copy)
    request = view.send_request("t", sent[0], more=sent[1])
    assert request.wait(BOUND, delivered=True)
    return sent, got, [value for listener in listeners for value in listener.values], request


def test_c11_without_copy_everybody_has_the_same_objects(dispatcher):
    """C11: the default, and what ``copy=None`` says."""
    sent, got, heard, _ = receive(dispatcher, None)
    assert all(data is sent[0] and more is sent[1] for data, more in got)
    assert all(value is sent[0] for value in heard)


@pytest.mark.parametrize("copy", ["shallow", "deep"])
def test_c11_copies_are_everybodys_own(dispatcher, copy):
    """C11: each producer its own arguments, each listener its own result; only deep goes deep."""
    sent, got, heard, request = receive(dispatcher, copy)
    outer = [sent[0], *(data for data, _ in got), *heard]
    assert len(heard) == 4
    assert all(value == [["inner"]] for value in outer)
    assert len({id(value) for value in outer}) == len(outer)
    mores = [sent[1], *(more for _, more in got)]
    assert len({id(more) for more in mores}) == 3
    inner = {id(value[0]) for value in outer}
    assert len(inner) == (1 if copy == "shallow" else len(outer))
    assert request.values == {"a": [["inner"]], "b": [["inner"]]}


def test_c11_copies_are_made_when_sent(dispatcher, gate):
    """C11: what the caller does with its list afterwards does not change what producers get."""
    producer = dispatcher.add(ScriptedProducer(gate, lambda topic, data: list(data)), "t")
    dispatcher.send_request("t", ttl=FOR_EVER)
    gate.wait_parked()
    data = [1]
    request = dispatcher.with_options(copy="shallow").send_request("t", data, ttl=FOR_EVER)
    data.append(2)
    gate.open()
    assert request.gather(BOUND).values == {producer.name: [1]}


def test_c11_a_producers_result_is_copied_before_it_changes_it_again(dispatcher):
    """C11: an instrument that answers with its one buffer each time does not spoil old answers."""
    buffer = []

    def measure(topic):
        buffer.append(len(buffer))
        return buffer

    dispatcher.producer("t", name="scope")(measure)
    view = dispatcher.with_options(copy="deep")
    requests = [view.send_request("t") for _ in range(3)]
    assert dispatcher.flush(BOUND)
    assert [request.values["scope"] for request in requests] == [[0], [0, 1], [0, 1, 2]]


def test_c11_a_listener_that_changes_its_copy_changes_nobody_elses(dispatcher):
    """C11: neither the other listeners' nor what the request keeps; values of streams likewise."""

    class Spoils(ResultListener):
        def process_dispatcher_result(self, topic, response):
            response.clear()

        def process_dispatcher_outcome(self, outcome):
            outcome.value = None

    spoiler = dispatcher.add(Spoils(), "t")
    listener = dispatcher.add(RecordingListener(), "t")

    @dispatcher.producer("t")
    def stream(topic):
        yield [1]
        return [2]

    request = dispatcher.with_options(copy="deep").send_request("t")
    assert request.wait(BOUND, delivered=True)
    assert listener.values == [[1], [2]]
    assert request.values == {"stream": [[1], [2]]}
    assert dispatcher.statistics().listeners[spoiler.name].errors == 0


# ---- subclasses ----------------------------------------------------------------------------------


OWN = """
    site state queue topic args kwargs lock mailbox running options request clock address executor
    function loop values capacity
""".split()  # noqa: SIM905


def own_attributes(base, when):
    """Make a subclass that sets everything in `OWN` on itself, before or after its super()."""

    class Own(base):
        def __init__(self, *args, **options):
            if when == "before":
                self.set_all()
            super().__init__(*args, **options)
            if when == "after":
                self.set_all()

        def set_all(self):
            for name in OWN:
                setattr(self, name, f"my {name}")

        def all_set(self):
            return all(getattr(self, name) == f"my {name}" for name in OWN)

    return Own


class Answering(Producer):
    def produce_dispatcher_output(self, topic):
        return "answer"


class Hearing(ResultListener):
    def process_dispatcher_result(self, topic, response):
        self.__dict__.setdefault("heard", []).append(response)


@pytest.mark.parametrize("when", ["before", "after"])
def test_c11_a_subclass_may_use_any_attribute(dispatcher, when):
    """C11: its own ``self.site``, ``self.state``, ``self.queue``, … work and disturb nothing."""
    producer = own_attributes(Answering, when)(name="dmm", site=2)
    pooled = own_attributes(ExecutorProducer, when)(
        lambda topic: "pooled", ThreadPoolExecutor, 1, name="pool"
    )
    listener = own_attributes(Hearing, when)(name="log")
    for agent in (producer, pooled, listener):
        dispatcher.add(agent, "t")
    request = dispatcher.with_options(tags={}).send_request("t")
    assert request.wait(BOUND, delivered=True)
    assert request.values == {"dmm": "answer", "pool": "pooled"}
    assert [outcome.site for outcome in request.outcomes] == [2, None]
    assert sorted(listener.heard) == ["answer", "pooled"]
    assert all(agent.all_set() for agent in (producer, pooled, listener))


def test_c11_a_name_given_by_the_subclass_is_the_agents_name():
    """C11: ``self.name = …`` after ``super().__init__()``, or a class attribute, names it."""

    class Named(Answering):
        def __init__(self, address):
            super().__init__()
            self.name = f"dmm at {address}"

    class Fixed(Answering):
        name = "the chamber"

    with ATEDispatcher() as dispatcher:
        for agent in (Named(7), Named(8), Fixed()):
            dispatcher.add(agent, "t")
        request = dispatcher.send_request("t").gather(BOUND)
        assert request.roster == ("dmm at 7", "dmm at 8", "the chamber")
        assert dispatcher.with_options(to="dmm at 8").send_request("t").gather(BOUND).values == {
            "dmm at 8": "answer"
        }
        assert sorted(dispatcher.statistics().producers) == sorted(request.roster)


def test_c11_renaming_a_registered_agent_changes_no_routing(dispatcher):
    """C11: it is known by the name it was registered with, until the last registration is gone."""
    producer = dispatcher.add(Answering(name="before"), "t")
    producer.name = "after"
    assert dispatcher.send_request("t").gather(BOUND).values == {"before": "answer"}
    assert list(dispatcher.agents) == ["before"]
    assert dispatcher.deregister_result_producer(producer, "t", wait=True, timeout=BOUND)
    assert dispatcher.agents == {}
    dispatcher.register_result_producer(producer, "t")
    assert dispatcher.send_request("t").gather(BOUND).values == {"after": "answer"}


@pytest.mark.parametrize(
    ("agent", "documented"),
    [
        (Answering(), {"produce_dispatcher_output", "safe_state"}),
        (
            ExecutorProducer(echo, ThreadPoolExecutor, 1),
            {"produce_dispatcher_output", "safe_state"},
        ),
        (
            type("Hears", (ResultListener,), {"process_dispatcher_end": lambda self, request: 0})(),
            {
                "process_dispatcher_result",
                "process_dispatcher_outcome",
                "process_dispatcher_end",
                "send_result",
            },
        ),
    ],
)
def test_c11_agents_take_no_name_beside_the_documented_ones(agent, documented):
    """C11: whatever else an agent keeps is prefixed ``_ate_``, on the class and on the instance."""
    thread = set(dir(threading.Thread()))
    ours = {name for name in dir(agent) if name not in thread and not name.startswith("_ate_")}
    assert {name for name in ours if not name.startswith("__")} == documented | {
        "on_start",
        "on_stop",
        "stop",
    }
