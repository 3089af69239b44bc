"""Where a bus is and who we are there: configurations, URLs, and what is wrong with them."""

from __future__ import annotations

import pytest

from ate_dispatcher import (
    BusURLError,
    InvalidArgumentError,
    InvalidTypeError,
    UnknownSchemeError,
)
from ate_dispatcher.application import (
    BusConfig,
    KafkaConfig,
    MqttConfig,
    SocketProvider,
    SocketProviderFactory,
)
from ate_dispatcher.bus import BusURL

SECRET = "s3cret/@:?"


def test_mqtt_has_the_documented_fields():
    """The names of the document, and its defaults."""
    config = MqttConfig("10.0.0.5")
    assert (config.port, config.keepalive, config.retain) == (1883, 60, False)
    assert config.default_subscription_topics is config.client_id is config.username is None
    full = MqttConfig(
        host="h",
        port=1884,
        keepalive=5,
        qos=0,
        default_subscription_topics="a",
        client_id="me & you",
        username="rack 2",
        password=SECRET,
        retain=False,
    )
    url = BusURL(full.url)
    assert (url.hosts, url.user, url.password) == ((("h", 1884),), "rack 2", SECRET)
    assert url.query == {"qos": "0", "keepalive": "5", "client_id": "me & you"}
    assert BusURL(MqttConfig("::1").url).hosts == (("::1", 1883),)


def test_kafka_has_the_documented_fields():
    """The names of the document; servers as a list or as Kafka's users write them."""
    one = KafkaConfig(
        bootstrap_servers="a:1, b:2",
        default_subscription_topics=["t"],
        group_id="g",
        client_id="me",
    )
    assert BusURL(one.url).hosts == (("a", 1), ("b", 2))
    assert BusURL(one.url).query == {"client_id": "me"}
    assert KafkaConfig(["a:1", "b:2"]).url == "kafka://a:1,b:2"
    assert (one.group, KafkaConfig("a").group) == ("g", "")


@pytest.mark.parametrize(
    "config",
    [
        MqttConfig("h", username="u", password=SECRET),
        BusConfig("mqtt://u:s3cret%2F%40%3A%3F@h"),
    ],
)
def test_no_repr_has_the_password(config):
    """A configuration that is logged, or that a provider is made of, tells nothing."""
    pytest.importorskip("paho.mqtt.client")
    for shown in (repr(config), str(config), repr(SocketProviderFactory.from_config(config))):
        assert "s3cret" not in shown


@pytest.mark.parametrize(
    ("fields", "error", "says"),
    [
        ({"host": ""}, InvalidTypeError, "host"),
        ({"host": "mqtt://u:s3cret@h"}, InvalidArgumentError, "from_url"),
        ({"host": "h", "port": "1883"}, InvalidTypeError, "port"),
        ({"host": "h", "port": 0}, InvalidArgumentError, "port must be from 1"),
        ({"host": "h", "keepalive": 0}, InvalidArgumentError, "keepalive"),
        ({"host": "h", "keepalive": True}, InvalidTypeError, "keepalive"),
        ({"host": "h", "qos": 2}, InvalidArgumentError, "qos must be from 0 to 1"),
        ({"host": "h", "client_id": ""}, InvalidTypeError, "client_id"),
        ({"host": "h", "password": "s3cret"}, InvalidArgumentError, "needs a username"),
        ({"host": "h", "username": "u", "password": b"s3cret"}, InvalidTypeError, "password"),
        ({"host": "h", "retain": 1}, InvalidTypeError, "retain"),
        ({"host": "h", "default_subscription_topics": 7}, InvalidTypeError, "default_sub"),
        ({"host": "h", "default_subscription_topics": ["a..b"]}, InvalidArgumentError, "empty"),
        ({"bootstrap_servers": []}, InvalidTypeError, "bootstrap_servers"),
        ({"bootstrap_servers": "a:1,,b"}, InvalidTypeError, "bootstrap_servers"),
        ({"bootstrap_servers": "kafka://u:s3cret@a"}, InvalidArgumentError, "from_url"),
        ({"bootstrap_servers": "a", "group_id": 7}, InvalidTypeError, "group_id"),
        ({"url": "memory://x", "group": None}, InvalidTypeError, "group"),
        ({"url": "nonsense"}, BusURLError, "scheme"),
        ({"url": "memry://x"}, UnknownSchemeError, "memory"),
        ({"hosst": "h"}, InvalidArgumentError, "none is"),
        ({"host": "h", "prot": 1}, InvalidArgumentError, "did you mean 'port'"),
        ({"bootstrap_servers": "a", "qos": 1}, InvalidArgumentError, "KafkaConfig has no key"),
        ({"host": "h", "bootstrap_servers": "a"}, InvalidArgumentError, "contradicts itself"),
        ({"host": "h", "url": "memory://"}, InvalidArgumentError, "contradicts itself"),
        ({"host": "127.0.0.1:1883"}, InvalidArgumentError, "a port goes to port="),
    ],
)
def test_a_configuration_that_cannot_be_meant(fields, error, says):
    """Bad input, as a configuration file may hold it: told with key and reason, never a secret."""
    with pytest.raises(error, match=says) as caught:
        SocketProviderFactory.from_config(fields)
    assert "s3cret" not in str(caught.value)


def test_what_is_no_configuration():
    """Bad input: a URL goes elsewhere."""
    with pytest.raises(InvalidTypeError, match="MqttConfig, KafkaConfig or BusConfig"):
        SocketProviderFactory.from_config("memory://x")


def test_from_url():
    """Defect: it was not implemented. Our options stand beside the driver's."""
    provider = SocketProviderFactory.from_url("memory://x")
    assert isinstance(provider, SocketProvider)
    assert provider.config == BusConfig("memory://x")
    full = SocketProviderFactory.from_url(
        "memory://x?group=g%201&timeout=5&default_subscription_topics=a,b.%23"
    )
    assert full.config == BusConfig("memory://x?timeout=5", ["a", "b.#"], "g 1")
    assert SocketProviderFactory.from_url("memory://?group_id=g").config == BusConfig(
        "memory://", None, "g"
    )


@pytest.mark.parametrize(
    ("url", "error", "says"),
    [
        ("memory://x?retain=yes", BusURLError, "no option 'retain'"),
        (
            "memory://x?q=1",
            BusURLError,
            "it knows timeout, default_subscription_topics, group, group_id$",
        ),
        ("memory://x?grup=1", BusURLError, "did you mean 'group'"),
        ("memory://x?group=a&group_id=b", InvalidArgumentError, "the same"),
        ("memory://x?group=", InvalidArgumentError, "'group' of a bus URL must not be empty"),
        ("memory://x?group=a&group=b", BusURLError, "twice"),
        ("memory://x?default_subscription_topics=a,,b", InvalidArgumentError, "empty"),
        ("memory://x?timeout=0&group=g", BusURLError, "timeout"),
        ("nonsense", BusURLError, "scheme"),
        (7, BusURLError, "string"),
    ],
)
def test_a_url_that_cannot_be_meant(url, error, says):
    """Bad input: told when the provider is made, not when the application starts."""
    with pytest.raises(error, match=says):
        SocketProviderFactory.from_url(url)


def test_a_callback_that_cannot_be_called():
    """Bad input: a socket's callback."""
    with pytest.raises(InvalidTypeError, match="callback"):
        SocketProviderFactory.from_url("memory://x").socket("print")
