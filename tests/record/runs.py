"""A run with events of every kind, and how events are compared."""

from __future__ import annotations

from ate_dispatcher import ATEDispatcher, TopicFilter
from ate_dispatcher.testing import RecordingListener, ScriptedProducer


def stream(topic):
    yield 1
    yield 2
    return 3


def told(event):
    """As much of an event as a recording promises to give back."""
    if hasattr(event, "roster"):
        return event.topic, event.status, event.roster, event.values, event.tags
    parts = (event.topic, event.producer, event.site, event.status, event.value)
    return (*parts, event.reason, event.tags, event.streamed, event.phase)


class Both(RecordingListener):
    """Keeps outcomes and ends in the one order in which they came."""

    def __init__(self):
        super().__init__()
        self.events = []

    def process_dispatcher_outcome(self, outcome):
        self.events.append(outcome)

    def process_dispatcher_end(self, request):
        self.events.append(request)


def run(recorder, requests=3):
    """Record every kind of event; give the listener that heard the same."""
    with ATEDispatcher() as dispatcher:
        heard = dispatcher.add(Both(), TopicFilter("#"))
        dispatcher.add(recorder, TopicFilter("#"))
        dispatcher.add(ScriptedProducer(5.01, (1, b"x"), name="a", site=0), "v")
        dispatcher.add(ScriptedProducer(KeyError("no"), name="b", site="left"), "v")
        dispatcher.add(ScriptedProducer(stream, name="s"), "stream")
        dispatcher.register_result_producer(ScriptedProducer(name="never"), "late")
        for number in range(requests):
            tagged = dispatcher.with_options(tags={"lot": number})
            assert tagged.send_request("v", number, slope=1.5, ttl=60_000).wait(10, delivered=True)
        dispatcher.send_request("stream", ttl=60_000)
        dispatcher.send_request("late", ttl=5).wait(30)
        dispatcher.send_request("nobody", ttl=60_000)
        assert dispatcher.flush(30)
    return heard
