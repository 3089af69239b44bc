"""What became of one producer's part in one request."""

from __future__ import annotations

from traceback import format_exception
from types import SimpleNamespace

import pytest

from ate_dispatcher import Outcome, OutcomeStatus, Phase, RequestStatus
from ate_dispatcher._address import Address
from ate_dispatcher._options import Options
from ate_dispatcher._outcomes import NO_TAGS, CopiedOutcome, Failure, Partial, StreamEnd

DMM = Address("dmm", 2)
KINDS = (Outcome, CopiedOutcome, StreamEnd, Partial)


def request(options=None):
    """As much of a request as an outcome takes over."""
    return SimpleNamespace(topic="dc.voltage", sent=10.0, queued=10.5, _options=options)


def failure(**given):
    """Make a failure that is nothing special but in what is given."""
    fields = {"status": OutcomeStatus.ERROR, "reason": "no signal", **given}
    return Failure(request(), DMM, **fields)


def raised(error):
    """Give an exception as a producer raised it, with its traceback."""
    try:
        raise error
    except type(error) as caught:
        return caught


# ---- the words -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        (RequestStatus, "OPEN COMPLETE EXPIRED CANCELLED SATISFIED NO_PRODUCERS STOPPED"),
        (OutcomeStatus, "OK PARTIAL ERROR TIMEOUT CANCELLED REJECTED NOT_NEEDED"),
    ],
)
def test_a_status_is_its_own_word(kind, names):
    """What is written to a file is what stands in the code."""
    assert [status.name for status in kind] == names.split()
    assert all(status.value == status.name for status in kind)


def test_a_phase_is_worded_for_people():
    """It stands in messages as it is."""
    assert {phase.name: phase.value for phase in Phase} == {
        "NOT_STARTED": "not started",
        "QUEUED": "queued",
        "RESOURCE": "waiting for a resource",
        "RUNNING": "running",
    }


# ---- a plain answer ------------------------------------------------------------------------------


def test_an_outcome_takes_over_what_was_asked():
    """Topic and stamps of the request, name and site of the producer, and its own."""
    asked = request()
    outcome = Outcome(asked, DMM, 5.0, 11.0, 12.0)
    assert (outcome.topic, outcome.sent, outcome.queued) == ("dc.voltage", 10.0, 10.5)
    assert (outcome.producer, outcome.site) == ("dmm", 2)
    assert (outcome.value, outcome.started, outcome.ended) == (5.0, 11.0, 12.0)
    assert outcome._request is asked
    assert outcome._address is DMM


@pytest.mark.parametrize(
    ("kind", "status", "streamed"),
    [
        (Outcome, OutcomeStatus.OK, False),
        (CopiedOutcome, OutcomeStatus.OK, False),
        (StreamEnd, OutcomeStatus.OK, True),
        (Partial, OutcomeStatus.PARTIAL, False),
    ],
)
def test_an_answer_has_nothing_to_explain(kind, status, streamed):
    """No exception, no reason, no phase; the class alone says what it is."""
    outcome = kind(request(), DMM, 5.0, 11.0, 12.0)
    assert (outcome.status, outcome.streamed) == (status, streamed)
    assert (outcome.exception, outcome.reason, outcome.traceback) == (None, "", "")
    assert (outcome.phase, outcome.since) == (None, None)


@pytest.mark.parametrize("kind", [*KINDS, Failure])
def test_outcomes_are_kept_small(kind):
    """There may be very many: no dict, and no attribute that is none."""
    assert "__slots__" in vars(kind)
    assert not hasattr(kind.__new__(kind), "__dict__")


def test_tags_are_those_of_the_request():
    """Without options there are none, and always the same none."""
    assert Outcome(request(), DMM, 1, None, None).tags is NO_TAGS
    assert NO_TAGS == {}
    options = Options(tags={"lot": 7})
    assert Outcome(request(options), DMM, 1, None, None).tags is options.tags


# ---- a failure -----------------------------------------------------------------------------------


def test_a_failure_has_no_value_and_says_why():
    """What is not given is None; the rest is a plain outcome's."""
    outcome = failure()
    assert (outcome.status, outcome.reason) == (OutcomeStatus.ERROR, "no signal")
    assert outcome.value is None
    assert (outcome.started, outcome.ended) == (None, None)
    assert (outcome.exception, outcome.phase, outcome.since) == (None, None, None)
    assert outcome.streamed is False
    assert (outcome.topic, outcome.producer) == ("dc.voltage", "dmm")


def test_a_failure_keeps_everything_in_its_place():
    """Each field by itself, also when given by position."""
    error = ValueError("no signal")
    outcome = Failure(
        request(), DMM, OutcomeStatus.TIMEOUT, "why", 1.0, 2.0, error, Phase.RUNNING, 3.0
    )
    assert (outcome.status, outcome.reason) == (OutcomeStatus.TIMEOUT, "why")
    assert (outcome.started, outcome.ended, outcome.since) == (1.0, 2.0, 3.0)
    assert outcome.exception is error
    assert outcome.phase is Phase.RUNNING


def test_a_traceback_is_text():
    """From the raise to the message, as the interpreter would print it."""
    error = raised(ValueError("no signal"))
    text = failure(exception=error).traceback
    assert text == "".join(format_exception(type(error), error, error.__traceback__))
    assert text.startswith("Traceback (most recent call last):\n")
    assert "raise error\n" in text
    assert text.endswith("ValueError: no signal\n")


def test_a_traceback_shows_the_cause_too():
    """An error raised from another one tells both."""
    error = RuntimeError("no reading")
    error.__cause__ = raised(ValueError("no signal"))
    text = failure(exception=raised(error)).traceback
    assert "ValueError: no signal\n" in text
    assert text.endswith("RuntimeError: no reading\n")


# ---- to write down -------------------------------------------------------------------------------


def test_an_answer_as_a_dict():
    """Every public field, in this order, status by name."""
    options = Options(tags={"lot": 7})
    outcome = Outcome(request(options), DMM, 5.0, 11.0, 12.0)
    found = outcome.as_dict()
    assert list(found.items()) == [
        ("topic", "dc.voltage"),
        ("producer", "dmm"),
        ("site", 2),
        ("status", "OK"),
        ("value", 5.0),
        ("exception", None),
        ("reason", ""),
        ("phase", None),
        ("tags", {"lot": 7}),
        ("sent", 10.0),
        ("queued", 10.5),
        ("started", 11.0),
        ("ended", 12.0),
    ]
    found["tags"]["lot"] = 8
    assert outcome.tags == {"lot": 7}


def test_a_failure_as_a_dict():
    """The phase by name as well, the exception as it is."""
    error = ValueError("no signal")
    found = failure(exception=error, phase=Phase.QUEUED, since=3.0).as_dict()
    assert found["status"] == "ERROR"
    assert found["exception"] is error
    assert found["reason"] == "no signal"
    assert found["phase"] == "queued"
    assert found["tags"] == {}


def test_an_outcome_shows_what_matters():
    """The value, or the reason, or else the exception."""
    error = ValueError("x")
    value = Outcome(request(), DMM, "5 V", None, None)
    assert repr(value) == "<Outcome OK 'dc.voltage' from 'dmm': '5 V'>"
    assert repr(failure()) == "<Outcome ERROR 'dc.voltage' from 'dmm': no signal>"
    reasoned = failure(exception=error)
    assert repr(reasoned) == "<Outcome ERROR 'dc.voltage' from 'dmm': no signal>"
    bare = failure(exception=error, reason="")
    assert repr(bare) == "<Outcome ERROR 'dc.voltage' from 'dmm': ValueError('x')>"


# ---- copies --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [Outcome, StreamEnd, Partial, CopiedOutcome])
@pytest.mark.parametrize("options", [None, Options(tags={"lot": 7})])
def test_without_copy_every_listener_gets_the_same(kind, options):
    """Nothing is copied that nobody asked to be."""
    outcome = kind(request(options), DMM, [1], 11.0, 12.0)
    assert outcome.copied() is outcome


def test_a_failure_is_never_copied():
    """It has no value that a listener could change."""
    outcome = Failure(request(Options(copy="deep")), DMM, OutcomeStatus.ERROR, "why")
    assert outcome.copied() is outcome


@pytest.mark.parametrize("kind", [CopiedOutcome, StreamEnd, Partial])
@pytest.mark.parametrize(("how", "inner_is_shared"), [("shallow", True), ("deep", False)])
def test_with_copy_every_listener_gets_a_value_of_its_own(kind, how, inner_is_shared):
    """All but the value is as it was, and the original is left alone."""
    value = [[1.0]]
    outcome = kind(request(Options(copy=how)), DMM, value, 11.0, 12.0)
    outcome._waited = (10.5, "waiting for resource 'GPIB0'")
    one, other = outcome.copied(), outcome.copied()
    assert type(one) is kind
    assert one is not outcome
    assert one.value is not other.value
    assert one.value == [[1.0]]
    assert one.value is not value
    assert (one.value[0] is value[0]) is inner_is_shared
    assert outcome.value is value
    for name in set(Outcome.__slots__) - {"value"}:
        assert getattr(one, name) is getattr(outcome, name)


def test_what_copying_raises_goes_through():
    """It is the listener's thread that asked; it is told like of any other error."""

    class Stubborn:
        def __copy__(self):
            raise OSError("not me")

    outcome = CopiedOutcome(request(Options(copy="shallow")), DMM, Stubborn(), None, None)
    with pytest.raises(OSError, match="not me"):
        outcome.copied()
