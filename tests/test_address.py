"""One agent as the rest of the library sees it."""

from __future__ import annotations

from ate_dispatcher._address import Address


def test_an_address_without_an_agent_swallows_what_is_posted():
    """Nobody reads it, and posting is no error."""
    nowhere = Address("nobody")
    assert nowhere.deliver("work") is None
    assert nowhere.control("message") is None


def test_an_address_posts_to_its_two_doors():
    """Work under the bound of the mailbox, control messages past it."""
    work, control = [], []
    address = Address("dmm", 2, work.append, control.append)
    address.deliver(1)
    address.control(2)
    assert (work, control) == ([1], [2])
    assert (address.name, address.site) == ("dmm", 2)


def test_an_address_begins_idle():
    """Not started, busy with nothing, nothing counted."""
    address = Address("dmm")
    assert (address.started, address.running, address.site) == (False, None, None)
    assert (address.delivered, address.errors, address.dropped, address.refused) == (0, 0, 0, 0)
    assert not hasattr(address, "__dict__")


def test_addresses_are_told_apart_by_identity():
    """Each is the key of a row of its own, whatever its name."""
    assert Address("dmm", 1) != Address("dmm", 1)
    assert len({Address("dmm"), Address("dmm")}) == 2


def test_an_address_shows_its_name_and_its_site():
    """The site only if there is one; zero and the empty string are sites."""
    assert repr(Address("dmm")) == "<Address 'dmm'>"
    assert repr(Address("dmm", 0)) == "<Address 'dmm' site=0>"
    assert repr(Address("dmm", "left")) == "<Address 'dmm' site='left'>"
