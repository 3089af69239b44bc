"""Bad input gets a clear error at the call, or a clear outcome: what was wrong, with which value.

Nothing is lost by it and nobody else disturbed: every test ends with the station at work.
"""

from __future__ import annotations

import asyncio
import math
import re
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from fractions import Fraction

import pytest

from ate_dispatcher import (
    ATEDispatcher,
    ATEDispatcherError,
    ExecutorProducer,
    InvalidArgumentError,
    InvalidTypeError,
    NoProducersError,
    Observer,
    OutcomeStatus,
    Producer,
    RequestStatus,
    ResultListener,
    StateError,
    TopicFilter,
    UsageError,
)
from ate_dispatcher.testing import RecordingListener, ScriptedProducer

BOUND = 60  # seconds that anything may take before a test gives up on it


@pytest.fixture
def bench(dispatcher):
    """A station that still has to work when the test is over."""
    dispatcher.add(ScriptedProducer("well", name="dmm"), "t")
    log = dispatcher.add(RecordingListener(name="log"), "t")
    yield dispatcher
    request = dispatcher.send_request("t")
    assert request.wait(BOUND, delivered=True)
    assert request.values == {"dmm": "well"}
    assert log.values[-1] == "well"
    assert sorted(dispatcher.agents) == ["dmm", "log"]


def says(value):
    """Make a pattern that the offending value must match, as it would be written."""
    return re.escape(repr(value))


# ---- sites ---------------------------------------------------------------------------------------


def test_a_site_that_nobody_has(bench):
    """Bad input: NO_PRODUCERS at once, with the site and who there is; an error on demand."""
    dmm0 = bench.add(ScriptedProducer(1, name="dmm0", site=0), "measure")
    for asked, told in (([9], "9"), (["left", 9], "'left', 9")):
        request = bench.with_options(sites=asked).send_request("measure", ttl=60_000)
        request.gather(BOUND)
        assert (request.status, request.outcomes) == (RequestStatus.NO_PRODUCERS, ())
        said = f"no producer on 'measure' with sites={told}; registered: 'dmm0'"
        assert request.reason == said
        with pytest.raises(NoProducersError, match=re.escape(said)):
            request.raise_for_status()
    both = bench.with_options(sites=[0, 9]).send_request("measure", ttl=60_000)
    assert both.gather(BOUND).values == {"dmm0": 1}
    bench.remove(dmm0)


# ---- ttl -----------------------------------------------------------------------------------------

NO_NUMBERS = ["5000", b"5", None, True, False, [5], {}, 5j, object]
NOT_POSITIVE = [0, -1, 0.0, -0.5, math.nan, -math.inf, timedelta(0), timedelta(seconds=-1),
                -(10**400), Fraction(-1, 2)]  # fmt: skip


@pytest.mark.parametrize("ttl", NO_NUMBERS, ids=repr)
def test_a_ttl_that_is_no_number(bench, ttl):
    """Bad input: the error is a `TypeError`, names the value and the unit; nothing was sent."""
    for sender in (bench, bench.with_options(tags={})):
        with pytest.raises(InvalidTypeError, match=says(ttl)) as caught:
            sender.send_request("t", ttl=ttl)
        assert isinstance(caught.value, TypeError)
        assert "milliseconds" in str(caught.value)
    assert bench.statistics().requests == 0


@pytest.mark.parametrize("ttl", NOT_POSITIVE, ids=lambda ttl: repr(ttl)[:20])
def test_a_ttl_that_is_not_positive(bench, ttl):
    """Bad input: zero, negative and NaN are a `ValueError` that names the value."""
    for sender in (bench, bench.with_options(tags={})):
        with pytest.raises(InvalidArgumentError, match=says(ttl)) as caught:
            sender.send_request("t", ttl=ttl)
        assert isinstance(caught.value, ValueError)
        assert "positive" in str(caught.value)
    assert bench.statistics().requests == 0


@pytest.mark.parametrize("ttl", [0.5, 0.001, timedelta(microseconds=20)], ids=repr)
def test_a_ttl_below_a_millisecond_warns(timed, ttl):
    """Bad input: somebody meant seconds; the warning points at the caller's line."""
    for sender in (timed, timed.with_options(tags={})):
        with pytest.warns(UserWarning, match=r"less than a millisecond.*not seconds") as record:
            sender.send_request("t", ttl=ttl)
        assert repr(ttl) in str(record[0].message)
        assert record[0].filename == __file__


@pytest.mark.parametrize(
    ("ttl", "milliseconds"),
    [(1, 1.0), (1.0, 1.0), (math.inf, math.inf), (1e300, 1e300), (10**400, math.inf),
     (Fraction(7, 2), 3.5), (timedelta(minutes=1), 60_000.0)],
    ids=["int", "float", "infinite", "huge", "beyond every float", "fraction", "timedelta"],
)  # fmt: skip
def test_a_ttl_that_is_fine(timed, ttl, milliseconds):
    """A positive number of whatever kind, or infinity, and no warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for sender in (timed, timed.with_options(tags={})):
            assert sender.send_request("t", ttl=ttl).ttl == milliseconds


# ---- topics --------------------------------------------------------------------------------------

NO_TOPICS = [None, 5, b"t", ["t"], ("t", "u"), object]


def takers(dispatcher):
    """Give every call that takes a topic."""
    producer, listener = ScriptedProducer(name="new"), RecordingListener(name="newer")
    return [
        dispatcher.send_request,
        dispatcher.with_options().send_request,
        lambda topic: dispatcher.add(producer, topic),
        lambda topic: dispatcher.add(producer, "good", topic),
        lambda topic: dispatcher.register_result_producer(producer, topic),
        lambda topic: dispatcher.register_result_listener(listener, topic),
        lambda topic: dispatcher.deregister_result_producer(producer, topic),
        lambda topic: dispatcher.deregister_result_listener(listener, topic),
        lambda topic: dispatcher.producer("good", topic)(lambda topic: None),
        lambda topic: dispatcher.listener("good", topic)(lambda topic, response: None),
    ]


@pytest.mark.parametrize("topic", NO_TOPICS, ids=repr)
def test_a_topic_that_is_no_string(bench, topic):
    """Bad input: the error names the value; of several topics the good ones are not taken."""
    for take in takers(bench):
        with pytest.raises(InvalidTypeError, match=says(topic)):
            take(topic)
    assert bench.send_request("good").gather(BOUND).status is RequestStatus.NO_PRODUCERS


def test_an_empty_topic(bench):
    """Bad input: a `ValueError`."""
    for take in takers(bench):
        with pytest.raises(InvalidArgumentError, match="must not be empty"):
            take("")
    assert bench.send_request("good").gather(BOUND).status is RequestStatus.NO_PRODUCERS


def test_a_filter_cannot_be_sent_to(bench):
    """Bad input: a request has one topic."""
    with pytest.raises(InvalidTypeError, match=r"TopicFilter\('site\.\*'\)"):
        bench.send_request(TopicFilter("site.*"))


@pytest.mark.parametrize(
    ("pattern", "error", "words"),
    [
        ("", InvalidArgumentError, "empty"),
        (None, InvalidTypeError, "None"),
        ("a.#.b", InvalidArgumentError, r"'a\.#\.b'"),
        ("a.b*", InvalidArgumentError, r"'b\*'"),
        ("a/+x", InvalidArgumentError, r"'\+x'"),
    ],
)
def test_a_pattern_that_means_nothing(pattern, error, words):
    """Bad input: at the making of the filter."""
    with pytest.raises(error, match=words):
        TopicFilter(pattern)


def test_add_without_a_topic(bench):
    """Bad input: it would register nothing, silently."""
    with pytest.raises(InvalidArgumentError, match=r"'new'.*at least one topic"):
        bench.add(ScriptedProducer(name="new"))


def test_a_decorator_without_its_brackets(bench):
    """Bad input: ``@dispatcher.producer`` would take the function for a topic."""
    with pytest.raises(InvalidArgumentError, match=r"name the topics: @dispatcher\.producer"):
        bench.producer(lambda topic: None)
    with pytest.raises(InvalidArgumentError, match=r"name the topics: @dispatcher\.listener"):
        bench.listener(lambda topic, response: None)


# ---- agents --------------------------------------------------------------------------------------


class Half(Producer):
    """Without its hook."""


class Deaf(ResultListener):
    """Without any of its hooks."""


@pytest.mark.parametrize("thing", [None, "dmm", object(), ScriptedProducer, threading.Thread()])
def test_what_is_no_agent(bench, thing):
    """Bad input: an agent of the wrong type; the class instead of an instance is one, too."""
    for take in (
        bench.add,
        bench.register_result_producer,
        bench.register_result_listener,
        bench.deregister_result_producer,
        bench.deregister_result_listener,
        lambda thing, topic: bench.remove(thing),
    ):
        with pytest.raises(InvalidTypeError, match=says(thing)):
            take(thing, "t")


def test_what_to_give_instead_of_what_is_no_agent(bench):
    """Bad input: a class is to be made, a function has its decorator."""
    with pytest.raises(InvalidTypeError, match=r"make one, ScriptedProducer\(…\)$"):
        bench.add(ScriptedProducer, "t")
    with pytest.raises(InvalidTypeError, match=r"for a function there are @dispatcher\.producer"):
        bench.add(print, "t")
    with pytest.raises(InvalidTypeError, match=r"is not an agent, but type$"):
        bench.add(dict, "t")


def test_an_agent_of_the_other_kind(bench):
    """Bad input: a listener is no producer, and the other way round."""
    producer, listener = ScriptedProducer(name="new"), RecordingListener(name="newer")
    with pytest.raises(InvalidTypeError, match=r"newer.* is not a Producer, but RecordingListener"):
        bench.register_result_producer(listener, "t")
    with pytest.raises(InvalidTypeError, match=r"new.* is not a ResultListener"):
        bench.register_result_listener(producer, "t")


def test_a_subclass_without_its_hook_is_told_at_registration(bench):
    """Bad input: with the name of the class and of the hook, before anything is started."""
    half, deaf = Half(), Deaf()
    for take in (bench.add, bench.register_result_producer):
        with pytest.raises(
            InvalidTypeError, match=r"Half must implement produce_dispatcher_output"
        ):
            take(half, "t")
    for take in (bench.add, bench.register_result_listener):
        with pytest.raises(InvalidTypeError, match=r"Deaf must implement at least one of.*result"):
            take(deaf, "t")
    assert half.ident is None
    assert deaf.ident is None


class Forgetful(Producer):
    def __init__(self):
        self.port = "COM3"

    def produce_dispatcher_output(self, topic):
        return self.port


class ForgetfulListener(ResultListener):
    def __init__(self):
        self.path = "log.txt"

    def process_dispatcher_result(self, topic, response):
        pass


@pytest.mark.parametrize("kind", [Forgetful, ForgetfulListener])
def test_an_agent_that_forgot_super_init(bench, kind):
    """Bad input: named with its class, at registration and at `start`, by whatever verb."""
    agent = kind()
    register = (
        bench.register_result_producer if kind is Forgetful else bench.register_result_listener
    )
    for take in (bench.add, register, lambda agent, topic: bench.remove(agent)):
        with pytest.raises(InvalidTypeError, match=rf"{kind.__name__}.*super\(\).__init__\(\)"):
            take(agent, "t")
    with pytest.raises(StateError, match=rf"{kind.__name__}.*super\(\).__init__\(\)"):
        agent.start()


def test_an_agent_of_the_other_kind_that_forgot_super_init(bench):
    """Bad input: two mistakes at once still give an error of ours."""
    with pytest.raises(InvalidTypeError, match="ForgetfulListener"):
        bench.register_result_producer(ForgetfulListener(), "t")


def test_registering_a_stopped_agent(bench):
    """Bad input: it can never work again; the error names it and says so."""
    for agent in (ScriptedProducer(name="old"), RecordingListener(name="old")):
        agent.start()
        agent.stop()
        agent.join(BOUND)
        with pytest.raises(StateError, match="'old' has stopped: it cannot be registered"):
            bench.add(agent, "t")


def test_registering_a_failed_agent(bench, caplog):
    """Bad input: the same, with what it failed of."""

    class Unplugged(ScriptedProducer):
        def on_start(self):
            raise OSError("no such device")

    agent = Unplugged(name="old")
    agent.start()
    agent.join(BOUND)
    with pytest.raises(StateError, match=r"'old' failed: OSError.*no such device"):
        bench.add(agent, "t")


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"name": ""}, InvalidTypeError, "''"),
        ({"name": 5}, InvalidTypeError, "5"),
        ({"site": True}, InvalidTypeError, "True"),
        ({"site": 1.5}, InvalidTypeError, r"1\.5"),
        ({"site": [1]}, InvalidTypeError, r"\[1\]"),
        ({"capacity": "3"}, InvalidTypeError, "'3'"),
        ({"capacity": True}, InvalidTypeError, "True"),
        ({"capacity": 2.0}, InvalidTypeError, r"2\.0"),
        ({"capacity": 0}, InvalidArgumentError, "0"),
        ({"capacity": -1}, InvalidArgumentError, "-1"),
        ({"capacity": 1, "overflow": "newest"}, InvalidArgumentError, "'newest'"),
        ({"capacity": 1, "overflow": None}, InvalidArgumentError, "None"),
        ({"overflow": "newest"}, InvalidArgumentError, "'newest'"),
    ],
)
@pytest.mark.parametrize("kind", [ScriptedProducer, RecordingListener])
def test_options_of_agents(kind, options, error, words):
    """Bad input: at the making of the agent; an unknown policy even where nothing is bounded."""
    with pytest.raises(error, match=words):
        kind(**options)


def test_functions_that_are_none(bench):
    """Bad input: what is decorated must be callable."""
    with pytest.raises(InvalidTypeError, match="'measure'"):
        bench.producer("t")("measure")
    with pytest.raises(InvalidTypeError, match="'log'"):
        bench.listener("t")("log")


def test_an_observer_that_is_none(bench):
    """Bad input: its class must derive from `Observer`; the class itself is no instance."""
    for thing in (print, Observer, None):
        with pytest.raises(InvalidTypeError, match=says(thing)):
            bench.add_observer(thing)


# ---- hooks and arguments that do not fit ---------------------------------------------------------


class TwoChannels(Producer):
    def produce_dispatcher_output(self, topic, first, second):
        return first + second


class AsyncChannels(Producer):
    async def produce_dispatcher_output(self, topic, first, second):
        await asyncio.sleep(0)
        return first + second


class StreamedChannels(Producer):
    def produce_dispatcher_output(self, topic, first, second):
        yield first + second


def two_channels(topic, first, second):
    return first + second


def pooled(**options):
    return ExecutorProducer(two_channels, ThreadPoolExecutor, 1, **options)


@pytest.mark.parametrize("kind", [TwoChannels, AsyncChannels, StreamedChannels, pooled])
@pytest.mark.parametrize("options", [False, True])
@pytest.mark.parametrize(("args", "kwargs"), [((1,), {}), ((1, 2, 3), {}), ((1, 2), {"third": 3})])
def test_a_hook_that_does_not_take_what_was_sent(bench, kind, options, args, kwargs):
    """Bad input: an ERROR that names the hook, its parameters, and what Python says of them."""
    agent = bench.add(kind(name="two"), "two")
    sender = bench.with_options(tags={}) if options else bench
    (failure,) = sender.send_request("two", *args, **kwargs).gather(BOUND).failed
    assert failure.status is OutcomeStatus.ERROR
    assert isinstance(failure.exception, TypeError)
    assert "cannot be called with what was sent" in failure.reason
    assert "(topic, first, second)" in failure.reason
    assert ("two_channels" if kind is pooled else kind.__name__) in failure.reason
    assert bench.send_request("two", 1, 2).gather(BOUND).succeeded
    assert bench.remove(agent, wait=True, timeout=BOUND)


@pytest.mark.parametrize("options", [False, True])
def test_a_type_error_of_the_hooks_own_is_not_mistaken_for_that(bench, options):
    """Bad input: what the work itself raises is told as it is."""
    agent = bench.add(TwoChannels(name="two"), "two")
    sender = bench.with_options(tags={}) if options else bench
    (failure,) = sender.send_request("two", 1, "2").gather(BOUND).failed
    assert isinstance(failure.exception, TypeError)
    assert failure.reason == f"TypeError: {failure.exception}"
    assert "produce_dispatcher_output" in failure.traceback
    assert bench.remove(agent, wait=True, timeout=BOUND)


def test_a_listener_hook_that_does_not_take_its_arguments(bench, caplog):
    """Bad input, C5: logged and counted at each event; nobody else hears less."""

    class NoResponse(ResultListener):
        def process_dispatcher_result(self, topic):
            raise AssertionError("never called")

    agent = bench.add(NoResponse(name="narrow"), "t")
    assert bench.send_request("t").wait(BOUND, delivered=True)
    assert bench.statistics().listeners["narrow"].errors == 1
    assert "'narrow'" in caplog.text
    assert "positional argument" in caplog.text
    assert bench.remove(agent, wait=True, timeout=BOUND)


# ---- copies --------------------------------------------------------------------------------------


class Uncopyable:
    def __deepcopy__(self, memo):
        raise ValueError("this one is unique")

    def __repr__(self):
        return "<the one>"


def test_a_result_that_cannot_be_copied(bench):
    """Bad input: an ERROR that shows the value and why, where it is; the others' values stay."""
    agent = bench.add(ScriptedProducer(Uncopyable(), name="unique"), "t")
    request = bench.with_options(copy="deep").send_request("t").gather(BOUND)
    (failure,) = request.failed
    assert failure.status is OutcomeStatus.ERROR
    assert "'unique' cannot be copied (copy='deep'): <the one>" in failure.reason
    assert "this one is unique" in failure.traceback
    assert request.values == {"dmm": "well"}
    assert bench.remove(agent, wait=True, timeout=BOUND)


def test_a_value_of_a_stream_that_cannot_be_copied(bench):
    """Bad input: the same, and what came before it stays."""

    def stream(topic):
        yield "fine"
        yield Uncopyable()

    bench.producer("s", name="stream")(stream)
    request = bench.with_options(copy="deep").send_request("s").gather(BOUND)
    assert "cannot be copied" in request.failed[0].reason
    assert request.values == {"stream": ["fine"]}
    assert bench.remove(bench.agents["stream"], wait=True, timeout=BOUND)


def test_a_pooled_result_that_cannot_be_copied(bench):
    """Bad input: the same from a worker."""
    agent = bench.add(
        ExecutorProducer(lambda topic: Uncopyable(), ThreadPoolExecutor, 1, name="pool"), "p"
    )
    request = bench.with_options(copy="deep").send_request("p").gather(BOUND)
    assert "'pool' cannot be copied (copy='deep'): <the one>" in request.failed[0].reason
    assert bench.remove(agent, wait=True, timeout=BOUND)


def test_an_argument_that_cannot_be_copied(bench):
    """Bad input: at the call, with the value; nothing was sent."""
    view = bench.with_options(copy="deep")
    for args, kwargs in (([Uncopyable()], {}), ([], {"dut": Uncopyable()})):
        with pytest.raises(InvalidTypeError, match=r"copy='deep'.*<the one>"):
            view.send_request("t", *args, **kwargs)
    assert bench.statistics().requests == 0


# ---- options -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"to": 5}, InvalidTypeError, "5"),
        ({"to": [5]}, InvalidTypeError, "5"),
        ({"to": ["dmm", ""]}, InvalidTypeError, "''"),
        ({"sites": 5}, InvalidTypeError, "5"),
        ({"sites": "0"}, InvalidTypeError, "'0'"),
        ({"sites": [True]}, InvalidTypeError, "True"),
        ({"sites": [None]}, InvalidTypeError, "None"),
        ({"sites": [0.5]}, InvalidTypeError, r"0\.5"),
        ({"until": "1"}, InvalidTypeError, "'1'"),
        ({"until": True}, InvalidTypeError, "True"),
        ({"until": 1.0}, InvalidTypeError, r"1\.0"),
        ({"until": 0}, InvalidArgumentError, "0"),
        ({"tags": ["lot"]}, InvalidTypeError, r"\['lot'\]"),
        ({"tags": "lot"}, InvalidTypeError, "'lot'"),
        ({"copy": "yes"}, InvalidArgumentError, "'yes'"),
        ({"copy": True}, InvalidArgumentError, "True"),
    ],
)
def test_options_of_requests(bench, options, error, words):
    """Bad input: at `with_options`, once, not at each request."""
    with pytest.raises(error, match=words):
        bench.with_options(**options)


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"max_open": "3"}, InvalidTypeError, "'3'"),
        ({"max_open": True}, InvalidTypeError, "True"),
        ({"max_open": 1.5}, InvalidTypeError, r"1\.5"),
        ({"max_open": 0}, InvalidArgumentError, "0"),
        ({"max_open": -1}, InvalidArgumentError, "-1"),
        ({"on_listener_error": "log"}, InvalidTypeError, "'log'"),
        ({"grace": "1"}, InvalidTypeError, "'1'"),
        ({"grace": None}, InvalidTypeError, "None"),
        ({"grace": -1}, InvalidArgumentError, "-1"),
        ({"grace": math.nan}, InvalidArgumentError, "nan"),
        ({"high_water": "many"}, InvalidTypeError, "'many'"),
        ({"high_water": None}, InvalidTypeError, "None"),
        ({"high_water": 0}, InvalidArgumentError, "0"),
        ({"clock": 5}, InvalidTypeError, "5"),
        ({"name": 5}, InvalidTypeError, "5"),
        ({"name": ""}, InvalidTypeError, "''"),
    ],
)
def test_options_of_dispatchers(options, error, words):
    """Bad input: at the making of the dispatcher, not later and not on its thread."""
    with pytest.raises(error, match=words):
        ATEDispatcher(**options)


# ---- waits ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("timeout", ["1", True, [1]], ids=repr)
def test_time_outs_that_are_no_numbers(bench, timeout):
    """Bad input: of every wait; a `timedelta` is not taken, so that nobody guesses."""
    request = bench.send_request("t")
    for wait in (
        request.wait,
        lambda timeout: request.wait(timeout, delivered=True),
        request.gather,
        bench.flush,
        lambda timeout: bench.stop(timeout=timeout),
        lambda timeout: bench.remove(bench.agents["dmm"], wait=True, timeout=timeout),
        lambda timeout: bench.deregister_result_producer(
            bench.agents["dmm"], "t", wait=True, timeout=timeout
        ),
    ):
        with pytest.raises(InvalidTypeError, match=says(timeout)):
            wait(timeout)
        with pytest.raises(InvalidArgumentError, match="NaN"):
            wait(math.nan)


def test_callbacks_that_are_none(bench):
    """Bad input: told where it is registered, not when it should have been called."""
    request = bench.send_request("t")
    with pytest.raises(InvalidTypeError, match="'call me'"):
        request.add_done_callback("call me")


# ---- before the start and after the stop ---------------------------------------------------------


def test_requests_before_the_start_are_kept():
    """Bad input: no error: kept until `start`, and then served."""
    dispatcher = ATEDispatcher()
    dispatcher.add(ScriptedProducer("served", name="dmm"), "t")
    request = dispatcher.send_request("t")
    assert request.status is RequestStatus.OPEN
    dispatcher.start()
    assert request.gather(BOUND).values == {"dmm": "served"}
    dispatcher.stop()


def test_everything_after_the_stop_is_refused():
    """Bad input: with the dispatcher's name; reading and waiting still work."""
    dispatcher = ATEDispatcher(name="bench")
    dispatcher.start()
    producer = dispatcher.add(ScriptedProducer(1, name="dmm"), "t")
    request = dispatcher.send_request("t").gather(BOUND)
    dispatcher.stop()
    for use in (
        lambda: dispatcher.send_request("t"),
        lambda: dispatcher.with_options(to="dmm").send_request("t"),
        lambda: dispatcher.add(ScriptedProducer(), "t"),
        lambda: dispatcher.register_result_producer(ScriptedProducer(), "t"),
        lambda: dispatcher.register_result_listener(RecordingListener(), "t"),
        dispatcher.start,
    ):
        with pytest.raises(StateError, match="'bench'"):
            use()
    assert request.values == {"dmm": 1}
    assert request.wait(BOUND, delivered=True)
    assert dispatcher.flush(BOUND)
    assert dispatcher.deregister_result_producer(producer, "t", wait=True, timeout=BOUND)
    assert dispatcher.statistics().requests == 1


# ---- the tree ------------------------------------------------------------------------------------


def test_every_mistake_of_the_caller_is_a_usage_error():
    """Errors are a tree by whose fault it is: one ``except`` for all of them."""
    for kind in (InvalidArgumentError, InvalidTypeError, StateError):
        assert issubclass(kind, UsageError)
        assert issubclass(kind, ATEDispatcherError)
    assert issubclass(StateError, RuntimeError)


@pytest.mark.parametrize("name", ["start", "stop", "run", "join"])
def test_an_agent_that_hides_a_method_of_its_thread(dispatcher, name):
    """Bad input: a sweep's own ``self.start`` is named at the call, and nothing is registered."""
    agent = ScriptedProducer(1, name="sweep")
    setattr(agent, name, 1e6)
    said = rf"'sweep' has set its attribute '{name}' to 1000000\.0, but {name}\(\) is a method"
    for register in (dispatcher.add, dispatcher.register_result_producer):
        with pytest.raises(InvalidTypeError, match=said):
            register(agent, "t")
    assert dispatcher.agents == {}
    delattr(agent, name)
    dispatcher.add(agent, "t")
