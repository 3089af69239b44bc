"""A station in one process, driven from another over its control socket.

    python examples/remote_station.py

The script starts itself once more as the station. A real one runs for weeks; whoever wants to know
something of it connects, also from a shell: ``ate-dispatcher ctl station.sock send voltage 2``.
"""

import json
import os
import subprocess
import sys
import tempfile

from ate_dispatcher import ATEDispatcher, TopicFilter
from ate_dispatcher.control import SocketClient, SocketServer
from ate_dispatcher.sse import ChannelContainer, ChannelFeed, SSEChannel


def station(path):
    """Measure for whoever asks, until somebody says stop."""
    container, everything = ChannelContainer(), SSEChannel(channel_id="outcomes")
    container.register(everything)
    with ATEDispatcher() as dispatcher:
        for site in range(2):

            @dispatcher.producer("voltage", name=f"dmm{site}", site=site)
            def measure(topic, channel=0, site=site):
                return 5.0 + site + channel / 10

        dispatcher.add(ChannelFeed(everything), TopicFilter("#"))
        server = SocketServer(path, container=container, dispatcher=dispatcher)
        server.open()
        print("ready", flush=True)
        server.main()


def visitor(path):
    """Watch what everybody does there, and do something."""
    client = SocketClient(path)
    with client.watch("outcomes") as watching:
        with client.send_request("voltage", 2, ttl=5000) as stream:
            rows = {row["producer"]: row for row in stream if row["event"] == "outcome"}
        for name in sorted(rows):
            print(name, rows[name]["status"], rows[name]["value"])
        seen = [json.loads(next(watching))["event"] for _ in range(3)]
        print("seen by the watcher:", *seen)
    with client.with_options(sites=[1]).send_request("voltage", ttl=5000) as stream:
        print("site 1 alone:", next(stream)["value"])
    print("stopped:", client.stop()["finished"])


if __name__ == "__main__":
    if len(sys.argv) > 1:
        station(sys.argv[1])
    else:
        with tempfile.TemporaryDirectory() as folder:
            place = os.path.join(folder, "station.sock")
            command = [sys.executable, __file__, place]
            with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
                try:
                    process.stdout.readline()  # it is ready
                    visitor(place)
                    process.wait(30)
                finally:
                    process.kill()
        print("the station has ended with", process.returncode)
