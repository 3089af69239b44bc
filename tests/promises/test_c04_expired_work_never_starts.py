"""C4: expired or cancelled work never starts."""

from __future__ import annotations

import pytest

from ate_dispatcher import ATEDispatcher, OutcomeStatus
from ate_dispatcher.testing import ScriptedProducer


def test_c4_expired_work_never_starts(timed, clock, gate):
    """C4: a backlog cannot send stale commands to an instrument."""
    producer = timed.add(ScriptedProducer(gate, "fresh"), "t")
    timed.send_request("t", "running", ttl=1e6)
    gate.wait_parked()
    stale = [timed.send_request("t", "stale", ttl=100) for _ in range(5)]
    clock.advance(0.2)
    assert all(request.wait(30) for request in stale)
    gate.open()
    assert timed.send_request("t", "fresh", ttl=100).gather(30).values == {producer.name: "fresh"}
    assert [call.args[0] for call in producer.calls] == ["running", "fresh"]


def test_c4_the_producer_itself_looks_at_the_clock(clock):
    """C4: even if the dispatcher has not noticed the deadline yet, the work does not start."""
    dispatcher = ATEDispatcher(clock=clock)
    producer = ScriptedProducer()
    dispatcher.register_result_producer(producer, "t")
    dispatcher.send_request("t", ttl=100)
    dispatcher._turn()
    clock.advance(0.2)
    producer.start()
    producer.stop()
    producer.join(30)
    assert producer.calls == []
    dispatcher.stop()


def test_c4_cancelled_work_never_starts(dispatcher, gate):
    """C4: after `cancel` returned nothing of the request starts, at once."""
    producer = dispatcher.add(ScriptedProducer(gate, "fresh"), "t")
    dispatcher.send_request("t", "running")
    gate.wait_parked()
    cancelled = dispatcher.send_request("t", "cancelled")
    cancelled.cancel()
    gate.open()
    assert dispatcher.send_request("t", "fresh").wait(30)
    assert [call.args[0] for call in producer.calls] == ["running", "fresh"]
    assert cancelled.wait(30)
    assert cancelled.missing[0].status is OutcomeStatus.CANCELLED


def test_c4_the_producer_looks_at_the_cancel_flag_itself():
    """C4: the flag alone stops the work, before the dispatcher has handled the cancel."""
    dispatcher = ATEDispatcher()
    producer = ScriptedProducer()
    dispatcher.register_result_producer(producer, "t")
    request = dispatcher.send_request("t")
    dispatcher._turn()
    request.cancel()
    producer.start()
    producer.stop()
    producer.join(30)
    assert producer.calls == []
    dispatcher.stop()


@pytest.mark.parametrize("winner", ["start", "close"])
def test_c4_a_claim_has_one_winner(winner):
    """C4: start and close contest one row; who comes second gets nothing."""
    dispatcher = ATEDispatcher()
    producer = ScriptedProducer(name="a")
    dispatcher.register_result_producer(producer, "t")
    request = dispatcher.send_request("t")
    dispatcher._turn()
    address = producer._ate_address
    if winner == "start":
        assert request.claim(address, dispatcher.clock())
        assert not request.claim(address, dispatcher.clock())
        request._refuse(address, "too late")
        assert dispatcher._mailbox.qsize() == 0
    else:
        request._refuse(address, "first")
        assert not request.claim(address, dispatcher.clock())
        dispatcher._turn()
        assert request.outcomes[0].reason == "first"
    dispatcher.stop(drain=False)
