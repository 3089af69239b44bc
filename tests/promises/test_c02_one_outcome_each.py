"""C2: one outcome per producer."""

from __future__ import annotations

from ate_dispatcher import OutcomeStatus, Phase
from ate_dispatcher.testing import ScriptedProducer

OK, ERROR, TIMEOUT = OutcomeStatus.OK, OutcomeStatus.ERROR, OutcomeStatus.TIMEOUT


def statuses(request):
    return [outcome.status for outcome in request.outcomes]


def test_c2_one_final_outcome_each_and_they_add_up(timed, clock, gate):
    """C2: value, error, timeout and rejection side by side; the good value is not lost."""
    timed.add(ScriptedProducer(42, name="good"), "t")
    timed.add(ScriptedProducer(KeyError("lost"), name="bad"), "t")
    timed.add(ScriptedProducer(gate, name="hung"), "t")
    timed.add(ScriptedProducer(gate, name="full", capacity=1), "t")
    timed.send_request("t", ttl=1e6)
    gate.wait_parked(2)  # both stand at the gate with the first request
    timed.send_request("t", ttl=1e6)
    request = timed.send_request("t", ttl=1e6)
    answers = iter(request)
    assert {next(answers).producer for _ in range(3)} == {"good", "bad", "full"}
    clock.advance(2e3)
    assert request.wait(30)
    assert request.roster == ("good", "bad", "hung", "full")
    assert [o.producer for o in request.outcomes] == list(request.roster)
    assert statuses(request) == [OK, ERROR, TIMEOUT, OutcomeStatus.REJECTED]
    assert request.values == {"good": 42}
    bad = request.failed[0]
    assert isinstance(bad.exception, KeyError)
    assert "_perform" in bad.traceback
    assert "lost" in bad.reason


def test_c2_a_timeout_says_how_far_the_work_had_come(timed, clock, gate):
    """C2: not started, queued or running, and since when."""
    running = timed.add(ScriptedProducer(gate, name="running"), "t", "busy")
    never = ScriptedProducer(name="never")
    timed.register_result_producer(never, "t")
    first = timed.send_request("busy", ttl=1e6)
    gate.wait_parked()
    second = timed.send_request("t", ttl=100)
    clock.advance(0.5)
    assert second.wait(30)
    clock.advance(1e4)
    assert first.wait(30)
    by_name = {outcome.producer: outcome for outcome in second.outcomes}
    assert by_name["running"].phase is Phase.QUEUED
    assert by_name["running"].since == second.queued
    assert "busy" in by_name["running"].reason
    assert by_name["never"].phase is Phase.NOT_STARTED
    assert first.outcomes[0].phase is Phase.RUNNING
    assert first.outcomes[0].since == first.outcomes[0].started is not None
    never.start()
    never.stop()
    never.join(30)
    assert running.is_alive()
