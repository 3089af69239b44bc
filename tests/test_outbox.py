"""`Outbox`: what publishers leave for the thread that sends, and how they learn of its end."""

from __future__ import annotations

from ate_dispatcher.bus._outbox import Outbox, Outgoing


def test_the_sender_is_told_once_of_what_it_has_not_taken():
    """Of the first message, and of the first after each time that it has looked."""
    outbox = Outbox()
    one, two, three = (Outgoing("t", payload) for payload in (b"1", b"2", b"3"))
    assert [outbox.add(one), outbox.add(two)] == [True, False]
    assert len(outbox) == 2
    assert outbox.take() == [one, two]
    assert outbox.add(three)
    assert outbox.take() == [three]
    assert outbox.take() == []


def test_what_was_taken_cannot_be_withdrawn():
    """What nobody has taken can, once; it is not sent then, and the others are."""
    outbox = Outbox()
    one, two = Outgoing("t", b"1"), Outgoing("t", b"2")
    outbox.add(one)
    outbox.add(two)
    assert outbox.withdraw(one)
    assert not outbox.withdraw(one)
    assert outbox.take() == [two]
    assert not outbox.withdraw(two)


def test_a_message_is_finished_once():
    """Who finishes it again changes nothing; who waits sees what went wrong first."""
    message = Outgoing("t", b"1")
    assert not message.wait(0)
    message.finish("lost")
    message.finish()
    assert message.wait(0)
    assert message.error == "lost"
