"""Which callbacks an event goes to, and what a namespace does to a name."""

from __future__ import annotations

import pytest

from ate_dispatcher.channels import Channel
from ate_dispatcher.channels._channel import prefixed


def channel(*registered):
    own = Channel("cells")
    for event, callback in registered:
        own._add(event, callback)
    return own


def names(own, event):
    return [callback for _, callback in own.callbacks(event)]


@pytest.mark.parametrize(
    ("pattern", "event", "fits"),
    [
        ("voltage", "voltage", True),
        ("voltage", "voltages", False),
        ("Voltage", "voltage", False),
        ("*", "anything.at all", True),
        ("volt*", "voltage", True),
        ("v?", "v1", True),
        ("v?", "v12", False),
        ("v[12]", "v2", True),
        ("v[12]", "v3", False),
        ("v[!12]", "v3", True),
        ("a.b", "axb", False),
        ("a+(b)$", "a+(b)$", True),
        ("a+(b)$", "aab", False),
        ("line", "line\n", False),
        ("*", "two\nlines", True),
    ],
)
def test_events_are_matched_by_glob(pattern, event, fits):
    """Events: `*`, `?`, `[ab]`; all else literal, old defect: pattern characters unescaped."""
    assert names(channel((pattern, print)), event) == ([print] if fits else [])


def test_registering_twice_is_once():
    """Events: one callback, one pattern, one call."""
    own = channel(("a", print), ("a", print), ("*", print))
    assert own.callbacks("a") == (("a", print), ("*", print))


def test_nothing_is_kept_of_a_pattern_that_has_left():
    """Events: a channel that lives long may see any number of them come and go."""
    kept = channel(("a", print))
    used = channel(("a", print), *((f"request.{number}", repr) for number in range(100)))
    for number in range(100):
        assert used._remove(f"request.{number}", repr)
    sizes = [{name: len(held) for name, held in vars(own).items() if isinstance(held, dict)}
             for own in (kept, used)]  # fmt: skip
    assert sizes[0] == sizes[1]


def test_removing():
    """Events: a pattern leaves with its last callback; what is not there is no error."""
    own = channel(("a", print), ("a", repr), ("b", print))
    assert own._remove("a", print)
    assert not own._remove("a", print)
    assert not own._remove("c", print)
    assert own.events == ("a", "b")
    assert own._remove("a", repr)
    assert own.events == ("b",)


def test_it_says_what_it_is():
    """Errors and logs: name and patterns."""
    assert str(channel()) == "cells"
    assert repr(channel(("a", print), ("b*", print))) == "<Channel 'cells', events: a, b*>"


@pytest.mark.parametrize(
    ("namespace", "name", "whole"),
    [
        ("", "cells", "cells"),
        ("rack", "cells", "rack.cells"),
        ("rack", "rack.cells", "rack.cells"),
        ("rack", "rack/cells", "rack/cells"),
        ("rack", "racks.cells", "rack.racks.cells"),
        ("rack", "rack", "rack.rack"),
        ("rack", "site/2", "rack/site/2"),
        ("lab.rack", "site/2", "lab/rack/site/2"),
        ("lab/rack", "cells", "lab/rack/cells"),
        ("lab/rack", "lab/rack/cells", "lab/rack/cells"),
        ("Rack", "rack.cells", "Rack.rack.cells"),
    ],
)
def test_a_namespace_only_where_absent(namespace, name, whole):
    """Names: by words, and never lower-cased."""
    assert prefixed(namespace, name) == whole
    assert prefixed(namespace, whole) == whole or name == namespace
