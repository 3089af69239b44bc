"""The tree of errors, by whose fault it is."""

from __future__ import annotations

import inspect
import pickle
import re

import pytest

import ate_dispatcher
from ate_dispatcher import _exceptions

TREE = {
    "ATEDispatcherError": ("Exception", None),
    "UsageError": ("ATEDispatcherError", None),
    "InvalidArgumentError": ("UsageError", ValueError),
    "InvalidTypeError": ("UsageError", TypeError),
    "NameTakenError": ("InvalidArgumentError", ValueError),
    "StateError": ("UsageError", RuntimeError),
    "DeadlockError": ("UsageError", RuntimeError),
    "NoCurrentRequestError": ("UsageError", LookupError),
    "UnknownIdError": ("UsageError", LookupError),
    "RequestFailedError": ("ATEDispatcherError", None),
    "RequestExpiredError": ("RequestFailedError", TimeoutError),
    "RequestCancelledError": ("RequestFailedError", None),
    "NoProducersError": ("RequestFailedError", LookupError),
    "WaitTimeoutError": ("ATEDispatcherError", TimeoutError),
    "OverloadedError": ("ATEDispatcherError", TimeoutError),
    "WorkCalledOffError": ("ATEDispatcherError", None),
    "WorkExpiredError": ("WorkCalledOffError", TimeoutError),
    "WorkRejectedError": ("ATEDispatcherError", None),
    "CallbackError": ("ATEDispatcherError", None),
    "ProcessLostError": ("ATEDispatcherError", None),
    "SiteBarrierError": ("ATEDispatcherError", RuntimeError),
    "ResourceError": ("ATEDispatcherError", None),
    "ControlConnectionError": ("ATEDispatcherError", ConnectionError),
    "ControlTimeoutError": ("ControlConnectionError", TimeoutError),
    "StorageError": ("ATEDispatcherError", OSError),
    "RecordingError": ("ATEDispatcherError", OSError),
    "NotARecordingError": ("ATEDispatcherError", ValueError),
    "RecordedError": ("ATEDispatcherError", None),
    "MissingExtraError": ("ATEDispatcherError", ImportError),
    "BusError": ("ATEDispatcherError", None),
    "BusURLError": ("BusError", ValueError),
    "UnknownSchemeError": ("BusURLError", ValueError),
    "NotJSONError": ("BusError", TypeError),
    "PayloadTooLargeError": ("BusError", ValueError),
    "UndecodableMessageError": ("BusError", ValueError),
    "RemoteError": ("BusError", None),
    "NoReplyError": ("BusError", TimeoutError),
    "BusConnectionError": ("BusError", ConnectionError),
    "BusTimeoutError": ("BusConnectionError", TimeoutError),
    "UnsupportedByDriverError": ("BusError", NotImplementedError),
}
"""By name: the error it is a kind of, and the standard class a caller would already catch."""

STANDARD = (ValueError, TypeError, RuntimeError, LookupError, OSError, ImportError)
KEEPERS = [
    "RequestFailedError", "RequestExpiredError", "RequestCancelledError", "NoProducersError",
]  # fmt: skip


def test_the_tree_is_all_there_is():
    """Every error of the module stands in the tree, and in its ``__all__``."""
    defined = {
        name
        for name, kind in vars(_exceptions).items()
        if inspect.isclass(kind) and issubclass(kind, BaseException)
    }
    assert defined == set(TREE)
    assert sorted(_exceptions.__all__) == sorted(TREE)


@pytest.mark.parametrize("name", TREE)
def test_every_error_is_exported(name):
    """Whoever catches one finds it at the root of the package, under the name it shows."""
    assert name in ate_dispatcher.__all__
    assert getattr(ate_dispatcher, name) is getattr(_exceptions, name)
    assert getattr(_exceptions, name).__name__ == name


@pytest.mark.parametrize("name", TREE)
def test_every_error_is_a_kind_of_what_is_above_it(name):
    """And of one standard class at most: the one named in the tree."""
    kind = getattr(_exceptions, name)
    above, standard = TREE[name]
    assert kind.__bases__[0].__name__ == above
    assert issubclass(kind, _exceptions.ATEDispatcherError)
    assert standard is None or issubclass(kind, standard)
    for other in STANDARD:
        assert issubclass(kind, other) is (standard is not None and issubclass(standard, other))


def test_the_tree_is_drawn_as_it_is():
    """The docstring's drawing: indentation says what is above, brackets the standard class."""
    line_of = r"^(?P<indent>[ │]*)[├└]── (?P<name>\w+)(?: +\((?P<standard>\w+)\))?"
    drawn, path = {"ATEDispatcherError": ("Exception", None)}, ["ATEDispatcherError"]
    for match in re.finditer(line_of, _exceptions.__doc__, re.MULTILINE):
        depth = len(match["indent"]) // 4
        drawn[match["name"]] = (path[depth - 1], match["standard"])
        path[depth:] = [match["name"]]
    assert set(drawn) == set(TREE)
    for name, (above, standard) in TREE.items():
        assert drawn[name] == (above, standard and standard.__name__)


@pytest.mark.parametrize("name", sorted(set(TREE) - {*KEEPERS, "RemoteError", "RecordedError"}))
def test_an_error_says_what_it_was_told(name):
    """Those without a request are made of a message alone."""
    assert str(getattr(_exceptions, name)("the reason")) == "the reason"


class Ended:
    """As much of a request as the errors look at."""

    values = {"dmm": 1.5}
    failed = ("failed",)
    missing = ("missing",)


@pytest.mark.parametrize("name", KEEPERS)
def test_a_failed_request_stays_readable_through_its_error(name):
    """The good values are never lost with the bad ones."""
    request = Ended()
    error = getattr(_exceptions, name)("two did not answer", request)
    assert str(error) == "two did not answer"
    assert error.args == ("two did not answer",)
    assert error.request is request
    assert error.values is request.values
    assert error.failed is request.failed
    assert error.missing is request.missing


def test_a_remote_error_has_type_and_text():
    """It reads as if it had been raised here."""
    error = _exceptions.RemoteError("ValueError", "no signal")
    assert (str(error), error.type_name, error.text) == (
        "ValueError: no signal",
        "ValueError",
        "no signal",
    )
    assert str(_exceptions.RemoteError("KeyError", "")) == "KeyError"
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


def test_a_recorded_error_has_type_text_and_traceback():
    """It reads as if it had been raised here, and keeps where it was."""
    error = _exceptions.RecordedError("ValueError", "no signal", "Traceback: here")
    assert (str(error), error.type_name, error.text, error.traceback) == (
        "ValueError: no signal",
        "ValueError",
        "no signal",
        "Traceback: here",
    )
    assert str(_exceptions.RecordedError("KeyError", "")) == "KeyError"
    copy = pickle.loads(pickle.dumps(error))
    assert (str(copy), copy.traceback) == (str(error), error.traceback)
