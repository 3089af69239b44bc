"""Everything beside one dispatcher: a recorder, an event stream, a status channel and a bridge.

    python examples/whole_station.py [mqtt://127.0.0.1]

The instruments sit in "rack2", which would be another machine; here it is another part of this
script, so that it runs anywhere.
"""

import json
import sys
import tempfile
import threading
from pathlib import Path

from ate_dispatcher import ATEDispatcher, Outcome, Producer, ResultListener, TopicFilter
from ate_dispatcher.bridge import AgentHost, Bridge
from ate_dispatcher.channels import Channels
from ate_dispatcher.record import JSONLinesRecorder, read
from ate_dispatcher.sse import ChannelFeed, SSEChannel, parse_events

URL = sys.argv[1] if len(sys.argv) > 1 else "memory://floor"
EVERYTHING = TopicFilter("#")


class Dmm(Producer):
    """An instrument in rack2."""

    def produce_dispatcher_output(self, topic, channel):
        return 5.0 + channel


class Status(ResultListener):
    """Tells the whole floor, over a channel, how each request has ended."""

    def __init__(self, channels):
        super().__init__(name="status")
        self.channels = channels

    def process_dispatcher_end(self, request):
        said = {"topic": request.topic, "status": request.status.value}
        self.channels.publish("station7", "done", said)


def main(folder):
    recording = folder / "run.jsonl"
    told, enough = [], threading.Event()

    def hear(channel, event, data):
        told.append(f"{channel} {event}: {data['topic']} {data['status']}")
        if len(told) == 2:
            enough.set()

    rack2 = AgentHost(URL, name="rack2")
    rack2.add(Dmm(name="dmm0"), "voltage")
    with rack2, Channels(URL, namespace="floor") as board, Channels(URL, namespace="floor") as own:
        board.register("station7", "*", hear)
        with ATEDispatcher() as dispatcher, Bridge(dispatcher, URL) as bridge:
            live = SSEChannel()
            for listener in (JSONLinesRecorder(recording), ChannelFeed(live), Status(own)):
                dispatcher.add(listener, EVERYTHING)
            with live.watch_events() as stream:  # a page in a browser would read these bytes
                bridge.wait_for("dmm0", timeout=30)
                for channel in (1, 2):
                    dispatcher.send_request("voltage", channel).gather(30)
                dispatcher.flush(30)
                chunks = b"".join(next(stream) for _ in range(5))  # an id, and two events for each
        if not enough.wait(30):
            sys.exit(f"the board heard only of {told}")

    values = [event.value for event in read(recording) if isinstance(event, Outcome)]
    rows = [json.loads(event.data) for event in parse_events(chunks)]
    print("recorded:", *values)
    print("streamed:", *(row["event"] for row in rows))
    print("told:", *told, sep="\n  ")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        main(Path(name))
