"""Each bus driver beside its raw client library doing the same, and the bridge beside one process.

    python benchmarks/bus.py [--runs 5] [--messages 1000] [--only mqtt ...]

Publish to callback, 200 bytes of JSON encoded and decoded on both sides, every publish confirmed by
the broker before the next, the contestants in turns, medians. Private brokers, as in the tests.
The bridge scatters to 20 agents in 4 processes over each broker.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import json
import pathlib
import statistics
import subprocess
import sys
import threading
import time
from typing import Any, Callable, Dict, Iterator, List

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from brokers import BROKERS  # noqa: E402

from ate_dispatcher import ATEDispatcher, Producer  # noqa: E402
from ate_dispatcher.bridge import Bridge  # noqa: E402
from ate_dispatcher.bus import Distributer  # noqa: E402

DATA = {"topic": "site.2.voltage", "value": 5.0123, "text": "x" * 143}
TOPIC = "bench.bus"
RUNS = itertools.count()
"""Each run has a topic of its own: Kafka's mock cluster searches all of a topic for each fetch."""
NAMES = ["mqtt", "nats", "redis", "amqp", "kafka"]


class Arrivals:
    """Counts what arrives and notes when."""

    def __init__(self) -> None:
        self.count = 0
        self.target = 0
        self.reached = threading.Event()

    def __call__(self, data: Any) -> None:
        assert data["value"] == DATA["value"]
        self.count += 1
        if self.count == self.target:
            self.reached.set()

    def expect(self, number: int) -> None:
        self.target = self.count + number
        self.reached.clear()

    def wait(self) -> None:
        if not self.reached.wait(60):
            raise RuntimeError(f"{self.count} of {self.target} came")


def ours(broker: Any) -> Callable[[Arrivals], Any]:
    @contextlib.contextmanager
    def run(arrivals: Arrivals) -> Iterator[Callable[[], None]]:
        topic = f"{TOPIC}.{next(RUNS)}"
        with Distributer(broker.url) as publisher, Distributer(broker.url) as listener:
            listener.subscribe(arrivals, topic)
            yield lambda: publisher.publish(DATA, topic)

    return run


def raw_mqtt(broker: Any) -> Any:
    import socket

    from paho.mqtt.client import Client, MQTTv5
    from paho.mqtt.enums import CallbackAPIVersion

    @contextlib.contextmanager
    def run(arrivals: Arrivals) -> Iterator[Callable[[], None]]:
        def no_delay(client: Any, data: Any, connection: Any) -> None:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

        clients = [Client(CallbackAPIVersion.VERSION2, protocol=MQTTv5) for _ in range(2)]
        live = threading.Event()
        publisher, listener = clients
        listener.on_message = lambda c, d, message: arrivals(json.loads(message.payload))
        listener.on_subscribe = lambda *event: live.set()
        for client in clients:
            client.on_socket_open = no_delay
            client.connect("127.0.0.1", broker.port)
            client.loop_start()
        listener.subscribe("bench/bus", 1)
        live.wait(10)

        def publish() -> None:
            publisher.publish("bench/bus", json.dumps(DATA), 1).wait_for_publish(10)

        yield publish
        for client in clients:
            client.disconnect()
            client.loop_stop()

    return run


def raw_nats(broker: Any) -> Any:
    import nats

    @contextlib.contextmanager
    def run(arrivals: Arrivals) -> Iterator[Any]:
        loop = asyncio.new_event_loop()

        async def take(message: Any) -> None:
            arrivals(json.loads(message.data))

        async def begin() -> List[Any]:
            url = f"nats://127.0.0.1:{broker.port}"
            found = [await nats.connect(url), await nats.connect(url)]
            await found[1].subscribe(TOPIC, cb=take)
            await found[1].flush()
            return found

        publisher, listener = loop.run_until_complete(begin())

        async def many(number: int) -> None:
            for _ in range(number):
                await publisher.publish(TOPIC, json.dumps(DATA).encode())
                await asyncio.sleep(0)  # else its PING goes ahead of the message: no confirm
                await publisher.flush()
            while not arrivals.reached.is_set():  # the listener is on this loop
                await asyncio.sleep(0)

        def publish(number: int = 1) -> None:
            loop.run_until_complete(many(number))

        publish.many = publish  # type: ignore[attr-defined]
        yield publish
        for client in (publisher, listener):
            loop.run_until_complete(client.close())
        loop.close()

    return run


def raw_redis(broker: Any) -> Any:
    import redis

    @contextlib.contextmanager
    def run(arrivals: Arrivals) -> Iterator[Callable[[], None]]:
        publisher, listener = (redis.Redis(port=broker.port) for _ in range(2))
        pubsub = listener.pubsub()
        pubsub.subscribe(TOPIC)
        pubsub.get_message(timeout=5)

        def read() -> None:
            for message in pubsub.listen():
                if message["type"] == "message":
                    if message["data"] == b"end":
                        return
                    arrivals(json.loads(message["data"]))

        thread = threading.Thread(target=read)
        thread.start()

        def publish() -> None:
            transaction = publisher.pipeline(transaction=True)
            payload = json.dumps(DATA)
            transaction.publish(TOPIC, payload)
            transaction.xadd("bench", {"t": TOPIC, "d": payload}, maxlen=100_000, nomkstream=True)
            transaction.execute()

        yield publish
        publisher.publish(TOPIC, b"end")
        thread.join()
        for client in (publisher, listener):
            client.close()

    return run


def raw_amqp(broker: Any) -> Any:
    import pika

    @contextlib.contextmanager
    def run(arrivals: Arrivals) -> Iterator[Callable[[], None]]:
        parameters = pika.URLParameters(broker.url)
        connections = [pika.BlockingConnection(parameters) for _ in range(2)]
        publisher, listener = (connection.channel() for connection in connections)
        publisher.exchange_declare("bench", "topic")
        publisher.confirm_delivery()
        queue = listener.queue_declare("", exclusive=True).method.queue
        listener.queue_bind(queue, "bench", TOPIC)
        listener.basic_consume(queue, lambda c, m, p, body: arrivals(json.loads(body)), True)
        thread = threading.Thread(target=listener.start_consuming)
        thread.start()
        properties = pika.BasicProperties(delivery_mode=2)
        yield lambda: publisher.basic_publish("bench", TOPIC, json.dumps(DATA).encode(), properties)
        connections[1].add_callback_threadsafe(listener.stop_consuming)
        thread.join()
        for connection in connections:
            connection.close()

    return run


def raw_kafka(broker: Any) -> Any:
    import confluent_kafka as kafka

    @contextlib.contextmanager
    def run(arrivals: Arrivals) -> Iterator[Callable[[], None]]:
        topic = f"bench.raw.{next(RUNS)}"
        servers = {"bootstrap.servers": broker.servers}
        publisher = kafka.Producer({**servers, "acks": "all", "enable.idempotence": True})
        places = publisher.list_topics(topic, timeout=10).topics[topic].partitions
        listener = kafka.Consumer({**servers, "group.id": "x", "fetch.wait.max.ms": 10})
        listener.assign(
            [
                kafka.TopicPartition(
                    topic,
                    number,
                    listener.get_watermark_offsets(kafka.TopicPartition(topic, number))[1],
                )
                for number in places
            ]
        )
        end = threading.Event()

        def read() -> None:
            while not end.is_set():
                message = listener.poll(0.1)
                if message is not None and message.error() is None:
                    arrivals(json.loads(message.value()))

        thread = threading.Thread(target=read)
        thread.start()

        def publish() -> None:
            publisher.produce(topic, json.dumps(DATA))
            publisher.flush(10)

        yield publish
        end.set()
        thread.join()
        listener.close()

    return run


RAW = {
    "mqtt": raw_mqtt,
    "nats": raw_nats,
    "redis": raw_redis,
    "amqp": raw_amqp,
    "kafka": raw_kafka,
}


def throughput(contestant: Any, messages: int) -> float:
    """Messages per second from the first publish to the last callback."""
    arrivals = Arrivals()
    with contestant(arrivals) as publish:
        arrivals.expect(1)
        publish()
        arrivals.wait()
        arrivals.expect(messages)
        begun = time.perf_counter()
        if hasattr(publish, "many"):
            publish.many(messages)
        else:
            for _ in range(messages):
                publish()
        arrivals.wait()
        return messages / (time.perf_counter() - begun)


def latency(contestant: Any, messages: int) -> List[float]:
    """Seconds from the call of publish to the callback, one message at a time."""
    arrivals, found = Arrivals(), []
    with contestant(arrivals) as publish:
        for _ in range(messages):
            arrivals.expect(1)
            begun = time.perf_counter()
            publish()
            arrivals.wait()
            found.append(time.perf_counter() - begun)
    return found


class Echo(Producer):
    def produce_dispatcher_output(self, topic: str, number: int) -> int:
        return number


HOST = """
import sys
sys.path[:0] = sys.argv[3:]
from ate_dispatcher.bridge import AgentHost
from bus import Echo
with AgentHost(sys.argv[1], name=sys.argv[2]) as host:
    for number in range(5):
        host.add(Echo(name=f"{sys.argv[2]}-{number}"), "t")
    sys.stdin.read()
"""


def scatter(dispatcher: ATEDispatcher, requests: int) -> List[float]:
    """Seconds that each request to all agents takes."""
    found = []
    for number in range(requests):
        begun = time.perf_counter()
        request = dispatcher.send_request("t", number, ttl=20_000).gather()
        found.append(time.perf_counter() - begun)
        assert len(request.values) == 20, request.outcomes
    return found


def local_scatter(requests: int) -> List[float]:
    with ATEDispatcher() as dispatcher:
        for number in range(20):
            dispatcher.add(Echo(name=f"local-{number}"), "t")
        return scatter(dispatcher, requests)


def bridge_scatter(url: str, requests: int) -> List[float]:
    paths = [str(ROOT), str(ROOT / "tests"), str(ROOT / "benchmarks")]
    hosts = [f"rack{number}" for number in range(4)]
    processes = [
        subprocess.Popen([sys.executable, "-c", HOST, url, name, *paths], stdin=subprocess.PIPE)
        for name in hosts
    ]
    try:
        with ATEDispatcher() as dispatcher, Bridge(dispatcher, url) as bridge:
            names = [f"{name}-{number}" for name in hosts for number in range(5)]
            if not bridge.wait_for(*names, timeout=60):
                raise RuntimeError(f"only {sorted(bridge.agents)} were found")
            scatter(dispatcher, 3)
            return scatter(dispatcher, requests)
    finally:
        for process in processes:
            assert process.stdin is not None
            process.stdin.close()
            process.wait()


def percentile(times: List[float], share: float) -> float:
    return sorted(times)[min(len(times) - 1, int(len(times) * share))] * 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--messages", type=int, default=1000)
    parser.add_argument("--only", nargs="*", default=NAMES, choices=NAMES)
    arguments = parser.parse_args()
    print("| bus | per second | raw client | ratio | p50, p99 (ms) | raw client |")
    print("|---|---:|---:|---:|---:|---:|")
    bridged: Dict[str, List[float]] = {}
    for name in arguments.only:
        with BROKERS[name]() as broker:
            mine, raw = ours(broker), RAW[name](broker)
            rates: Dict[Any, List[float]] = {mine: [], raw: []}
            times: Dict[Any, List[float]] = {mine: [], raw: []}
            for _ in range(arguments.runs):
                for contestant in (mine, raw):
                    rates[contestant].append(throughput(contestant, arguments.messages))
                    times[contestant] += latency(contestant, max(20, arguments.messages // 10))
            ratio = statistics.median(m / r for m, r in zip(rates[mine], rates[raw]))
            cells = [
                name,
                f"{statistics.median(rates[mine]):.0f}",
                f"{statistics.median(rates[raw]):.0f}",
                f"{ratio:.2f}, {'reached' if ratio >= 0.8 else 'missed (0.8)'}",
                *(
                    f"{percentile(times[c], 0.5):.2f}, {percentile(times[c], 0.99):.2f}"
                    for c in (mine, raw)
                ),
            ]
            print(f"| {' | '.join(cells)} |", flush=True)
            bridged[name] = bridge_scatter(broker.url, max(20, arguments.messages // 5))
    print("\n| 20 agents in 4 processes over | requests per second | p50, p99 (ms) |")
    print("|---|---:|---:|")
    bridged = {"nothing: one process": local_scatter(arguments.messages), **bridged}
    for name, found in bridged.items():
        rate = len(found) / sum(found)
        p50, p99 = percentile(found, 0.5), percentile(found, 0.99)
        print(f"| {name} | {rate:.0f} | {p50:.2f}, {p99:.2f} |")


if __name__ == "__main__":
    main()
