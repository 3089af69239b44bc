"""Recordings of what a dispatcher told its listeners, and playing them back.

::

    pure rules      _values  _rows  _cells  _numbers
    what is read    _events
    files           _append_file  _jsonlines  _csv  _sqlite  _formats
    what users hold _recorder  _replay  _commands

One event is one row, the same fields in every format. Rows are only ever appended, so that whatever
ends the process leaves a recording that can be read.
"""

from ._events import Gap, RecordedOutcome, RecordedRequest
from ._formats import read
from ._recorder import CSVRecorder, JSONLinesRecorder, Recorder, SQLiteRecorder
from ._replay import ReplayReport, replay
from ._values import Unserialised

__all__ = [
    "CSVRecorder",
    "Gap",
    "JSONLinesRecorder",
    "RecordedOutcome",
    "RecordedRequest",
    "Recorder",
    "ReplayReport",
    "SQLiteRecorder",
    "Unserialised",
    "read",
    "replay",
]
