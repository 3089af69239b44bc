"""C6: order."""

from __future__ import annotations

from ate_dispatcher.testing import RecordingListener, ScriptedProducer

BOUND = 60


def test_c6_all_listeners_see_one_order_and_a_producer_works_in_order(dispatcher):
    """C6: the order of acceptance is everybody's order."""
    listeners = [dispatcher.add(RecordingListener(), "t") for _ in range(3)]
    producers = [dispatcher.add(ScriptedProducer(lambda topic, n: n), "t") for _ in range(3)]
    requests = [dispatcher.send_request("t", number) for number in range(200)]
    assert requests[-1].wait(BOUND)
    assert dispatcher.flush(BOUND)
    orders = [[(o.producer, o.value) for o in listener.outcomes] for listener in listeners]
    assert len(orders[0]) == 600
    assert orders[0] == orders[1] == orders[2]
    for producer in producers:
        assert [call.args[0] for call in producer.calls] == list(range(200))
