"""A driver that somebody else writes: by the README's half page, through an entry point."""

from __future__ import annotations

import queue
import re
import sys
from pathlib import Path

import pytest

from ate_dispatcher import (
    BusURLError,
    MissingExtraError,
    UnknownSchemeError,
    UnsupportedByDriverError,
)
from ate_dispatcher.bus import Distributer, drivers_at_hand

README = Path(__file__).resolve().parents[1] / "README.md"


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Install a package whose metadata names drivers: `package(scheme="module:Class")`."""
    text = README.read_text(encoding="utf-8")
    chapter = text.split("### Write a driver")[1]
    (code,) = re.findall(r"```python\n(.*?)```", chapter.split("\n## ")[0], re.DOTALL)
    (tmp_path / "their_package.py").write_text(code)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "their_package", raising=False)

    def install(**points):
        folder = tmp_path / "their_package-1.0.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(
            "Metadata-Version: 2.1\nName: their-package\nVersion: 1.0\n"
        )
        lines = [f"{name} = {target}\n" for name, target in points.items()]
        (folder / "entry_points.txt").write_text("[ate_dispatcher.drivers]\n" + "".join(lines))

    return install


def test_a_driver_by_entry_point(package):
    """Registry: what the README shows is found by its scheme, and works."""
    package(loopback="their_package:Loopback")
    assert "loopback" in drivers_at_hand()
    came = queue.Queue()
    with Distributer("loopback://") as bus:
        bus.subscribe(lambda data, topic: came.put((topic, data)), "site.*.v", with_topic=True)
        bus.publish("not this", "site.1.a")
        bus.publish({"volts": 5.01}, "site.2.v")
        assert came.get(timeout=10) == ("site.2.v", {"volts": 5.01})
        with pytest.raises(UnsupportedByDriverError, match="loopback:// cannot share work"):
            bus.subscribe(came.put, "a", subscriber_group="g")
        with pytest.raises(UnsupportedByDriverError, match="loopback:// cannot count"):
            bus.pubsub().count("a")
    assert came.empty()


def test_an_entry_point_under_another_name(package):
    """Registry: a driver that says another scheme than it is registered for is a mistake."""
    package(looped="their_package:Loopback", nothing="their_package:Capabilities")
    with pytest.raises(BusURLError, match="its scheme is 'loopback'"):
        Distributer("looped://")
    with pytest.raises(BusURLError, match="no subclass of Driver"):
        Distributer("nothing://")


def test_the_nearest_name(package):
    """Registry: a scheme that nobody has is told with the one that was meant."""
    package(loopback="their_package:Loopback")
    with pytest.raises(UnknownSchemeError, match=r"no driver for loopbak://.* did you mean loopb"):
        Distributer("loopbak://")
    with pytest.raises(UnknownSchemeError, match="there are memory"):
        Distributer("xyzzy://")


def test_a_file_put_under_drivers(package, tmp_path, monkeypatch):
    """Registry: as Distributer's document has it, a file named as its scheme is enough."""
    from ate_dispatcher.bus import drivers

    (tmp_path / "looptest.py").write_text(
        (tmp_path / "their_package.py").read_text().replace('"loopback"', '"looptest"')
    )
    monkeypatch.setattr(drivers, "__path__", [*drivers.__path__, str(tmp_path)])
    with Distributer("looptest://") as bus:
        bus.publish(1, "a")
    sys.modules.pop("ate_dispatcher.bus.drivers.looptest")


def test_a_missing_client_library(monkeypatch):
    """Registry: one library that is missing breaks its own driver, and says what to install."""
    from ate_dispatcher.bus import _registry

    module = "ate_dispatcher.bus.drivers.needy"
    monkeypatch.setitem(_registry.OURS, "needy", ("needy", "NeedyDriver", "needy"))
    monkeypatch.setitem(sys.modules, "library_of_needy", None)

    class Finder:
        @staticmethod
        def find_spec(name, path=None, target=None):
            if name != module:
                return None
            from importlib.util import spec_from_loader

            return spec_from_loader(name, Finder)

        @staticmethod
        def create_module(spec):
            return None

        @staticmethod
        def exec_module(loaded):
            exec("import library_of_needy", loaded.__dict__)

    monkeypatch.setattr(sys, "meta_path", [Finder, *sys.meta_path])
    with pytest.raises(MissingExtraError, match=r'needy:// needs library_of_needy: .*\[needy\]"'):
        Distributer("needy://")
    Distributer("memory://").close()


def test_a_subscription_cancelled_before_its_driver_has_answered(package):
    """Subscribing: whoever comes second takes it back, so the driver is left with nothing."""
    package(loopback="their_package:Loopback")
    with Distributer("loopback://") as bus:
        driver = bus._driver()
        subscribe = driver.subscribe

        def slowly(filters, group, inbox):
            leave = subscribe(filters, group, inbox)
            assert inbox.cancel(10)  # its worker has ended before we have said how to leave
            return leave

        driver.subscribe = slowly
        assert not bus.subscribe(print, "a").active
        assert driver.inboxes == []
