"""The "Package usage" chapter of 0.1.0's document, from its first line to its last.

Only its typing slips are mended: commas missing in the expected responses, ``time.sleep(timeout)``
for ``time.sleep(self.timeout)``. The sleeps are the document's own, so this is, beside 0.1.0's own
tests, the one place of the suite that sleeps.
"""

from __future__ import annotations

import time
from typing import Any

from ate_dispatcher import ATEDispatcher, Producer, ResultListener


class SpecificTopicProducer(Producer):
    def __init__(self, _id: int, timeout: int, *topics):
        super().__init__()
        self.id = _id
        self.timeout = timeout / 1000
        self.topics = set(topics)

    def produce_dispatcher_output(self, topic: str, *args, **kwargs) -> Any:
        time.sleep(self.timeout)
        return {"id": self.id, "some_key": topic, "args": args, "kwargs": kwargs}


class ResultListenerExample(ResultListener):
    def __init__(self):
        super().__init__()
        self.responses = {}

    def clear(self):
        self.responses = {}

    def process_dispatcher_result(self, topic: str, response: Any):
        topic_responses = self.responses.get(topic, [])
        topic_responses.append(response)
        self.responses[topic] = topic_responses


def test_the_whole_package_usage_chapter():
    """C1, C2, C3, C8: who sends, registers and waits as the document does gets what it shows."""
    # Create the dispatcher
    dispatcher = ATEDispatcher()

    # Start the dispatcher, the lifetime is delegated to the end developer.
    dispatcher.start()

    # Define the producers and register them against the dispatcher
    producer1 = SpecificTopicProducer(0, 200, "topic1", "my_topic")
    producer1.start()

    producer2 = SpecificTopicProducer(1, 500, "topic1", "topic2", "my_topic")
    producer2.start()

    for topic in producer1.topics:
        dispatcher.register_result_producer(producer1, topic)

    for topic in producer2.topics:
        dispatcher.register_result_producer(producer2, topic)

    # Define the result listeners and register them against the dispatcher
    listener1 = ResultListenerExample()
    listener1.start()

    listener2 = ResultListenerExample()
    listener2.start()

    for topic in ["topic1", "topic2", "my_topic"]:
        # The first listener will receive all responses tagged with all topics
        dispatcher.register_result_listener(listener1, topic)

    for topic in ["topic1", "my_topic"]:
        # This listener will attend to certain topics.
        dispatcher.register_result_listener(listener2, topic)

    # Trigger a dispatcher request with a 4000ms timeout on the topic1
    dispatcher.send_request("topic1", 3, 4, 5, ttl=4000, keyword="b")

    # Wait for responses to arrive
    time.sleep(1.0)

    # Both listeners should have received the responses from both producers.
    expected_responses = {
        "topic1": [
            {"id": 0, "some_key": "topic1", "args": (3, 4, 5), "kwargs": {"keyword": "b"}},
            {"id": 1, "some_key": "topic1", "args": (3, 4, 5), "kwargs": {"keyword": "b"}},
        ]
    }

    assert listener1.responses == expected_responses
    assert listener2.responses == expected_responses

    # Clear the listener responses
    listener1.clear()
    listener2.clear()

    # Trigger a dispatcher request with a 300ms timeout limit on the topic my_topic
    dispatcher.send_request("my_topic", 3, 4, 5, ttl=300, keyword="b")

    # Wait for responses to arrive
    time.sleep(0.5)

    # Both listeners should have only received the response from producer1.
    expected_responses = {
        "my_topic": [
            {"id": 0, "some_key": "my_topic", "args": (3, 4, 5), "kwargs": {"keyword": "b"}}
        ]
    }

    assert listener1.responses == expected_responses
    assert listener2.responses == expected_responses

    # Clear the listener1 responses
    listener1.clear()

    # Trigger a dispatcher request with a 1000ms timeout limit on the topic topic2
    dispatcher.send_request("topic2", 3, 4, 5, ttl=1000, keyword="b")

    # Wait for responses to arrive
    time.sleep(1.0)

    # Only the listener1 should have received the message produced by the producer2
    expected_responses = {
        "topic2": [{"id": 1, "some_key": "topic2", "args": (3, 4, 5), "kwargs": {"keyword": "b"}}]
    }

    assert listener1.responses == expected_responses

    # Deregister the listener2 and the producer1 from certain topics
    dispatcher.deregister_result_listener(listener2, "my_topic")
    dispatcher.deregister_result_producer(producer1, "topic1")

    # Stopping the producer and result listener instances
    for topic in producer1.topics:
        dispatcher.deregister_result_producer(producer1, topic)

    for topic in producer2.topics:
        dispatcher.deregister_result_producer(producer2, topic)

    producer1.stop()
    producer2.stop()

    for topic in ["topic1", "topic2", "my_topic"]:
        dispatcher.deregister_result_listener(listener1, topic)

    for topic in ["topic1", "my_topic"]:
        dispatcher.deregister_result_listener(listener2, topic)

    # Stop the dispatcher
    dispatcher.stop()

    # Here the document ends. Its listeners were never stopped: the dispatcher has not waited for
    # them, and as daemons they would not keep a script alive.
    assert not dispatcher.is_alive()
    for listener in (listener1, listener2):
        assert listener.is_alive()
        assert listener.daemon
        listener.stop()
    for thread in (producer1, producer2, listener1, listener2):
        thread.join(30)
        assert not thread.is_alive()
