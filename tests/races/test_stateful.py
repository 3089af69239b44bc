"""Random histories of registrations, sends, cancels and stops, each compared with a model."""

from __future__ import annotations

import contextlib
import logging
from typing import Any, Dict, List

import pytest
from noise import noise
from scenarios import BOUND, Echo

from ate_dispatcher import ATEDispatcher, OutcomeStatus, Request, RequestStatus, StateError
from ate_dispatcher.testing import RecordingListener

pytest.importorskip("hypothesis", reason="the stateful tests need hypothesis (extra dev)")

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test

TOPICS = st.sampled_from(("a", "b"))
INDEX = st.integers(0, 2)


class Model(RuleBasedStateMachine):
    """One caller's own order of calls holds (C8), so a plain dict can say what must come out.

    Listeners change only when nothing is open, because they are those registered when an outcome
    is accepted; everything else is left to race.
    """

    def __init__(self) -> None:
        super().__init__()
        self.around = contextlib.ExitStack()
        self.around.enter_context(noise(7, share=0.002))
        self.dispatcher = ATEDispatcher()
        self.producers = [Echo(name=f"p{number}") for number in range(3)]
        self.listeners = [RecordingListener(name=f"l{number}") for number in range(3)]
        for agent in (*self.producers, *self.listeners):
            agent.start()
        self.rosters: Dict[str, List[str]] = {"a": [], "b": []}
        self.audiences: Dict[str, List[RecordingListener]] = {"a": [], "b": []}
        self.gone: List[Any] = []
        self.requests: List[Request] = []
        self.expected: List[List[str]] = []
        self.heard: Dict[str, List[Request]] = {own.name: [] for own in self.listeners}
        self.dispatcher.start()
        self.stopped = False

    def running(self) -> bool:
        return not self.stopped

    def settle(self) -> None:
        assert self.dispatcher.flush(BOUND), self.dispatcher.laggards()

    @precondition(running)
    @rule(number=INDEX, topic=TOPICS)
    def register_producer(self, number: int, topic: str) -> None:
        producer = self.producers[number]
        if producer in self.gone:
            return
        self.dispatcher.register_result_producer(producer, topic)
        if producer.name not in self.rosters[topic]:
            self.rosters[topic].append(producer.name)

    @precondition(running)
    @rule(number=INDEX, topic=TOPICS, wait=st.booleans())
    def deregister_producer(self, number: int, topic: str, wait: bool) -> None:
        producer = self.producers[number]
        ended = self.dispatcher.deregister_result_producer(
            producer, topic, wait=wait, timeout=BOUND
        )
        assert ended is wait
        if producer.name in self.rosters[topic]:
            self.rosters[topic].remove(producer.name)

    @precondition(running)
    @rule(number=INDEX)
    def remove_producer(self, number: int) -> None:
        """Its work has ended with `remove`, and it with its work."""
        producer = self.producers[number]
        assert self.dispatcher.remove(producer, wait=True, timeout=BOUND)
        producer.join(BOUND)
        assert not producer.is_alive()
        self.gone.append(producer)
        for roster in self.rosters.values():
            if producer.name in roster:
                roster.remove(producer.name)
        with pytest.raises(StateError):
            self.dispatcher.register_result_producer(producer, "a")

    @precondition(running)
    @rule(number=INDEX, topic=TOPICS)
    def register_listener(self, number: int, topic: str) -> None:
        self.settle()
        listener = self.listeners[number]
        self.dispatcher.register_result_listener(listener, topic)
        if listener not in self.audiences[topic]:
            self.audiences[topic].append(listener)

    @precondition(running)
    @rule(number=INDEX, topic=TOPICS)
    def deregister_listener(self, number: int, topic: str) -> None:
        self.settle()
        listener = self.listeners[number]
        assert self.dispatcher.deregister_result_listener(listener, topic, wait=True, timeout=BOUND)
        if listener in self.audiences[topic]:
            self.audiences[topic].remove(listener)

    @precondition(running)
    @rule(topic=TOPICS, ttl=st.sampled_from((2, 60_000)))
    def send(self, topic: str, ttl: int) -> None:
        request = self.dispatcher.send_request(topic, len(self.requests), ttl=ttl)
        self.requests.append(request)
        self.expected.append(list(self.rosters[topic]))
        for listener in self.audiences[topic]:
            self.heard[listener.name].append(request)

    @precondition(lambda self: self.requests)
    @rule(back=st.integers(0, 3))
    def cancel(self, back: int) -> None:
        request = self.requests[-1 - back % len(self.requests)]
        request.cancel()
        assert request.cancelled or request.status is RequestStatus.COMPLETE

    @precondition(lambda self: self.requests)
    @rule()
    def wait(self) -> None:
        assert self.requests[-1].wait(BOUND)

    @rule(drain=st.booleans(), really=st.integers(0, 3))
    def stop(self, drain: bool, really: int) -> None:
        """Now and then, so that histories grow; twice is once."""
        if really and not self.stopped:
            return
        report = self.dispatcher.stop(drain)
        assert report.clean, report
        self.stopped = True
        with pytest.raises(StateError):
            self.dispatcher.send_request("a")

    def teardown(self) -> None:
        with self.around:
            self.dispatcher.stop()
            for agent in (*self.producers, *self.listeners):
                agent.stop()
                agent.join(BOUND)
                assert not agent.is_alive()
        for request, roster in zip(self.requests, self.expected):
            assert request.status is not RequestStatus.OPEN
            assert list(request.roster) == roster == [o.producer for o in request.outcomes]
            for outcome in request.succeeded:
                assert outcome.value == request.args[0]
            if request.status is RequestStatus.COMPLETE:
                assert {outcome.status for outcome in request.outcomes} == {OutcomeStatus.OK}
        for listener in self.listeners:
            told = [id(outcome) for outcome in listener.outcomes]
            own = self.heard[listener.name]
            assert sorted(told) == sorted(id(o) for request in own for o in request.outcomes)
            assert sorted(map(id, listener.ends)) == sorted(map(id, own))
        for one in self.listeners:
            for other in self.listeners:
                common = {id(o) for o in one.outcomes} & {id(o) for o in other.outcomes}
                orders = [[id(o) for o in own.outcomes if id(o) in common] for own in (one, other)]
                assert orders[0] == orders[1]


def test_histories_agree_with_the_model(caplog):
    """C1, C2, C6, C8, C9: rosters, outcomes, ends and order are what one caller's calls say."""
    caplog.set_level(logging.CRITICAL, "ate_dispatcher")
    run_state_machine_as_test(
        Model,
        settings=settings(
            max_examples=20,
            stateful_step_count=15,
            deadline=None,
            database=None,
            derandomize=True,
            phases=(Phase.generate, Phase.shrink),
            suppress_health_check=list(HealthCheck),
        ),
    )
