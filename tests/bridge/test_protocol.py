"""What bridges and agent hosts say to each other: made, and checked when it comes in."""

from __future__ import annotations

import pytest

from ate_dispatcher import InvalidArgumentError, TopicFilter
from ate_dispatcher.bridge._protocol import (
    ANSWERS,
    StrangeMessage,
    Topics,
    agent_record,
    message,
    read,
    subjects,
)

HEX = "0123456789abcdef"


def agent(**fields):
    """Describe a good agent, but for what is given."""
    return {
        "name": "dmm",
        "kind": "producer",
        "topics": ["dc"],
        "filters": [],
        "site": None,
        **fields,
    }


GOOD = {
    "agents": {"host": "bench", "id": HEX, "every": 1.5, "now": 7, "agents": [agent()]},
    "leave": {"id": HEX},
    "discover": {},
    "refused": {"agent": "dmm", "reason": "its name is taken"},
    "request": {
        "id": "1",
        "reply": HEX,
        "agent": "dmm",
        "topic": "dc",
        "args": [1],
        "kwargs": {"range": 2},
        "ttl": 500.0,
        "until": None,
    },
    "cancel": {"id": "1"},
    "event": {"agent": "log", "outcome": {}},
    "partial": {"id": "1", "seq": 0},
    "value": {"id": "1", "seq": 0},
    "error": {"id": "1", "seq": 0, "type": "ValueError", "text": "no signal"},
    "rejected": {"id": "1", "seq": 0, "text": "full"},
    "expired": {"id": "1", "seq": 0},
}


def good(kind, **fields):
    return message(kind, **{**GOOD[kind], **fields})


def why(data, *kinds):
    """Give what is said of a message that is refused."""
    with pytest.raises(StrangeMessage) as caught:
        read(data, *kinds)
    return str(caught.value)


# ---- topics --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("namespace", "topics"),
    [
        ("ate", ("ate.agents", "ate.discover", "ate.host.7", "ate.bridge.7")),
        ("a.b", ("a.b.agents", "a.b.discover", "a.b.host.7", "a.b.bridge.7")),
        ("a/b.c", ("a/b.c/agents", "a/b.c/discover", "a/b.c/host/7", "a/b.c/bridge/7")),
    ],
)
def test_the_topics_of_a_namespace(namespace, topics):
    """Below it, separated as it is."""
    own = Topics(namespace)
    assert (own.agents, own.discover, own.host("7"), own.bridge("7")) == topics


@pytest.mark.parametrize("namespace", [" ", " . ", " / ", "\t"])
def test_a_namespace_has_letters(namespace):
    """Nothing but spaces is a slip."""
    with pytest.raises(InvalidArgumentError) as caught:
        Topics(namespace)
    assert str(caught.value) == f"a namespace must be a topic, not {namespace!r}"


@pytest.mark.parametrize("namespace", ["", "a.*", "a..b", ".a"])
def test_a_namespace_can_be_published_to(namespace):
    """It is refused in the words of the bus."""
    with pytest.raises(InvalidArgumentError, match=r"^a topic"):
        Topics(namespace)


# ---- messages ------------------------------------------------------------------------------------


def test_a_message_has_its_version_its_kind_and_its_fields():
    """As one object."""
    assert message("cancel", id="1") == {"v": 1, "kind": "cancel", "id": "1"}


@pytest.mark.parametrize("kind", sorted(GOOD))
def test_a_good_message_is_read_as_it_is(kind):
    """With fields of later versions, which are nobody's business."""
    for data in (
        good(kind),
        good(kind, later=[{}]),
        *([good(kind, reply=5)] * (kind != "request")),
    ):
        assert read(data, "other", kind) == (kind, data)


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        ("agents", {"agents": []}),
        ("agents", {"agents": [agent(site=0), agent(site="left", kind="listener")]}),
        ("agents", {"agents": [agent(topics=[], filters=["#"])]}),
        ("agents", {"now": -1e300, "every": 0.001}),
        ("agents", {"every": 1}),
        ("agents", {"every": 999_999.9}),
        ("request", {"ttl": None, "until": 1e300}),
        ("request", {"reply": "f"}),
        ("request", {"reply": "0" * 64}),
    ],
)
def test_what_a_message_may_say(kind, fields):
    """The ends of each range are in it."""
    assert read(good(kind, **fields), kind) == (kind, good(kind, **fields))


@pytest.mark.parametrize("kind", sorted(GOOD))
def test_a_message_without_a_field_is_refused(kind):
    """It says which one is missing."""
    for name in GOOD[kind]:
        data = good(kind)
        del data[name]
        assert why(data, kind) == f"{kind} has no {name!r}"


@pytest.mark.parametrize("kind", sorted(GOOD))
def test_a_field_of_another_type_is_refused(kind):
    """A truth value is no number, and a number that no float holds is none of ours."""
    for name, value in GOOD[kind].items():
        others = [True, b"x", 1.5 if isinstance(value, (str, list, dict)) else "x"]
        if not isinstance(value, (int, float, type(None))):
            others.append(None)
        if isinstance(value, (int, float, type(None))):
            others += [float("inf"), 1.1e300, -1.1e300]
        for other in others:
            assert why(good(kind, **{name: other}), kind) == (
                f"{kind}: {name!r} must not be {other!r}"
            )


def test_a_whole_number_beyond_every_float_is_refused():
    """Long values are cut in the message, to sixty characters."""
    assert why(good("value", seq=10**400), "value") == (
        "value: 'seq' must not be 1" + "0" * 56 + "..."
    )
    for digits in (60, 59):
        assert why(message("x" * (digits - 2)), "value") == (
            f"kind {'x' * (digits - 2)!r} is none of value"
        )
    assert why(message("x" * 59), "value") == "kind '" + "x" * 56 + "... is none of value"


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (None, "a message must be an object, not NoneType"),
        ([1], "a message must be an object, not list"),
        ({}, "version None is not ours, which is 1"),
        ({"v": 2, "kind": "leave"}, "version 2 is not ours, which is 1"),
        ({"v": "1", "kind": "leave"}, "version '1' is not ours, which is 1"),
        ({"v": 1}, "kind None is none of leave, discover"),
        ({"v": 1, "kind": []}, "kind [] is none of leave, discover"),
        ({"v": 1, "kind": "request"}, "kind 'request' is none of leave, discover"),
    ],
)
def test_what_is_no_message_for_us(data, said):
    """No object, of another version, or of a kind that others hear."""
    assert why(data, "leave", "discover") == said


@pytest.mark.parametrize("every", [0, -1.5, 1e6, 2e6])
def test_heartbeats_have_an_interval(every):
    """Between nothing and eleven days."""
    assert why(good("agents", every=every), "agents") == f"every {every!r} is no interval"


@pytest.mark.parametrize("identifier", ["", "0" * 65, "g", "A", "X", "ate.agents", "a/#"])
@pytest.mark.parametrize(
    ("kind", "field"), [("agents", "id"), ("leave", "id"), ("request", "reply")]
)
def test_where_an_answer_goes_is_only_what_we_make(kind, field, identifier):
    """It becomes part of a topic: hexadecimal digits, sixty-four of them at most."""
    shown = repr(identifier) if len(identifier) < 60 else "'" + "0" * 56 + "..."
    data = good(kind, **{field: identifier})
    assert why(data, kind) == f"{shown} is no identifier of ours"


def test_all_answers_have_a_number():
    """A bridge puts them in order by it, whatever they are."""
    for kind in ANSWERS:
        assert why(message(kind, id="1"), kind) == f"{kind} has no 'seq'"


# ---- agents --------------------------------------------------------------------------------------


def test_the_description_of_an_agent_comes_back():
    """Topics and filters apart, each in its order."""
    topics = ("dc", TopicFilter("site.*"), "ac", TopicFilter("#"))
    record = agent_record("dmm", "producer", 2, topics)
    assert record == {
        "name": "dmm",
        "kind": "producer",
        "site": 2,
        "topics": ["dc", "ac"],
        "filters": ["site.*", "#"],
    }
    assert subjects(record) == [TopicFilter("site.*"), TopicFilter("#"), "dc", "ac"]
    assert read(good("agents", agents=[record]), "agents")


@pytest.mark.parametrize(
    ("record", "said"),
    [
        ("dmm", "an agent must be an object"),
        ({**agent(), "name": 3}, "agent: 'name' must not be 3"),
        ({"name": "dmm"}, "agent has no 'kind'"),
        (agent(site=1.5), "agent: 'site' must not be 1.5"),
        (
            agent(filters=["#.a"]),
            "agent: a filter cannot be read: '#' must be the last word of a filter: '#.a'",
        ),
        (
            agent(filters=[3]),
            "agent: a filter cannot be read: a topic must be a string, not int: 3",
        ),
        (agent(topics=[""]), "agent: '' is no topic"),
        (agent(topics=["dc", 3]), "agent: 3 is no topic"),
        *(
            (record, f"agent: {repr(record)[:57]}... is none")
            for record in (agent(kind="bridge"), agent(name=""), agent(topics=[]))
        ),
    ],
)
def test_an_agent_that_cannot_be_is_refused(record, said):
    """Whichever of those that are announced it is; a name, a kind and a subject are needed."""
    assert why(good("agents", agents=[agent(), record]), "agents") == said
