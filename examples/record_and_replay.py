"""Record a run to a file, then check its limits again from the file, without the instruments.

    python examples/record_and_replay.py [run.jsonl | run.csv | run.sqlite]

``ate-dispatcher show run.jsonl`` prints the file as a table.
"""

import sys

from ate_dispatcher import ATEDispatcher, Producer, ResultListener, TopicFilter
from ate_dispatcher.record import CSVRecorder, JSONLinesRecorder, SQLiteRecorder, replay

RECORDERS = {"csv": CSVRecorder, "jsonl": JSONLinesRecorder, "sqlite": SQLiteRecorder}


class Dmm(Producer):
    """A multimeter of one site; that of site 2 has lost its cable."""

    def produce_dispatcher_output(self, topic, channel):
        if self.name == "dmm2":
            raise ConnectionError("no answer from dmm2")
        return 4.9 + channel / 10


class Limits(ResultListener):
    """Counts what is within its limit. The limit came too late for the run."""

    def __init__(self, highest):
        super().__init__()
        self.highest = highest
        self.verdicts = []

    def process_dispatcher_outcome(self, outcome):
        good = outcome.status.name == "OK" and outcome.value <= self.highest
        self.verdicts.append((outcome.site, "pass" if good else "FAIL"))


def main(path="run.jsonl"):
    recorder = RECORDERS[path.rsplit(".", 1)[-1]](path, durable="event")
    with ATEDispatcher() as dispatcher:
        dispatcher.add(recorder, TopicFilter("#"))
        for site in range(3):
            dispatcher.add(Dmm(name=f"dmm{site}", site=site), "voltage")
        for channel in (1, 2):
            dispatcher.send_request("voltage", channel).wait(delivered=True)
    print(f"{recorder.recorded} events recorded, {recorder.lost} lost")

    for highest in (5.05, 5.2):
        limits = Limits(highest)
        report = replay(path, [limits])
        passed = [site for site, verdict in sorted(limits.verdicts) if verdict == "pass"]
        print(f"limit {highest}: {report.events} events, passed on sites {passed}")


if __name__ == "__main__":
    main(*sys.argv[1:])
