"""C8: routing is atomic and in order."""

from __future__ import annotations

import pytest

from ate_dispatcher import (
    ATEDispatcher,
    InvalidArgumentError,
    InvalidTypeError,
    RequestStatus,
)
from ate_dispatcher.testing import RecordingListener, ScriptedProducer

BOUND = 60


def test_c8_each_callers_order_of_sends_and_registrations_holds(dispatcher, gate):
    """C8: what is registered after a send is not in its roster, before it is; also before start."""
    first = ScriptedProducer(1, name="first")
    second = ScriptedProducer(2, name="second")
    dispatcher.add(first, "t")
    before = dispatcher.send_request("t")
    dispatcher.add(second, "t")
    both = dispatcher.send_request("t")
    dispatcher.deregister_result_producer(first, "t")
    after = dispatcher.send_request("t")
    assert dispatcher.flush(BOUND)
    assert [r.roster for r in (before, both, after)] == [
        ("first",),
        ("first", "second"),
        ("second",),
    ]
    first.stop()


def test_c8_registering_twice_is_once_and_deregistering_nothing_is_no_error(dispatcher):
    """C8: both are idempotent."""
    producer, listener = ScriptedProducer(1), RecordingListener()
    dispatcher.deregister_result_producer(producer, "t")
    for _ in range(2):
        dispatcher.add(producer, "t")
        dispatcher.add(listener, "t")
    assert dispatcher.send_request("t").wait(BOUND, delivered=True)
    assert len(producer.calls) == len(listener.results) == 1
    for _ in range(2):
        dispatcher.deregister_result_producer(producer, "t")
        dispatcher.deregister_result_listener(listener, "t")
    assert dispatcher.send_request("t").gather(BOUND).status is RequestStatus.NO_PRODUCERS
    assert producer.name not in dispatcher.agents
    producer.stop()
    listener.stop()


def test_c8_listeners_are_those_registered_when_an_outcome_is_accepted(dispatcher, gate):
    """C8: a listener registered while the work runs gets its result."""
    dispatcher.add(ScriptedProducer(lambda topic: gate.park() or 1), "t")
    request = dispatcher.send_request("t")
    gate.wait_parked()
    late = dispatcher.add(RecordingListener(), "t")
    assert dispatcher.send_request("elsewhere").wait(BOUND)
    gate.open()
    assert request.wait(BOUND, delivered=True)
    assert late.values == [1]


def test_c8_deregister_can_wait_for_the_work(dispatcher, gate):
    """C8: True once queued and running work has ended; False at the time-out; False on a hook."""
    answers = []
    producer = dispatcher.add(ScriptedProducer(gate, name="dmm"), "t")
    listener = dispatcher.add(RecordingListener(), "t")
    request = dispatcher.send_request("t", ttl=60_000)
    gate.wait_parked()
    assert not dispatcher.deregister_result_producer(producer, "t", wait=True, timeout=0.01)
    gate.open()
    assert dispatcher.deregister_result_producer(producer, "t", wait=True, timeout=BOUND)
    assert request.wait(BOUND)

    def on_a_library_thread(topic):
        answers.append(dispatcher.deregister_result_listener(listener, "t", wait=True))

    dispatcher.add(ScriptedProducer(on_a_library_thread), "u")
    assert dispatcher.send_request("u").wait(BOUND)
    assert answers == [False]
    producer.stop()
    listener.stop()


def test_c8_what_is_removed_while_it_is_registered_once_more_stops():
    """C8: a registration that slips past a removal does not keep the agent's thread alive."""
    dispatcher = ATEDispatcher()
    agent = dispatcher.add(ScriptedProducer(1, name="dmm"), "a")

    class Overtaken:
        """The dispatcher's lock, whose next user is late."""

        def __init__(self, lock):
            self.lock = lock

        def __enter__(self):
            dispatcher._lock = self.lock
            dispatcher.remove(agent)
            return self.lock.__enter__()

        def __exit__(self, *error):
            return self.lock.__exit__(*error)

    dispatcher._lock = Overtaken(dispatcher._lock)
    dispatcher.register_result_producer(agent, "b")
    with dispatcher:
        agent.join(BOUND)
        assert not agent.is_alive()
        assert dispatcher.send_request("b").gather(BOUND).status is RequestStatus.NO_PRODUCERS
        assert dispatcher.agents == {}


def test_c8_an_agent_is_replaced_by_another_of_its_name(dispatcher, gate):
    """C8: the name of what was removed is free at once, although its work goes on."""
    old = dispatcher.add(ScriptedProducer(gate, name="dmm"), "t")
    before = dispatcher.send_request("t", ttl=60_000)
    gate.wait_parked()
    dispatcher.remove(old)
    new = dispatcher.add(ScriptedProducer("new", name="dmm"), "t")
    assert dispatcher.agents == {"dmm": new}
    assert dispatcher.send_request("t").gather(BOUND).values == {"dmm": "new"}
    gate.open()
    assert before.gather(BOUND).status is RequestStatus.COMPLETE


@pytest.mark.parametrize("wrong", ["x", float("nan")])
def test_c8_a_removal_with_a_wrong_timeout_changes_nothing(dispatcher, wrong):
    """C8: the agent works on, and may be registered with another topic."""
    agent = dispatcher.add(ScriptedProducer(1, name="dmm"), "t")
    with pytest.raises((InvalidTypeError, InvalidArgumentError)):
        dispatcher.remove(agent, wait=True, timeout=wrong)
    dispatcher.register_result_producer(agent, "u")
    assert dispatcher.send_request("u").gather(BOUND).values == {"dmm": 1}


def test_c8_a_name_is_free_once_the_routes_are_told(dispatcher):
    """C8: whoever takes the name of an agent that leaves is not in one roster with it."""
    agent = dispatcher.add(ScriptedProducer(1, name="dmm"), "t")
    home, release, steps = dispatcher._home, dispatcher._release, []

    class Noting:
        def post(self, message):
            steps.append(type(message).__name__)

    def noting(*arguments):
        steps.append("free")
        return release(*arguments)

    dispatcher._home, dispatcher._release = Noting(), noting
    try:
        dispatcher._agent_left(agent)
    finally:
        dispatcher._home = home
        del dispatcher._release
    assert steps == ["Gone", "free"]
    agent.stop()
    agent.join(BOUND)
