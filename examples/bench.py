"""A four-site bench over PyVISA, to copy: change the resources and the commands.

It runs on PyVISA-sim (pip install pyvisa pyvisa-sim); on a real bench take away BENCH and "@sim".
"""

import csv
import sys
import tempfile
from pathlib import Path

import pyvisa

from ate_dispatcher import ATEDispatcher, Producer, ResultListener, current_request

BENCH = """
spec: "1.1"
devices:
  dmm:
    eom: {TCPIP INSTR: {q: "\\n", r: "\\n"}}
    error: ERROR
    dialogues:
      - {q: "*IDN?", r: "Simulated DMM"}
      - {q: "MEAS:VOLT?", r: "5.003"}
      - {q: "MEAS:RES?", r: "119.84"}
resources:
"""
SITES = {site: f"TCPIP0::dmm{site}.example::inst0::INSTR" for site in range(4)}
COMMANDS = {"voltage": "MEAS:VOLT?", "resistance": "MEAS:RES?"}


class Dmm(Producer):
    """One multimeter. Its session is opened, used and closed on this thread alone."""

    def __init__(self, manager, resource, **options):
        super().__init__(**options)
        self.manager, self.resource = manager, resource

    def on_start(self):
        self.session = self.manager.open_resource(
            self.resource, read_termination="\n", write_termination="\n"
        )

    def on_stop(self):
        self.session.close()

    def produce_dispatcher_output(self, topic, settle=0.0):
        current_request().sleep(settle)
        current_request().check()  # nobody waits for it any more: do not touch the instrument
        return float(self.session.query(COMMANDS[topic]))


class Results(ResultListener):
    """Writes every outcome to a file, good or bad."""

    def __init__(self, path):
        super().__init__()
        self.file = open(path, "w", newline="")  # noqa: SIM115
        self.writer = csv.writer(self.file)

    def on_stop(self):
        self.file.close()

    def process_dispatcher_outcome(self, outcome):
        row = (outcome.site, outcome.topic, outcome.status.name, outcome.value, outcome.reason)
        self.writer.writerow(row)


def main(path="results.csv"):
    with tempfile.TemporaryDirectory() as folder:
        bench = Path(folder, "bench.yaml")
        bench.write_text(BENCH + "".join(f"  {r}: {{device: dmm}}\n" for r in SITES.values()))
        manager = pyvisa.ResourceManager(f"{bench}@sim")
        with ATEDispatcher() as dispatcher:
            dispatcher.add(Results(path), *COMMANDS)
            for site, resource in SITES.items():
                dmm = Dmm(manager, resource, name=f"dmm{site}", site=site)
                dispatcher.add(dmm, *COMMANDS)
            for topic in COMMANDS:
                request = dispatcher.send_request(topic, settle=0.01, ttl=5000).gather()
                print(topic, request.status.name, request.values)
            some = dispatcher.with_options(sites=[0, 2])
            print("sites 0 and 2:", some.send_request("voltage", ttl=5000).gather().values)
            slow = dispatcher.send_request("voltage", settle=10, ttl=50).gather()
            print(slow.status.name, "missing:", ", ".join(o.producer for o in slow.missing))
        manager.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
