"""The bus without a broker: URLs, topics, JSON, the registry, the documented helpers, PubSub."""

from __future__ import annotations

import logging
import queue
import sys
from types import SimpleNamespace

import pytest

from ate_dispatcher import (
    BusURLError,
    InvalidArgumentError,
    InvalidTypeError,
    MissingExtraError,
    NotJSONError,
    StateError,
    TopicFilter,
    UndecodableMessageError,
    UnknownSchemeError,
)
from ate_dispatcher._codec import decode, encode
from ate_dispatcher.bus import Distributer, drivers, drivers_at_hand
from ate_dispatcher.bus._driver import Driver
from ate_dispatcher.bus._grammar import (
    Spelling,
    first_match,
    is_exact,
    speller,
    words_of_filter,
    words_of_topic,
)
from ate_dispatcher.bus._registry import OURS, driver_class
from ate_dispatcher.bus._url import BusURL, choice, flag, seconds, text, whole

try:
    from hypothesis import given, settings, strategies
except ImportError:  # an extra
    given = None

BOUND = 60.0
SECRET = "s3cret-word"


@pytest.fixture
def bus(request):
    """A connected bus of this test alone."""
    with Distributer(f"memory://{request.node.name.replace('[', '-').replace(']', '')}") as bus:
        yield bus


class Basket(queue.Queue):
    """A callback that keeps what it is given."""

    def __call__(self, *arguments):
        self.put(arguments[0] if len(arguments) == 1 else arguments)

    def take(self, count):
        return [self.get(timeout=BOUND) for _ in range(count)]


# ---- URLs ----------------------------------------------------------------------------------------


def test_a_url_in_its_parts():
    """URLs: every part is decoded; the scheme is lower case, the path keeps its slash."""
    url = BusURL("AMQP://m%40e:p%3A%2F@one:1,[::1]:2,three/v%2Fhost?a=1&b=")
    assert (url.scheme, url.user, url.password) == ("amqp", "m@e", "p:/")
    assert url.hosts == (("one", 1), ("::1", 2), ("three", None))
    assert url.path == "/v/host"
    assert url.query == {"a": "1", "b": ""}
    assert str(url) == "amqp://m@e:***@one:1,[::1]:2,three/v/host"


@pytest.mark.parametrize(
    ("url", "hosts"),
    [
        ("memory://", ()),
        ("x:///dir", ()),
        ("x://h", (("h", None),)),
        ("x://h:65535", (("h", 65535),)),
        ("x://h:1\n", (("h", 1),)),
    ],
)
def test_hosts(url, hosts):
    """URLs: host and port may be absent; the end of a line that it was read from does no harm."""
    assert BusURL(url).hosts == hosts


@pytest.mark.parametrize(
    ("url", "why"),
    [
        (None, "must be a string, not NoneType"),
        ("", "needs a scheme"),
        ("localhost", "needs a scheme.*'localhost'"),
        ("://x", "needs a scheme"),
        ("x://h#part", "no part behind '#'"),
        ("x://@h", "an '@' without a user"),
        ("x://:1", "a port but no host"),
        ("x://h,:1", "a port but no host"),
        ("x://h:0", "from 1 to 65535"),
        ("x://h:65536", "from 1 to 65535"),
        ("x://h:+1", "from 1 to 65535"),
        ("x://h:1_0", "from 1 to 65535"),
        ("x://h:\u0661", "from 1 to 65535"),
        ("x://[::1", "cannot be read"),
        ("x://a\nb", "cannot be read"),
        ("x://h?a=1&a=2", "'a' is given twice"),
    ],
)
def test_urls_that_cannot_be_read(url, why):
    """URLs: each mistake has its own sentence."""
    with pytest.raises(BusURLError, match=why):
        BusURL(url)


@pytest.mark.parametrize(
    "url",
    [
        f"me:{SECRET}@host",
        f"x://me:{SECRET}@h:port",
        f"x://me:{SECRET}@[::1",
        f"x://me:{SECRET}:1@h:0",
        f"x://me:{SECRET}@h#x",
        f"x://me:{SECRET}/@h",
        f"nosuch://me:{SECRET}@h",
        f"memory://me:{SECRET}@h?wrong=1",
    ],
)
def test_no_error_repeats_a_password(url):
    """Secrets: whatever is wrong with a URL, the message and what caused it are silent about it."""
    with pytest.raises(BusURLError) as caught:
        Distributer(url)
    error = caught.value
    while error is not None:
        assert SECRET not in f"{error} {error!r}"
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def test_no_repr_shows_a_password():
    """Secrets: neither the URL, nor the distributer, nor an error of its driver."""
    with Distributer(f"memory://me:{SECRET}@bench") as bus:
        driver = bus._driver()
        shown = [repr(bus), bus.url, str(driver.url), repr(driver.url), repr(driver)]
        shown.append(str(driver.failed("connecting", OSError(f"bad login me:{SECRET}"))))
        shown.append(str(driver.unsupported("count")))
    assert not any(SECRET in one for one in shown), shown
    assert "me:***@bench" in shown[0]


def test_one_place():
    """URLs: a broker with one host has defaults, and refuses two."""
    assert BusURL("x://").place(7) == ("127.0.0.1", 7)
    assert BusURL("x://h").place(7) == ("h", 7)
    assert BusURL("x://h:1").place(7) == ("h", 1)
    with pytest.raises(BusURLError, match="names one host, not 2"):
        BusURL("x://a,b").place(7)


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        (text, {"a": "a"}, [""]),
        (whole(2), {"2": 2, "30": 30}, ["1", "-3", "+3", "2.0", "", "\u0663"]),
        (seconds, {"0.5": 0.5, "1e2": 100.0}, ["0", "-1", "inf", "nan", "x", ""]),
        (flag, {"1": True, "Yes": True, "off": False}, ["", "2", "maybe"]),
        (choice("a", "b"), {"a": "a"}, ["", "A", "c"]),
    ],
)
def test_kinds_of_options(kind, good, bad):
    """Options: each kind reads what is meant and refuses the rest, naming the option."""
    for written, value in good.items():
        assert BusURL(f"x://?o={written}").options({"o": kind}) == {"o": value}
    for written in bad:
        with pytest.raises(BusURLError, match=r"the option 'o' of x:// must"):
            BusURL(f"x://?o={written.replace('+', '%2B')}").options({"o": kind})


def test_an_option_that_is_unknown():
    """Options: the nearest name is given, or all of them."""
    with pytest.raises(BusURLError, match="no option 'timout': did you mean 'timeout'"):
        Distributer("memory://x?timout=1")
    with pytest.raises(BusURLError, match="no option 'q': it knows timeout"):
        Distributer("memory://x?q=1")


# ---- topics --------------------------------------------------------------------------------------

SPELLINGS = {
    "mqtt": Spelling("/", "+", "#", forbidden="+#\0", first="$"),
    "nats": Spelling(".", "*", ">", forbidden="*> \t\r\n"),
    "kafka": Spelling(
        ".",
        escape="_",
        allowed="abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-",
    ),
}
ODD = ("v1.2", "a b", "ü€𝄞", "50%", "%41", "$SYS", "_", "a_41", ">", "a/b", "\t", "%", "-")


@pytest.mark.parametrize("name", SPELLINGS)
def test_every_word_comes_back(name):
    """Spelling: what is written is legal for the broker, and is read as the same words."""
    spelling = SPELLINGS[name]
    for word in ODD:
        for words in ((word,), ("a", word), (word, "b", word)):
            written = spelling.topic(words)
            assert spelling.words(written) == words
            assert written.count(spelling.separator) == len(words) - 1
    assert len({spelling.topic((word,)) for word in ODD}) == len(ODD)


if given is not None:
    WORD = strategies.text(
        strategies.characters(exclude_categories=("Cs",), exclude_characters="\0"), min_size=1
    )

    @given(words=strategies.lists(WORD, min_size=1, max_size=4).map(tuple))
    @settings(deadline=None, database=None, max_examples=200)
    def test_any_words_come_back(words):
        """Spelling: the same for words that nobody thought of."""
        for spelling in SPELLINGS.values():
            assert spelling.words(spelling.topic(words)) == words


def test_filters_are_written_with_the_broker_s_wildcards():
    """Spelling: wildcards become the broker's, everything else is encoded as in topics."""
    pattern = TopicFilter("$a/+/b c/*/#")
    assert SPELLINGS["mqtt"].filter(pattern) == "%24a/+/b c/+/#"
    assert SPELLINGS["nats"].filter(pattern) == "$a.*.b%20c.*.>"
    assert SPELLINGS["kafka"].filter(pattern) == "_24a.*.b_20c.*.#"


def test_topics_that_no_driver_has_written():
    """Spelling: strangers' names give words all the same, bad encodings too."""
    assert SPELLINGS["mqtt"].words("a/%zz/%FF") == ("a", "%zz", "\ufffd")


@pytest.mark.parametrize("topic", ["a.*", "a.b+", "#", "a..b", ".a", "a/", "", "a\0", "\udc00"])
def test_topics_that_cannot_be_published_to(topic):
    """Topics: no wildcards, no empty words, no half characters."""
    with pytest.raises(InvalidArgumentError):
        words_of_topic(topic)


def test_words_and_filters():
    """Topics: either separator; exactness; the first filter that matches; the reader's spelling."""
    assert words_of_topic("a/b.c") == ("a", "b.c")
    assert words_of_filter("a.+").words == ("a", "+")
    with pytest.raises(InvalidTypeError, match="must be a string, not int"):
        words_of_topic(1)
    with pytest.raises(InvalidArgumentError, match="no empty words"):
        words_of_filter("a..#")
    assert [is_exact(TopicFilter(one)) for one in ("a.b", "a.+", "*", "a.#")] == [True] + [
        False
    ] * 3
    filters = [TopicFilter("a.*"), TopicFilter("a.#")]
    assert [first_match(filters, words) for words in (("a", "b"), ("a",), ("b",))] == [0, 1, -1]
    assert speller(TopicFilter("a/*"))(("a", "b")) == "a/b"
    assert speller(TopicFilter("a.*"))(("a", "b")) == "a.b"
    assert speller(TopicFilter("#"))(("a", "v1.2")) == "a/v1.2"


# ---- JSON ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "path"),
    [
        ({"a": [1, {"b": {1, 2}}]}, r"data\['a'\]\[1\]\['b'\] is of type set"),
        ([0, float("nan")], r"data\[1\] is no number that JSON knows: nan"),
        (float("inf"), "data is no number"),
        ({"a": {1: 2}}, r"data\['a'\] has a key of type int.*: 1"),
        ([b"x"], r"data\[0\] is of type bytes"),
        (([],), None),
    ],
)
def test_the_path_of_what_is_no_json(data, path):
    """JSON: the error names the path, the type and the value; tuples are lists."""
    if path is None:
        assert decode(encode(data)) == [[]]
        return
    with pytest.raises(NotJSONError, match=path):
        encode(data)


def test_data_that_contains_itself_or_is_huge_to_show():
    """JSON: neither hangs; a long value is cut in the message."""
    loop = []
    loop.append(loop)
    with pytest.raises(NotJSONError, match="contains itself"):
        encode(loop)
    with pytest.raises(NotJSONError) as caught:
        encode({"a": b"x" * 10_000})
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize("payload", [b"", b"{", b"\xff", b"NaN", b"[" * 100_000, b"'a'"])
def test_what_is_no_json_from_outside(payload):
    """JSON: told with its size and its beginning."""
    with pytest.raises(UndecodableMessageError, match=f"a message of {len(payload)} bytes"):
        decode(payload)


# ---- the registry --------------------------------------------------------------------------------


@pytest.fixture
def under_drivers(monkeypatch, tmp_path):
    """Put files under ``drivers/``, for this test alone."""
    monkeypatch.setattr(drivers, "__path__", [*drivers.__path__, str(tmp_path)])
    before = set(sys.modules)

    def put(name, source):
        (tmp_path / f"{name}.py").write_text(source)

    yield put
    for name in set(sys.modules) - before:
        if name.startswith(f"{drivers.__name__}."):
            del sys.modules[name]
            vars(drivers).pop(name.rpartition(".")[2], None)


SOURCE = """
from ate_dispatcher.bus._driver import Driver
class Carrier(Driver):
    scheme = "pigeon carrierpigeon"
    def publish(self, words, payload): ...
    def subscribe(self, filters, group, inbox): return lambda: None
"""


def test_the_nearest_scheme():
    """Registry: an unknown scheme is told with the nearest, or with all."""
    with pytest.raises(
        UnknownSchemeError, match=r"no driver for memry:// URLs: did you mean memory"
    ):
        Distributer("memry://x")
    with pytest.raises(UnknownSchemeError, match=r"no driver for zzz:// URLs: there are memory, "):
        Distributer("zzz://x")


def test_a_driver_put_under_drivers(under_drivers):
    """Registry: a file named as its scheme is enough."""
    under_drivers("pigeon", SOURCE)
    with Distributer("pigeon://loft") as bus:
        bus.publish(1, "a")
        assert type(bus._driver()).__name__ == "Carrier"


def test_a_file_under_drivers_whose_own_import_fails(under_drivers):
    """Registry: its error is not taken for "no such driver"."""
    under_drivers("pigeon", "import no_such_loft")
    with pytest.raises(ModuleNotFoundError, match="no_such_loft"):
        Distributer("pigeon://loft")


def test_a_missing_client_library(under_drivers, monkeypatch):
    """Registry: the message is the command that installs it, and other drivers are untouched."""
    under_drivers("pigeon", "import feathers.wings\n" + SOURCE)
    monkeypatch.setitem(OURS, "pigeon", ("pigeon", "Carrier", "birds"))
    monkeypatch.setitem(sys.modules, "feathers", None)
    monkeypatch.setitem(sys.modules, "feathers.wings", None)
    with pytest.raises(
        MissingExtraError, match=r'needs feathers.*: pip install "ate-dispatcher\[birds\]"'
    ):
        Distributer("pigeon://loft")
    assert issubclass(driver_class(BusURL("memory://")), Driver)


@pytest.fixture
def entry_point(monkeypatch, tmp_path):
    """Install a package that brings a driver: a module and its metadata."""

    def install(source, target="otherbus:Carrier"):
        (tmp_path / "otherbus.py").write_text(source)
        metadata = tmp_path / "otherbus-1.0.dist-info"
        metadata.mkdir()
        (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: otherbus\nVersion: 1.0\n")
        (metadata / "entry_points.txt").write_text(f"[ate_dispatcher.drivers]\npigeon = {target}\n")
        monkeypatch.syspath_prepend(str(tmp_path))

    yield install
    sys.modules.pop("otherbus", None)


def test_a_driver_of_another_package(entry_point):
    """Registry: an entry point is found, listed, and offered as the nearest name."""
    entry_point(SOURCE)
    assert drivers_at_hand() == (*OURS, "pigeon")
    with Distributer("pigeon://loft") as bus:
        bus.publish(1, "a")
    with pytest.raises(UnknownSchemeError, match="did you mean pigeon"):
        Distributer("pigeons://loft")


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ("class Carrier: scheme = 'pigeon'", "is no subclass of Driver"),
        (SOURCE.replace("pigeon carrierpigeon", "hawk"), "but its scheme is 'hawk'"),
    ],
)
def test_a_driver_that_is_none(entry_point, source, why):
    """Registry: what an entry point names must be a driver of that scheme."""
    entry_point(source)
    with pytest.raises(BusURLError, match=why):
        Distributer("pigeon://loft")


# ---- the documented helpers ----------------------------------------------------------------------

USER = {"id": 42, "name": "Dan"}
SNAPSHOT = {"datetime": 0, "pose": {"x": 0}, "color_image": "", "feelings": None, "other": 1}


def test_publish_user_and_server(bus):
    """Helpers: a user goes to `user` with its metadata, by either name."""
    basket = Basket()
    bus.subscribe(basket, "#", with_topic=True)
    bus.publish_user(USER)
    bus.publish_server(USER)
    expected = {"metadata": {"user_id": 42, "topic": "user"}, "data": USER}
    assert basket.take(2) == [(expected, "user")] * 2


@pytest.mark.parametrize("helper", ["publish_raw_snapshot", "publish_server"])
def test_publish_raw_snapshot(bus, helper):
    """Helpers: every part that is there, falsy ones too, goes to `raw.<part>`; others are left."""
    basket = Basket()
    bus.subscribe(basket, "#", with_topic=True)
    getattr(bus, helper)({"user": {"id": 0}, "snapshot": SNAPSHOT})
    bus.publish("fence", "fence")
    parts = ("pose", "color_image", "feelings")
    assert basket.take(4) == [
        *(
            (
                {
                    "metadata": {"user_id": 0, "datetime": 0, "topic": part},
                    "data": SNAPSHOT[part],
                },
                f"raw.{part}",
            )
            for part in parts
        ),
        ("fence", "fence"),
    ]


@pytest.mark.parametrize(
    ("data", "error", "why"),
    [
        ({}, InvalidArgumentError, "the mapping is empty; a user has 'id'"),
        ({"user": USER}, InvalidArgumentError, "the message has no 'snapshot', only user$"),
        ({"user": {}, "snapshot": {}}, InvalidArgumentError, "the user has no 'id', it is empty$"),
        ({"id": None}, InvalidArgumentError, "the user has no 'id', it is None$"),
        (
            {"user": {"id": None}, "snapshot": SNAPSHOT},
            InvalidArgumentError,
            "the user has no 'id', it is None$",
        ),
        (
            {"user": USER, "snapshot": {**SNAPSHOT, "datetime": None}},
            InvalidArgumentError,
            "the snapshot has no 'datetime', it is None$",
        ),
        ({"name": "Dan"}, InvalidArgumentError, "the user has no 'id', only name"),
        ({"snapshot": {"datetime": 1}}, InvalidArgumentError, "the message has no 'user'"),
        ({"user": {}, "snapshot": SNAPSHOT}, InvalidArgumentError, "the user has no 'id'"),
        ({"user": USER, "snapshot": {"pose": 1}}, InvalidArgumentError, "no 'datetime', only pose"),
        ({"user": 1, "snapshot": SNAPSHOT}, InvalidTypeError, "a user must be a mapping, not int"),
        ({"user": USER, "snapshot": 1}, InvalidTypeError, "a snapshot must be a mapping, not int"),
        ([], InvalidTypeError, "a user must be a mapping, not list"),
    ],
)
def test_what_is_neither_user_nor_snapshot(bus, data, error, why):
    """Helpers: the error says what is missing, and nothing is published."""
    basket = Basket()
    bus.subscribe(basket, "#")
    with pytest.raises(error, match=why):
        bus.publish_server(data)
    bus.publish("fence", "fence")
    assert basket.take(1) == ["fence"]


def test_raw_and_parsed_topics(bus):
    """Helpers: `raw.` and `parsed.` are put before, the group is passed on as a group."""
    raw, parsed = Basket(), Basket()
    assert bus.subscribe_raw_topic(raw, "pose").topics == ("raw.pose",)
    shared = [bus.subscribe_parsed_topic(parsed, "pose", "g") for _ in range(2)]
    assert {(own.topics, own.group) for own in shared} == {(("parsed.pose",), "g")}
    assert bus.subscribe_raw_topic(raw, "pose", subscriber_group="g").group == "g"
    bus.publish_parsed_topic(0, "pose")
    bus.publish(1, "raw.pose")
    bus.publish_parsed_topic(2, "pose")
    assert raw.take(2) == [1, 1]
    assert sorted(parsed.take(2)) == [0, 2]
    for own in shared:
        own.cancel()
    assert parsed.empty()


def test_closing_may_wait_for_ever(bus):
    """Life: infinity is longer than the platform can wait, and means the same as None."""
    one, other = bus.subscribe(print, "a"), bus.subscribe(print, "a")
    assert one.cancel(float("inf"))
    bus.close(float("inf"))
    assert other.join(float("inf"))


# ---- PubSub --------------------------------------------------------------------------------------


def test_a_protocol(bus):
    """PubSub: messages go through it both ways; one that lacks a verb is refused."""
    protocol = SimpleNamespace(encode=lambda data: {"v": data}, decode=lambda data: data["v"])
    basket, plain, pubsub = Basket(), Basket(), bus.pubsub(protocol)
    assert pubsub.protocol is protocol
    pubsub.add_client(basket)
    pubsub.subscribe("a")
    bus.subscribe(plain, "a")
    pubsub.publish("a", 0)
    assert basket.take(1) == [("a", 0)]
    assert plain.take(1) == [{"v": 0}]
    with pytest.raises(InvalidTypeError, match=r"needs the method decode\(\)"):
        bus.pubsub(SimpleNamespace(encode=str))


def test_a_client_that_raises_stays(bus, caplog):
    """PubSub: it is logged, the other clients are called, and the next message reaches it again."""
    basket, pubsub = Basket(), bus.pubsub()

    def bad(channel, message):
        basket("bad", message)
        raise KeyError(message)

    pubsub.add_client(bad)
    pubsub.add_client(basket)
    pubsub.subscribe("a")
    with caplog.at_level(logging.ERROR, "ate_dispatcher"):
        for number in range(2):
            pubsub.publish("a", number)
        assert basket.take(4) == [("bad", 0), ("a", 0), ("bad", 1), ("a", 1)]
    assert sum("a client of channel 'a' raised" in line for line in caplog.messages) == 2


def test_twice_is_once(bus):
    """PubSub: clients added and channels followed twice bring a message once."""
    basket, pubsub = Basket(), bus.pubsub()
    for _ in range(2):
        pubsub.add_client(basket)
        pubsub.subscribe("a", "a")
    pubsub.publish("a", 1)
    pubsub.publish("a", 2)
    assert basket.take(2) == [("a", 1), ("a", 2)]
    assert pubsub.count("a") == {"a": 1}


def test_unsubscribing_and_removing(bus):
    """PubSub: a channel, a pattern, all of them; what was never followed is no error."""
    basket, pubsub = Basket(), bus.pubsub()
    pubsub.add_client(basket)
    pubsub.subscribe("a", "b", "end")
    pubsub.psubscribe("c*")
    pubsub.unsubscribe("a", "never")
    pubsub.punsubscribe("c*", "never*")
    for channel in ("a", "c1", "b"):
        pubsub.publish(channel, 1)
    assert basket.take(1) == [("b", 1)]
    pubsub.unsubscribe()
    assert bus.pubsub().channels() == ()
    pubsub.subscribe("end")
    pubsub.remove_client(basket)
    pubsub.remove_client(basket)
    other = Basket()
    pubsub.add_client(other)
    pubsub.publish("end", 1)
    assert other.take(1) == [("end", 1)]
    assert basket.empty()


def test_events(bus):
    """PubSub: an event is a mapping with its channel; falsy data is data, absent data is absent."""
    basket, pubsub = Basket(), bus.pubsub()
    pubsub.add_client(lambda channel, message: basket(message))
    pubsub.subscribe("a")
    pubsub.publish_event("a", "begun", None)
    pubsub.publish_event("a", "ended")
    assert basket.take(2) == [
        {"event": "begun", "channel": "a", "data": None},
        {"event": "ended", "channel": "a"},
    ]
    for wrong in ("", None, 1):
        with pytest.raises(InvalidArgumentError, match="an event must be a non-empty string"):
            pubsub.publish_event("a", wrong)


def test_a_closed_handler(bus):
    """PubSub: closing ends its subscriptions, not the bus; twice is once; following then raises."""
    pubsub = bus.pubsub()
    pubsub.subscribe("a")
    pubsub.psubscribe("b*")
    pubsub.close()
    pubsub.close()
    assert not bus._subscriptions
    with pytest.raises(StateError, match="is closed"):
        pubsub.subscribe("a")
    bus.publish(1, "a")
    with pytest.raises(InvalidTypeError, match="a client must be callable"):
        pubsub.add_client(1)


def test_a_closed_handler_publishes_nothing(bus):
    """As it follows nothing more; the bus stays open."""
    handler = bus.pubsub()
    handler.close()
    with pytest.raises(StateError, match="handler is closed"):
        handler.publish("a", 1)
    with pytest.raises(StateError, match="handler is closed"):
        handler.publish_event("a", "e")
    bus.publish(1, "a")
