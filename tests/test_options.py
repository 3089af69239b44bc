"""What ``with_options`` was given: checked, selecting, copying, ending early."""

from __future__ import annotations

import pytest

from ate_dispatcher import InvalidArgumentError, InvalidTypeError, Outcome, OutcomeStatus
from ate_dispatcher._address import Address
from ate_dispatcher._ledger import Ledger
from ate_dispatcher._options import Options
from ate_dispatcher._outcomes import NO_TAGS, Failure, Partial, StreamEnd

A, B, C = Address("a", 0), Address("b", "left"), Address("c")
ROSTER = (A, B, C)


# ---- what is checked -----------------------------------------------------------------------------


def test_nothing_given_is_nothing_asked_for():
    """The defaults change nothing about a request."""
    options = Options()
    assert (options.to, options.sites, options.until, options.copy) == (None, None, None, None)
    assert options.tags is NO_TAGS


def test_options_are_kept_small():
    """No attribute but the five."""
    assert not hasattr(Options(), "__dict__")


@pytest.mark.parametrize(
    ("to", "names"),
    [
        ("dmm", ("dmm",)),
        (["b", "a"], ("b", "a")),
        (("a",), ("a",)),
        (iter(["a", "b"]), ("a", "b")),
        ([], ()),
    ],
)
def test_to_is_a_name_or_names(to, names):
    """A string is one name, never its letters; the order is kept."""
    assert Options(to=to).to == names


@pytest.mark.parametrize(
    ("to", "name"), [("", ""), (["a", ""], ""), ([None], None), (["a", A], A), (b"x", 120)]
)
def test_to_must_name_producers(to, name):
    """The message shows the one that is no name."""
    with pytest.raises(InvalidTypeError) as caught:
        Options(to=to)
    assert str(caught.value) == f"to must name producers, {name!r} is no name"


def test_sites_are_a_set():
    """Numbers and strings; an empty list is no site at all, not every one."""
    assert Options(sites=[0, "left", 0]).sites == frozenset((0, "left"))
    assert Options(sites=iter([2])).sites == frozenset((2,))
    assert Options(sites=[]).sites == frozenset()
    assert type(Options(sites=[0]).sites) is frozenset


def test_sites_are_not_a_string():
    """Its letters are not what was meant."""
    with pytest.raises(InvalidTypeError) as caught:
        Options(sites="left")
    assert str(caught.value) == "sites must be a list of sites, not the string 'left'"


@pytest.mark.parametrize("site", [True, None, 1.0, (0,), [0]])
def test_a_site_is_a_number_or_a_string(site):
    """A truth value is no site, and nothing unhashable gets through."""
    with pytest.raises(InvalidTypeError) as caught:
        Options(sites=[0, site])
    assert str(caught.value) == f"a site must be a number or a string, not {site!r}"


@pytest.mark.parametrize("what", ["to", "sites"])
def test_names_and_sites_are_lists(what):
    """What cannot be gone through is named, without the error of having tried."""
    with pytest.raises(InvalidTypeError) as caught:
        Options(**{what: 5})
    assert str(caught.value) == f"{what} must be a list, not 5"
    assert caught.value.__suppress_context__


@pytest.mark.parametrize("until", [1, 5, bool, lambda outcome: True])
def test_until_is_a_number_or_a_predicate(until):
    """It is kept as it is."""
    assert Options(until=until).until is until


@pytest.mark.parametrize("until", [True, False, 1.0, "1"])
def test_until_must_be_one_of_them(until):
    """A truth value is no number here."""
    with pytest.raises(InvalidTypeError) as caught:
        Options(until=until)
    assert str(caught.value) == (
        f"until must be a number of good answers or a predicate, not {until!r}"
    )


@pytest.mark.parametrize("until", [0, -1])
def test_until_must_wait_for_somebody(until):
    """No answers at all is no request."""
    with pytest.raises(InvalidArgumentError) as caught:
        Options(until=until)
    assert str(caught.value) == f"until must be at least 1, not {until}"


def test_tags_are_the_options_own():
    """What the caller does with his dict later changes no request."""
    given = {"lot": 7}
    options = Options(tags=given)
    given["lot"] = 8
    assert options.tags == {"lot": 7}
    assert Options(tags={}).tags == {}


@pytest.mark.parametrize("tags", [[("lot", 7)], "lot", 7])
def test_tags_must_be_a_mapping(tags):
    """Pairs are not guessed at."""
    with pytest.raises(InvalidTypeError) as caught:
        Options(tags=tags)
    assert str(caught.value) == f"tags must be a mapping, not {tags!r}"


@pytest.mark.parametrize("copy", ["Deep", "", True, 1])
def test_copy_must_be_a_known_word(copy):
    """The message names the words there are."""
    with pytest.raises(InvalidArgumentError) as caught:
        Options(copy=copy)
    assert str(caught.value) == f"copy must be 'shallow', 'deep' or None, not {copy!r}"


# ---- whom a request goes to ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "chosen", "absent"),
    [
        ({}, (A, B, C), ()),
        ({"to": "b"}, (B,), ()),
        ({"to": ["c", "a"]}, (A, C), ()),
        ({"to": ["y", "a", "x", "y"]}, (A,), ("y", "x")),
        ({"to": []}, (), ()),
        ({"sites": [0]}, (A,), ()),
        ({"sites": ["left", 0]}, (A, B), ()),
        ({"sites": [7]}, (), ()),
        ({"sites": []}, (), ()),
        ({"to": ["a", "b"], "sites": [0]}, (A,), ("b",)),
        ({"to": "c", "sites": [0]}, (), ("c",)),
    ],
)
def test_a_roster_is_narrowed(given, chosen, absent):
    """In the roster's order; who was asked for and is not there is named once, as asked."""
    assert Options(**given).select(ROSTER) == (chosen, absent)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({}, ""),
        ({"to": "a"}, "to='a'"),
        ({"to": ["b", "a"]}, "to='b', 'a'"),
        ({"sites": [2, 0]}, "sites=0, 2"),
        ({"sites": ["left", 0]}, "sites='left', 0"),
        ({"to": "a", "sites": [0]}, "to='a' and sites=0"),
        ({"until": 1, "tags": {"x": 1}, "copy": "deep"}, ""),
    ],
)
def test_whom_they_narrow_a_request_to_in_words(given, words):
    """Names as asked, sites sorted, for the reason of a request that met nobody."""
    assert Options(**given).describe() == words


# ---- copies --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("how", "same", "inner_is_same"),
    [(None, True, True), ("shallow", False, True), ("deep", False, False)],
)
def test_a_value_is_copied_as_asked_for(how, same, inner_is_same):
    """Not at all, its outside, or all of it."""
    value = [[1]]
    found = Options(copy=how).copy_value(value)
    assert found == value
    assert (found is value) is same
    assert (found[0] is value[0]) is inner_is_same


@pytest.mark.parametrize(
    ("how", "same", "inner_is_same"),
    [(None, True, True), ("shallow", False, True), ("deep", False, False)],
)
def test_each_argument_of_a_call_is_copied_as_asked_for(how, same, inner_is_same):
    """Those by position and those by name; the mapping itself is never the caller's."""
    args, kwargs = ([[1]], 2), {"ranges": [[3]], "n": 4}
    copied, named = Options(copy=how).copy_call(args, kwargs)
    assert (copied, named) == (args, kwargs)
    assert (copied is args) is same
    assert named is not kwargs
    for found, given in ((copied[0], args[0]), (named["ranges"], kwargs["ranges"])):
        assert (found is given) is same
        assert (found[0] is given[0]) is inner_is_same


@pytest.mark.parametrize("how", [None, "shallow", "deep"])
def test_a_call_without_keywords_has_none(how):
    """As a request keeps it."""
    assert Options(copy=how).copy_call((1,), {}) == ((1,), None)
    assert Options(copy=how).copy_call((), {}) == ((), None)


class Stubborn:
    """Cannot be copied."""

    def __copy__(self):
        raise OSError("not me")

    def __repr__(self):
        return "Stubborn()"


@pytest.mark.parametrize(("args", "kwargs"), [((Stubborn(),), {}), ((), {"x": Stubborn()})])
def test_an_argument_that_cannot_be_copied_is_named(args, kwargs):
    """At the call, with what its copying raised as the cause."""
    with pytest.raises(InvalidTypeError) as caught:
        Options(copy="shallow").copy_call(args, kwargs)
    assert str(caught.value) == "an argument cannot be copied (copy='shallow'): Stubborn()"
    assert type(caught.value.__cause__) is OSError


def test_a_value_that_cannot_be_copied_raises_its_own_error():
    """Whatever its copying raises goes through."""
    with pytest.raises(OSError, match="not me"):
        Options(copy="shallow").copy_value(Stubborn())


def test_what_is_no_error_is_not_reworded():
    """Ctrl-C in the middle of copying stays what it is."""

    class Interrupted:
        def __deepcopy__(self, memo):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Options(copy="deep").copy_call((Interrupted(),), {})


# ---- ending early --------------------------------------------------------------------------------


def answer(kind=Outcome, value=1):
    return kind(Ledger("t", 1000.0, 0.0), A, value, 1.0, 2.0)


def failure(status):
    return Failure(Ledger("t", 1000.0, 0.0), A, status, "why")


def test_without_until_there_is_no_rule():
    """A request then ends when all have answered."""
    assert Options().early_finish() is None


def test_a_number_counts_good_answers():
    """True at that one alone; the end of a stream is one, too."""
    rule = Options(until=2).early_finish()
    assert rule(answer()) is False
    assert rule(answer(StreamEnd)) is True
    assert rule(answer()) is False


def test_a_number_counts_nothing_but_good_answers():
    """Neither failures nor the values of a stream."""
    rule = Options(until=1).early_finish()
    for status in (OutcomeStatus.ERROR, OutcomeStatus.REJECTED, OutcomeStatus.TIMEOUT):
        assert rule(failure(status)) is False
    assert rule(answer(Partial)) is False
    assert rule(answer()) is True


def test_each_request_counts_for_itself():
    """Options are shared by all that is sent through them, the count is not."""
    options = Options(until=2)
    one, other = options.early_finish(), options.early_finish()
    assert one(answer()) is False
    assert other(answer()) is False
    assert one(answer()) is True
    assert options.until == 2


def test_a_predicate_is_asked_and_its_answer_taken_as_truth():
    """It is given the outcome itself; anything true ends the request."""
    asked = []

    def predicate(outcome):
        asked.append(outcome)
        return [0] if outcome.value else []

    rule = Options(until=predicate).early_finish()
    outcomes = [answer(value=0), answer(value=5)]
    assert [rule(outcome) for outcome in outcomes] == [False, True]
    assert asked == outcomes


def test_what_a_predicate_raises_goes_through():
    """Whoever asks it disables it."""
    rule = Options(until=lambda outcome: 1 / 0).early_finish()
    with pytest.raises(ZeroDivisionError):
        rule(answer())


def test_a_copy_that_is_no_word():
    """Bad input: told as our own error, whatever it is."""
    with pytest.raises(InvalidArgumentError, match=r"copy must be .* not \['deep'\]"):
        Options(copy=["deep"])
