"""A calibration service: stations ask for a channel's correction, and store new ones.

    python calibration_service.py [URL]

The service keeps its corrections in a database and counts, in its state, who has asked. Service
and station run in one process here; each would run as well on a machine of its own.
"""

import contextlib
import sqlite3
import sys

from ate_dispatcher import RemoteError
from ate_dispatcher.application import DistributionApplication, SocketProviderFactory


@contextlib.contextmanager
def database(path):
    """Open it on the thread that uses it, and close it there."""
    connection = sqlite3.connect(path)
    connection.execute("create table if not exists correction (channel primary key, gain, offset)")
    try:
        yield connection
    finally:
        connection.close()


url = sys.argv[1] if len(sys.argv) > 1 else "memory://lab"
app = DistributionApplication(SocketProviderFactory.from_url(url), name="lab")


@app.application(
    ["calibration.get", "calibration.put"], state={}, ressources={"db": database(":memory:")}
)
def calibration(message, socket, state, db):
    asked = message.payload
    if message.topic == "calibration.put":
        row = (asked["channel"], asked["gain"], asked["offset"])
        with db:  # a transaction
            db.execute("insert or replace into correction values (?, ?, ?)", row)
        socket.reply(message, "stored")
        return
    state[message.client_name] = state.get(message.client_name, 0) + 1
    row = db.execute("select gain, offset from correction where channel = ?", [asked]).fetchone()
    if row is None:
        raise LookupError(f"channel {asked} was never calibrated")  # the station is told
    gain, offset = row
    socket.reply(message, {"gain": gain, "offset": offset, "asked": state[message.client_name]})


@app.producer()
async def station(socket, state, message_builder):
    new = {"channel": 3, "gain": 1.002, "offset": -0.01}
    print((await socket.request(message_builder(new, "calibration.put"))).payload)
    answer = await socket.request(message_builder(3, "calibration.get"), timeout=5)
    reading = 5.0 * answer.payload["gain"] + answer.payload["offset"]
    print(f"channel 3: {reading:.3f} V, asked {answer.payload['asked']} times")
    try:
        await socket.request(message_builder(4, "calibration.get"), timeout=5)
    except RemoteError as error:
        print(error)
    app.stop()


if __name__ == "__main__":
    app.start()
