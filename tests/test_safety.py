"""The turns of producers that are made safe: in which order, and how long each has."""

from __future__ import annotations

from ate_dispatcher._safety import SafeTurns


class Supply:
    """Stands for a producer; `quick` is safe as soon as it is asked."""

    def __init__(self, asked, name, quick=False):
        self.asked, self.name, self.quick = asked, name, quick
        self._ate_made_safe = False

    def _ate_halt(self):
        self.asked.append(self.name)
        self._ate_made_safe = self.quick


def bench(*names, quick=False):
    asked = []
    return asked, [Supply(asked, name, quick) for name in names]


def test_nobody_to_be_made_safe_is_the_end_at_once():
    """A dispatcher without such producers waits for nothing."""
    assert SafeTurns([], 10.0, 5.0).proceed(10.0) is True


def test_each_is_asked_when_the_one_before_it_is_safe():
    """One after the other, in the order given; never two at once."""
    asked, (one, two, three) = bench("one", "two", "three")
    turns = SafeTurns([one, two, three], 10.0, 6.0)
    assert turns.proceed(10.0) is False
    assert turns.proceed(10.5) is False
    assert asked == ["one"]
    one._ate_made_safe = True
    assert turns.proceed(11.0) is False
    assert asked == ["one", "two"]
    two._ate_made_safe = True
    assert turns.proceed(11.0) is False
    three._ate_made_safe = True
    assert turns.proceed(11.0) is True
    assert turns.unsafe() == []


def test_those_that_are_quick_need_one_call():
    """No message has to come between them."""
    asked, supplies = bench("one", "two", quick=True)
    assert SafeTurns(supplies, 10.0, 6.0).proceed(10.0) is True
    assert asked == ["one", "two"]


def test_who_hangs_costs_the_others_its_share_and_no_more():
    """An equal share of what is left; the alarm is set to its end."""
    asked, (hung, two, three) = bench("hung", "two", "three")
    turns = SafeTurns([hung, two, three], 10.0, 6.0)
    turns.proceed(10.0)
    assert turns.alarm == 12.0
    assert turns.proceed(12.0) is False
    assert asked == ["hung", "two"]
    assert turns.alarm == 14.0
    two._ate_made_safe = True
    turns.proceed(12.5)  # what `two` did not need is left for `three`
    assert asked == ["hung", "two", "three"]
    assert turns.alarm == 16.0


def test_who_missed_its_turn_is_waited_for_until_the_limit():
    """It may come back; at the limit it is unsafe, and that is the end."""
    _, (hung, two) = bench("hung", "two")
    turns = SafeTurns([hung, two], 10.0, 6.0)
    turns.proceed(10.0)
    turns.proceed(13.0)
    two._ate_made_safe = True
    assert turns.proceed(13.5) is False
    assert turns.alarm == 16.0
    assert turns.unsafe() == [hung]
    assert turns.proceed(16.0) is True
    hung._ate_made_safe = True
    assert turns.unsafe() == []


def test_all_are_asked_even_without_time():
    """Zero seconds: everybody is asked, nobody is waited for."""
    asked, supplies = bench("one", "two")
    turns = SafeTurns(supplies, 10.0, 0.0)
    assert turns.proceed(10.0) is True
    assert asked == ["one", "two"]
    assert turns.unsafe() == supplies


def test_without_a_limit_there_is_no_alarm():
    """It waits as long as it takes."""
    _, supplies = bench("one", "two")
    turns = SafeTurns(supplies, 10.0, float("inf"))
    assert turns.proceed(10.0) is False
    assert turns.alarm == float("inf")
