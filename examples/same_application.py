"""One application, any bus: what changes is the URL.

python same_application.py memory://bench
python same_application.py mqtt://127.0.0.1
python same_application.py kafka://127.0.0.1:9092
"""

import sys

from ate_dispatcher.application import DistributionApplication, Message, SocketProviderFactory

url = sys.argv[1] if len(sys.argv) > 1 else "memory://bench"
app = DistributionApplication(SocketProviderFactory.from_url(url), name="bench")


@app.application("bench.voltage", state={"limit": 5.02})
def check(message, socket, state):
    socket.reply(message, "pass" if message.payload <= state["limit"] else "fail")


@app.producer()
def measure(socket, state):
    for volts in (5.01, 5.03):
        verdict = socket.request(Message(volts, "bench.voltage"), timeout=10)
        print(f"{volts} V: {verdict.payload}")
    app.stop()


if __name__ == "__main__":
    app.start()
