"""The shortest station: two instruments, one screen, one request."""

from ate_dispatcher import ATEDispatcher, Producer, ResultListener


class Dmm(Producer):
    def on_start(self):
        self.offset = 5.0  # open the instrument here: only this thread will use it

    def produce_dispatcher_output(self, topic, channel):
        return self.offset + channel / 100


class Screen(ResultListener):
    def process_dispatcher_result(self, topic, response):
        print(f"{topic}: {response:.2f} V")


with ATEDispatcher() as dispatcher:
    for name in ("dmm0", "dmm1"):
        dispatcher.add(Dmm(name=name), "voltage")
    dispatcher.add(Screen(), "voltage")

    request = dispatcher.send_request("voltage", 1, ttl=2000)  # milliseconds
    request.wait(delivered=True)  # until it has ended and every listener has had its results
    print(request.status.name, request.values, "missing:", request.missing)
