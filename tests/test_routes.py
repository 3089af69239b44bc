"""Who gets what: registrations, and the routes worked out from them."""

from __future__ import annotations

from typing import NamedTuple

import pytest

from ate_dispatcher import TopicFilter
from ate_dispatcher._address import Address
from ate_dispatcher._routes import EMPTY, Hooks, Route, Routes

RESULTS = Hooks(results=True, outcomes=False, ends=False)
OUTCOMES = Hooks(results=False, outcomes=True, ends=False)
ENDS = Hooks(results=False, outcomes=False, ends=True)
ALL = Hooks(results=True, outcomes=True, ends=True)


class Mailbox:
    """Where an address posts to; its bound ``put`` is what stands in a route."""

    def __init__(self, name):
        self.name = name

    def put(self, message):
        raise AssertionError("routes only say where to; they post nothing")


def agent(name):
    """Make an address with a mailbox of its own."""
    return Address(name, deliver=Mailbox(name).put)


def told(posts):
    """Name the mailboxes behind some posts, in order."""
    return [post.__self__.name for post in posts]


@pytest.fixture
def routes():
    return Routes()


A, B, C = agent("a"), agent("b"), agent("c")


# ---- one route -----------------------------------------------------------------------------------


def test_an_empty_route_leads_nowhere():
    """Every part is an empty tuple."""
    for route in (Route(), EMPTY):
        for part in Route.__slots__:
            assert getattr(route, part) == ()


def test_a_route_scatters_to_its_roster_in_order():
    """The mailboxes stand in the order of the addresses."""
    route = Route(iter([B, A, C]))
    assert route.roster == (B, A, C)
    assert told(route.scatter) == ["b", "a", "c"]
    assert (route.values, route.outcomes, route.ends) == ((), (), ())


@pytest.mark.parametrize(
    ("hooks", "parts"),
    [
        (RESULTS, {"values"}),
        (OUTCOMES, {"values", "outcomes"}),
        (ENDS, {"ends"}),
        (ALL, {"values", "outcomes", "ends"}),
    ],
)
def test_a_listener_is_woken_only_for_what_it_asked_for(hooks, parts):
    """Good values go to listeners of results and of outcomes, other outcomes only to the latter."""
    route = Route(listeners=iter([(A, hooks)]))
    for part in Route.__slots__:
        assert told(getattr(route, part)) == (["a"] if part in parts else [])


def test_listeners_hear_in_the_order_of_their_registration():
    """C6: the same in every part of the route."""
    route = Route(listeners=[(C, ALL), (A, ALL), (B, ALL)])
    for part in ("values", "outcomes", "ends"):
        assert told(getattr(route, part)) == ["c", "a", "b"]


# ---- registrations -------------------------------------------------------------------------------


def test_producers_of_a_topic_are_its_roster(routes):
    """In the order of their registration; other topics know nothing of it."""
    assert routes.add_producer(B, "t") is True
    assert routes.add_producer(A, "t") is True
    assert routes.add_producer(C, "other") is True
    assert routes.route("t").roster == (B, A)
    assert routes.route("other").roster == (C,)
    assert routes.route("nobody's") is EMPTY


def test_listeners_of_a_topic_hear_of_it(routes):
    """With the hooks they were registered with; a listener alone makes no roster."""
    assert routes.add_listener(A, "t", RESULTS) is True
    assert routes.add_listener(B, "t", ENDS) is True
    route = routes.route("t")
    assert told(route.values) == ["a"]
    assert told(route.ends) == ["b"]
    assert route.roster == ()


def test_registering_twice_is_once(routes):
    """C8: the second time changes nothing, neither order nor hooks."""
    routes.add_producer(A, "t")
    routes.add_producer(B, "t")
    routes.add_listener(C, "t", RESULTS)
    before = routes.route("t")
    assert routes.add_producer(A, "t") is False
    assert routes.add_listener(C, "t", ALL) is False
    assert routes.route("t") is before
    assert routes.subjects(A) == ("t",)


def test_a_registration_reaches_a_route_already_worked_out(routes):
    """The next request on that topic is scattered to everybody registered by then."""
    routes.add_producer(A, "t")
    assert routes.route("t").roster == (A,)
    routes.add_producer(B, "t")
    assert routes.route("t").roster == (A, B)
    routes.add_listener(C, "t", RESULTS)
    assert told(routes.route("t").values) == ["c"]
    routes.remove(A, "t")
    assert routes.route("t").roster == (B,)


def test_a_route_is_worked_out_once(routes):
    """And forgotten only when a registration touches its topic."""
    routes.add_producer(A, "t")
    routes.add_producer(A, "other")
    route, other = routes.route("t"), routes.route("other")
    assert routes.known == {"t": route, "other": other}
    assert routes.route("t") is route
    routes.add_producer(B, "other")
    assert routes.known == {"t": route}


def test_topics_of_nobody_are_not_remembered(routes):
    """C12: any number of them costs nothing."""
    routes.add_producer(A, "t")
    for number in range(100):
        assert routes.route(f"nobody's {number}") is EMPTY
    assert routes.known == {}


@pytest.mark.parametrize("subject", ["t", TopicFilter("t.#")])
def test_a_registration_is_taken_back_once(routes, subject):
    """What is not there cannot be removed: no error, only False."""
    routes.add_producer(A, subject)
    routes.add_listener(B, subject, ALL)
    assert routes.remove(C, subject) is False
    assert routes.remove(A, "never registered") is False
    assert routes.remove(A, subject) is True
    assert routes.remove(A, subject) is False
    route = routes.route("t")
    assert route.roster == ()
    assert told(route.values) == ["b"]
    assert routes.remove(B, subject) is True
    assert routes.route("t") is EMPTY


def test_taking_the_last_one_back_leaves_nothing(routes):
    """C12: no table keeps a topic, a filter or an agent that is gone."""
    left = {"_nobody", "_registrations"}  # a constant, and a counter
    fresh = {name: value for name, value in vars(Routes()).items() if name not in left}
    for subject in ("t", TopicFilter("t.*"), TopicFilter("#")):
        routes.add_producer(A, subject)
        routes.add_listener(B, subject, RESULTS)
    for subject in ("t", TopicFilter("t.*"), TopicFilter("#")):
        routes.remove(A, subject)
        routes.remove(B, subject)
    assert {name: value for name, value in vars(routes).items() if name not in left} == fresh


def test_what_an_agent_is_registered_with(routes):
    """In the order of registration, for the agents and for the subjects of one."""
    pattern = TopicFilter("t.*")
    assert routes.addresses() == ()
    routes.add_producer(B, "t")
    routes.add_listener(A, pattern, ALL)
    routes.add_producer(B, pattern)
    routes.add_producer(B, "a")
    assert routes.addresses() == (B, A)
    assert routes.subjects(B) == ("t", pattern, "a")
    assert routes.subjects(A) == (pattern,)
    assert routes.subjects(C) == ()
    routes.remove(B, "t")
    assert routes.subjects(B) == (pattern, "a")
    routes.remove(A, pattern)
    assert routes.addresses() == (B,)


# ---- filters -------------------------------------------------------------------------------------


def test_a_filter_reaches_every_topic_it_matches(routes):
    """With a registration of their own or without."""
    routes.add_producer(A, TopicFilter("site.*"))
    routes.add_listener(B, TopicFilter("#"), RESULTS)
    routes.add_producer(C, "site.0")
    assert set(routes.route("site.0").roster) == {A, C}
    assert routes.route("site.1").roster == (A,)
    assert routes.route("site/1").roster == (A,)
    assert routes.route("other").roster == ()
    assert told(routes.route("other").values) == ["b"]


def test_a_topic_that_no_filter_matches_leads_nowhere(routes):
    """It is as if nobody were registered."""
    routes.add_producer(A, TopicFilter("site.*"))
    assert routes.route("other") is EMPTY


def test_an_agent_reached_twice_is_asked_once(routes):
    """C2: a topic and two filters are still one row, and one event for a listener."""
    for subject in ("t.u", TopicFilter("t.*"), TopicFilter("#")):
        routes.add_producer(A, subject)
        routes.add_listener(B, subject, ALL)
    route = routes.route("t.u")
    assert route.roster == (A,)
    assert told(route.values) == told(route.outcomes) == told(route.ends) == ["b"]


def test_a_plain_topic_with_wildcards_is_no_filter(routes):
    """Only a `TopicFilter` is read as a pattern."""
    routes.add_producer(A, "t.*")
    assert routes.route("t.1") is EMPTY
    assert routes.route("t.*").roster == (A,)
    routes.add_producer(B, TopicFilter("t.*"))
    assert routes.route("t.1").roster == (B,)
    routes.remove(A, "t.*")
    assert routes.route("t.*").roster == (B,)


def test_a_filter_forgets_what_was_worked_out_before(routes):
    """It may match any topic, coming or going."""
    pattern = TopicFilter("t.*")
    routes.add_producer(A, "t.0")
    routes.add_listener(C, TopicFilter("#"), ENDS)
    assert routes.route("t.0").roster == (A,)
    assert routes.route("t.1").roster == ()
    routes.add_producer(B, pattern)
    assert routes.route("t.1").roster == (B,)
    assert set(routes.route("t.0").roster) == {A, B}
    routes.remove(B, pattern)
    assert routes.route("t.0").roster == (A,)
    assert routes.route("t.1").roster == ()


def test_a_filter_stays_while_anybody_is_registered_with_it(routes):
    """Whichever of the producer and the listener goes first."""
    pattern = TopicFilter("t.*")
    for gone, left in ((A, B), (B, A)):
        routes.add_producer(A, pattern)
        routes.add_listener(B, pattern, RESULTS)
        routes.remove(gone, pattern)
        route = routes.route("t.1")
        assert route.roster == ((A,) if left is A else ())
        assert told(route.values) == (["b"] if left is B else [])
        routes.remove(left, pattern)
        assert routes.route("t.1") is EMPTY


def test_a_filter_is_taken_back_in_any_spelling(routes):
    """Filters of the same words are the same subject."""
    routes.add_producer(A, TopicFilter("t.*"))
    assert routes.add_producer(A, TopicFilter("t/+")) is False
    assert routes.remove(A, TopicFilter("t/+")) is True
    assert routes.route("t.1") is EMPTY


def test_topics_matched_by_filters_alone_are_remembered_up_to_a_bound():
    """C12: then all is forgotten and worked out again, right as before."""
    routes = Routes(bound=3)
    routes.add_producer(A, TopicFilter("#"))
    routes.add_producer(B, "own")
    for _ in range(2):
        routes.route("own")
        for number in range(3):
            assert routes.route(f"t{number}").roster == (A,)
        assert set(routes.known) == {"own", "t0", "t1", "t2"}
        assert routes.route("t3").roster == (A,)
        assert set(routes.known) == {"t3"}
        routes.set_disabled(frozenset())
        assert routes.known == {}


def test_topics_with_a_registration_do_not_count_against_the_bound():
    """There are as many as there are registrations anyway."""
    routes = Routes(bound=1)
    routes.add_producer(A, TopicFilter("#"))
    for number in range(5):
        routes.add_producer(B, f"own{number}")
    for number in range(5):
        routes.route(f"own{number}")
    routes.route("matched")
    assert len(routes.known) == 6


def test_the_bound_by_default():
    """Sixteen thousand routes of topics that nobody registered."""
    routes = Routes()
    routes.add_listener(A, TopicFilter("#"), RESULTS)
    for number in range(16_384):
        routes.route(str(number))
    assert len(routes.known) == 16_384
    routes.route("one more")
    assert set(routes.known) == {"one more"}


def test_listeners_of_the_topic_itself_hear_first(routes):
    """Then those of filters, each filter in the order in which it was first registered with."""
    routes.add_listener(A, TopicFilter("#"), ALL)
    routes.add_listener(B, TopicFilter("t.*"), ALL)
    routes.add_listener(C, "t.u", ALL)
    route = routes.route("t.u")
    assert told(route.values) == told(route.outcomes) == told(route.ends) == ["c", "a", "b"]


# ---- what is registered --------------------------------------------------------------------------


def test_what_is_registered_is_listed_by_subject(routes):
    """Topics and filters, each with its producers and its listeners; a list of one's own."""
    pattern = TopicFilter("t.*")
    assert routes.registrations() == []
    routes.add_producer(A, "t")
    routes.add_producer(B, "t")
    routes.add_listener(C, "t", ALL)
    routes.add_listener(C, pattern, RESULTS)
    routes.add_producer(A, "u")
    listed = routes.registrations()
    assert listed == [("t", (A, B), (C,)), ("u", (A,), ()), (pattern, (), (C,))]
    routes.remove(A, "u")
    assert len(listed) == 3
    assert [subject for subject, _, _ in routes.registrations()] == ["t", pattern]


# ---- sites ---------------------------------------------------------------------------------------


def test_a_disabled_site_is_left_out_of_every_roster(routes):
    """Of routes worked out before, too, until it is enabled again; listeners hear as before."""
    left, right, none = (
        Address(name, site, deliver=Mailbox(name).put)
        for name, site in (("left", 0), ("right", "r"), ("none", None))
    )
    for address in (left, right, none):
        routes.add_producer(address, "t")
    routes.add_listener(agent("log"), "t", RESULTS)
    assert routes.route("t").roster == (left, right, none)
    routes.set_disabled(frozenset((0,)))
    assert routes.route("t").roster == (right, none)
    assert told(routes.route("t").scatter) == ["right", "none"]
    assert told(routes.route("t").values) == ["log"]
    routes.set_disabled(frozenset((0, "r")))
    assert routes.route("t").roster == (none,)
    routes.set_disabled(frozenset())
    assert routes.route("t").roster == (left, right, none)


# ---- any history ---------------------------------------------------------------------------------


class Registration(NamedTuple):
    """One row of the naive model."""

    address: Address
    subject: object
    hooks: object  # None for a producer


def expected(registrations, topic):
    """Work out by definition who gets what of a topic, as sets."""
    reached = [
        own
        for own in registrations
        if own.subject == topic
        or (isinstance(own.subject, TopicFilter) and own.subject.matches(topic))
    ]
    heard = [(own.address.name, own.hooks) for own in reached if own.hooks is not None]
    return {
        "roster": {own.address for own in reached if own.hooks is None},
        "scatter": {own.address.name for own in reached if own.hooks is None},
        "values": {name for name, hooks in heard if hooks.results or hooks.outcomes},
        "outcomes": {name for name, hooks in heard if hooks.outcomes},
        "ends": {name for name, hooks in heard if hooks.ends},
    }


def test_routes_agree_with_a_list_of_registrations():
    """Any history of registrations gives what the plain list of them gives, nobody twice."""
    pytest.importorskip("hypothesis", reason="property tests need hypothesis (extra dev)")
    from hypothesis import given, settings
    from hypothesis import strategies as st

    producers = {agent(f"p{number}"): None for number in range(2)}
    listeners = {agent(f"l{number}"): h for number, h in enumerate((RESULTS, OUTCOMES, ENDS))}
    hooks_of = {**producers, **listeners}
    topics = ("t", "t.u", "t.v", "u")
    subjects = (*topics[:3], *map(TopicFilter, ("t.*", "#", "t.#")))
    steps = st.lists(
        st.tuples(
            st.sampled_from(("add", "add", "remove", "look")),
            st.sampled_from(tuple(hooks_of)),
            st.sampled_from(subjects),
        ),
        max_size=25,
    )

    def compare(routes, model):
        for topic in topics:
            route = routes.route(topic)
            for part, right in expected(model, topic).items():
                found = getattr(route, part)
                found = list(found) if part == "roster" else told(found)
                assert len(found) == len(set(found))
                assert set(found) == right

    @settings(max_examples=75, deadline=None, database=None, derandomize=True)
    @given(steps)
    def agrees(steps):
        routes, model = Routes(bound=2), []
        for what, address, subject in steps:
            row = Registration(address, subject, hooks_of[address])
            if what == "add":
                new = row not in model
                if row.hooks is None:
                    assert routes.add_producer(address, subject) is new
                else:
                    assert routes.add_listener(address, subject, row.hooks) is new
                if new:
                    model.append(row)
            elif what == "remove":
                assert routes.remove(address, subject) is (row in model)
                if row in model:
                    model.remove(row)
            else:
                compare(routes, model)
            for address in hooks_of:
                own = tuple(row.subject for row in model if row.address is address)
                assert routes.subjects(address) == own
        compare(routes, model)
        assert set(routes.addresses()) == {row.address for row in model}

    agrees()


def test_a_second_registration_does_not_move_an_agent_back(routes):
    """It was there first by its topic, whatever filter it was registered with afterwards."""
    routes.add_producer(A, "t.u")
    routes.add_producer(B, "t.u")
    routes.add_producer(A, TopicFilter("#"))
    assert routes.route("t.u").roster == (A, B)


def test_a_roster_is_in_the_order_of_registration_whatever_matched():
    """Filters and plain topics alike: who was registered first stands first, and only once."""
    routes = Routes()
    first, second, third = (Address(name) for name in ("first", "second", "third"))
    routes.add_producer(first, TopicFilter("u.*"))
    routes.add_producer(second, "u.x")
    routes.add_producer(third, TopicFilter("#"))
    routes.add_producer(first, "u.x")
    assert routes.route("u.x").roster == (first, second, third)
