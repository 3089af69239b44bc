"""Small edits of the source, each of which breaks a promise of the contract, and who must notice.

``run.py`` applies them one by one. An edit that no longer applies is an error: whoever changes the
source says here how the promise would be broken now.
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["MUTANTS", "Mutant"]

FIRST = "tests/promises/test_c01_to_c04.py::"
SECOND = "tests/promises/test_c05_to_c09.py::"
THIRD = "tests/promises/test_c10_to_c14.py::"
FOUND = "tests/races/test_found.py::"


class Mutant(NamedTuple):
    """In `file` of the package `old` (which stands there once) becomes `new`; `test` goes red."""

    promise: str
    file: str
    old: str
    new: str
    test: str


MUTANTS = [
    Mutant(
        "C1 ends at its deadline",
        "_dispatching.py",
        "            for request in deadlines.due(now):\n                self._expire(request, now)",
        "            deadlines.due(now)",
        FIRST + "test_c1_ends_at_its_deadline_even_if_every_producer_hangs",
    ),
    Mutant(
        "C1 nobody registered ends at once",
        "_dispatching.py",
        "            self._end(request, RequestStatus.NO_PRODUCERS)\n            return",
        "            return",
        FIRST + "test_c1_nobody_registered_ends_at_once",
    ),
    Mutant(
        "C2 one failure never loses the good values",
        "_ledger.py",
        "            good = row if isinstance(row, Outcome) and row.status is OK else None",
        "            good = row if isinstance(row, Outcome) and row.status is OK and not self.failed"
        " else None",
        FIRST + "test_c2_one_final_outcome_each_and_they_add_up",
    ),
    Mutant(
        "C2 says how far the work had come",
        "_ledger.py",
        "        elif not address.started:",
        "        elif False:",
        FIRST + "test_c2_a_timeout_says_how_far_the_work_had_come",
    ),
    Mutant(
        "C3 late answers are not delivered",
        "_ledger.py",
        "        if outcome.ended <= self.deadline and type(rows.get(address)) is float:",
        "        if type(rows.get(address)) is float or rows.get(address) is not None:",
        FIRST + "test_c3_an_answer_stamped_past_the_deadline_is_late",
    ),
    Mutant(
        "C3 the backlog is handled before anything expires",
        "_dispatching.py",
        "        if count:\n            self._serve(",
        "        if now > deadlines.wake:\n            for request in deadlines.due(now):\n"
        "                self._expire(request, now)\n        if count:\n            self._serve(",
        FIRST + "test_c3_backlog_is_handled_before_expiry",
    ),
    Mutant(
        "C4 the producer looks at the clock before it starts",
        "_producer.py",
        "                now > request.deadline\n                or request._cancelled",
        "                request._cancelled",
        FIRST + "test_c4_the_producer_itself_looks_at_the_clock",
    ),
    Mutant(
        "C4 the producer looks at the cancel flag before it starts",
        "_producer.py",
        "                or request._cancelled\n",
        "",
        FIRST + "test_c4_the_producer_looks_at_the_cancel_flag_itself",
    ),
    Mutant(
        "C4 a claim has one winner",
        "_ledger.py",
        "            and self._rows.setdefault(address, now) is now",
        "            and self._rows.setdefault(address, now) is not None",
        FIRST + "test_c4_a_claim_has_one_winner",
    ),
    Mutant(
        "C5 an exception does not end a producer",
        "_producer.py",
        "                if not isinstance(error, Exception):\n                    raise",
        "                raise",
        SECOND + "test_c5_a_producer_that_raises_goes_on",
    ),
    Mutant(
        "C5 an exception does not end a listener",
        "_listener.py",
        "        if not isinstance(error, Exception):\n            raise error",
        "        raise error",
        SECOND + "test_c5_a_listener_that_raises_goes_on",
    ),
    Mutant(
        "C5 who leaves answers for what waits",
        "_producer.py",
        "        message._refuse(self._ate_address, reason)",
        "        pass",
        SECOND + "test_c5_an_agent_that_stops_answers_for_what_still_reaches_it",
    ),
    Mutant(
        "C5 an unseen error is logged",
        "_unseen.py",
        "        if self._failures:\n            self._callbacks",
        "        if False:\n            self._callbacks",
        SECOND + "test_c5_an_error_nobody_looked_at_is_logged",
    ),
    Mutant(
        "C5 an error without words is an error",
        "_producer.py",
        "        reason = _worded(error)",
        '        reason = f"{type(error).__name__}: {error}"',
        FOUND + "test_an_error_that_cannot_be_worded_is_an_error_all_the_same[error]",
    ),
    Mutant(
        "C5 a predicate that exits ends nothing",
        "_dispatching.py",
        "        except BaseException:  # even SystemExit",
        "        except Exception:  #",
        FOUND + "test_a_predicate_that_exits_ends_nothing_but_itself",
    ),
    Mutant(
        "C6 a producer works in order",
        "_agent.py",
        "            self._ate_mailbox = SimpleQueue()",
        "            self._ate_mailbox = __import__('queue').LifoQueue()",
        SECOND + "test_c6_all_listeners_see_one_order_and_a_producer_works_in_order",
    ),
    Mutant(
        "C7 delivered waits for the listeners",
        "_delivery.py",
        "        if not targets:\n            self._done.release()",
        "        self._done.release()",
        SECOND + "test_c7_delivered_means_handled_by_every_listener",
    ),
    Mutant(
        "C7 a deregistered listener still counts",
        "_membership.py",
        "                agent._ate_fence(lambda: put(Departed(agent)))",
        "                put(Departed(agent))",
        SECOND + "test_c7_a_listener_that_was_deregistered_still_counts",
    ),
    Mutant(
        "C7 nobody waits for itself",
        "_request.py",
        '            raise DeadlockError(\n                f"{role.name!r} would wait for its own part',
        "            return\n            raise DeadlockError(\n"
        '                f"{role.name!r} would wait for its own part',
        SECOND + "test_c7_a_library_thread_may_not_wait_for_itself",
    ),
    Mutant(
        "C7 every listener's fence counts",
        "_delivery.py",
        "                del self._pending[agent]",
        "                self._pending.clear()",
        FOUND + "test_a_flush_tells_listeners_of_one_name_apart",
    ),
    Mutant(
        "C8 each caller's order holds",
        "_membership.py",
        "            self._home.put(Register(agent, subject, hooks))",
        "            self._on_register(Register(agent, subject, hooks), 0.0)",
        SECOND + "test_c8_each_callers_order_of_sends_and_registrations_holds",
    ),
    Mutant(
        "C8 registering twice is once",
        "_routes.py",
        "        if address in table:\n            return False\n",
        "        address_ = address\n        while address_ in table:\n"
        "            address_ = __import__('copy').copy(address)\n        address = address_\n",
        SECOND + "test_c8_registering_twice_is_once_and_deregistering_nothing_is_no_error",
    ),
    Mutant(
        "C8 deregister waits for the work",
        "_membership.py",
        "            agent._ate_fence(message.passed)",
        "            message.passed()",
        SECOND + "test_c8_deregister_can_wait_for_the_work",
    ),
    Mutant(
        "C8 a fence behind an agent's last look passes",
        "_agent.py",
        "        self._ate_address.control(Fence(passed))\n        if self._ate_gone:",
        "        self._ate_address.control(Fence(passed))\n        if False:",
        FOUND + "test_a_fence_behind_an_agents_last_look_passes",
    ),
    Mutant(
        "C9 what hangs is not waited for",
        "_lifetime.py",
        "            if progress == self._progress:\n                return True",
        "            if progress == self._progress:\n                pass",
        SECOND + "test_c9_what_hangs_is_reported_not_waited_for",
    ),
    Mutant(
        "C9 stop drains",
        "_lifetime.py",
        "        if not stop.drain:\n            self._end(requests)",
        "        self._end(requests)",
        SECOND + "test_c9_stop_drains",
    ),
    Mutant(
        "C9 what comes behind the stop ends",
        "_dispatching.py",
        "        if self._shutdown is not None:  # it was put behind the Stop",
        "        if False:",
        FOUND + "test_a_request_put_behind_the_stop_ends_stopped",
    ),
    Mutant(
        "C9 who meets the stop is not lost",
        "dispatcher.py",
        "        if home.gone:  # it ended between the hurdle and the put: see ReturnAddress\n"
        "            self._refuse_mailbox()\n",
        "",
        SECOND + "test_c9_a_send_that_meets_the_stop_is_never_lost",
    ),
    Mutant(
        "C10 bounds hold",
        "_mailbox.py",
        "            if self._work >= self.capacity:",
        "            if False:",
        THIRD + "test_c10_a_bounded_producer",
    ),
    Mutant(
        "C10 expired work does not count",
        "_producer.py",
        "        return self._ate_address not in message._rows and not message.cancelled",
        "        return True",
        THIRD + "test_c10_work_that_expired_in_a_full_mailbox_does_not_count",
    ),
    Mutant(
        "C10 max_open gives way at the deadline",
        "dispatcher.py",
        "        if not acquire(self._admission, limit_of(left)):",
        "        if not acquire(self._admission, limit_of(left)) and False:",
        THIRD + "test_c10_max_open_waits_in_the_callers_thread_then_raises",
    ),
    Mutant(
        "C11 any keyword is the producers'",
        "dispatcher.py",
        "    def send_request(self, /, topic: str, *args: Any, ttl: Any = 5000, **kwargs: Any)"
        ' -> Request:\n        """Scatter',
        "    def send_request(self, topic: str, *args: Any, ttl: Any = 5000, uuid: Any = None,"
        ' **kwargs: Any) -> Request:\n        """Scatter',
        THIRD + "test_c11_any_keyword_but_ttl_and_topic_reaches_the_producers",
    ),
    Mutant(
        "C11 copies isolate",
        "_options.py",
        "        return value if self.copy is None else _COPIES[self.copy](value)",
        "        return value",
        THIRD + "test_c11_deep_copies_isolate_everybody",
    ),
    Mutant(
        "C12 no polling",
        "_dispatching.py",
        "            return self._mailbox.get(True, min(max(wait, 0.0) + 1e-6, TIMEOUT_MAX))",
        "            return self._mailbox.get(True, 0.01)",
        THIRD + "test_c12_an_idle_station_takes_no_turn",
    ),
    Mutant(
        "C12 no reference cycle",
        "_dispatching.py",
        "                    rows[address] = message\n                    message._request = None",
        "                    rows[address] = message",
        THIRD + "test_c12_an_ended_request_leaves_nothing_and_needs_no_collector[answered]",
    ),
    Mutant(
        "C12 ended requests leave the deadlines",
        "_deadlines.py",
        "        if len(self._heads) > 2 * (len(self._lines) + len(self._strays)) + 16:",
        "        if False:",
        THIRD + "test_c12_nothing_grows_with_ended_requests_or_topics",
    ),
    Mutant(
        "C13 a sleep ends early",
        "_request.py",
        "        def call_off() -> None:\n            woken.put(True)",
        "        def call_off() -> None:\n            pass",
        THIRD + "test_c13_running_work_is_told",
    ),
    Mutant(
        "C13 on_cancel is called",
        "_request.py",
        "            if self._rows[address].ended is None:",
        "            if False:",
        THIRD + "test_c13_running_work_is_told",
    ),
    Mutant(
        "C14 values come as they are yielded",
        "_producer.py",
        "                home.put(Partial(request, self._ate_address, value, started, now))",
        "                pass",
        THIRD + "test_c14_values_come_as_they_are_yielded",
    ),
    Mutant(
        "C14 closed when it is no longer wanted",
        "_producer.py",
        "                request.check()\n        except StopIteration as end:",
        "                pass\n        except StopIteration as end:",
        THIRD + "test_c14_closed_by_its_own_thread_between_yields",
    ),
]
