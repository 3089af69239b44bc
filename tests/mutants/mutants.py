"""Small edits of the source, each of which breaks a promise of the contract, and who must notice.

``run.py`` applies them one by one. An edit that no longer applies is an error: whoever changes the
source says here how the promise would be broken now.
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["MUTANTS", "Mutant"]

PROMISES = "tests/promises/"
FOUND = "tests/races/test_found.py::"
LIVES = "tests/supervision/test_lives_told.py::"
STATION = "tests/station/"


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
        PROMISES
        + "test_c01_every_request_ends.py::test_c1_ends_at_its_deadline_even_if_every_producer_hangs",
    ),
    Mutant(
        "C1 nobody registered ends at once",
        "_dispatching.py",
        "            self._end(request, RequestStatus.NO_PRODUCERS)\n            return",
        "            return",
        PROMISES + "test_c01_every_request_ends.py::test_c1_nobody_registered_ends_at_once",
    ),
    Mutant(
        "C2 one failure never loses the good values",
        "_ledger.py",
        "            good = row if isinstance(row, Outcome) and row.status is OK else None",
        "            good = row if isinstance(row, Outcome) and row.status is OK and not self.failed"
        " else None",
        PROMISES + "test_c02_one_outcome_each.py::test_c2_one_final_outcome_each_and_they_add_up",
    ),
    Mutant(
        "C2 says how far the work had come",
        "_ledger.py",
        "        elif not address.started:",
        "        elif False:",
        PROMISES + "test_c02_one_outcome_each.py::test_c2_a_timeout_says_how_far_the_work_had_come",
    ),
    Mutant(
        "C3 late answers are not delivered",
        "_ledger.py",
        "        if outcome.ended <= self.deadline and type(rows.get(address)) is float:",
        "        if type(rows.get(address)) is float or rows.get(address) is not None:",
        PROMISES
        + "test_c03_judged_where_work_ends.py::test_c3_an_answer_stamped_past_the_deadline_is_late",
    ),
    Mutant(
        "C3 the backlog is handled before anything expires",
        "_dispatching.py",
        "        if count:\n            self._serve(",
        "        if now > deadlines.wake:\n            for request in deadlines.due(now):\n"
        "                self._expire(request, now)\n        if count:\n            self._serve(",
        PROMISES + "test_c03_judged_where_work_ends.py::test_c3_backlog_is_handled_before_expiry",
    ),
    Mutant(
        "C4 the producer looks at the clock before it starts",
        "_producer.py",
        "                now > request.deadline\n                or request._cancelled",
        "                request._cancelled",
        PROMISES
        + "test_c04_expired_work_never_starts.py::test_c4_the_producer_itself_looks_at_the_clock",
    ),
    Mutant(
        "C4 the producer looks at the cancel flag before it starts",
        "_producer.py",
        "                or request._cancelled\n",
        "",
        PROMISES
        + "test_c04_expired_work_never_starts.py::test_c4_the_producer_looks_at_the_cancel_flag_itself",
    ),
    Mutant(
        "C4 a claim has one winner",
        "_ledger.py",
        "            and self._rows.setdefault(address, now) is now",
        "            and self._rows.setdefault(address, now) is not None",
        PROMISES + "test_c04_expired_work_never_starts.py::test_c4_a_claim_has_one_winner",
    ),
    Mutant(
        "C5 an exception does not end a producer",
        "_producer.py",
        "                if isinstance(error, FATAL):\n                    raise",
        "                raise",
        PROMISES + "test_c05_nothing_dies_silently.py::test_c5_a_producer_that_raises_goes_on",
    ),
    Mutant(
        "C5 an exception does not end a listener",
        "_listener.py",
        "        if isinstance(error, FATAL):\n            raise error",
        "        raise error",
        PROMISES + "test_c05_nothing_dies_silently.py::test_c5_a_listener_that_raises_goes_on",
    ),
    Mutant(
        "C5 who leaves answers for what waits",
        "_producer.py",
        "        message._refuse(self._ate_address, reason)",
        "        pass",
        PROMISES
        + "test_c05_nothing_dies_silently.py::test_c5_an_agent_that_stops_answers_for_what_still_reaches_it",
    ),
    Mutant(
        "C5 an unseen error is logged",
        "_unseen.py",
        "        if self._failures:\n            self._callbacks",
        "        if False:\n            self._callbacks",
        PROMISES + "test_c05_nothing_dies_silently.py::test_c5_an_error_nobody_looked_at_is_logged",
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
        PROMISES
        + "test_c06_order.py::test_c6_all_listeners_see_one_order_and_a_producer_works_in_order",
    ),
    Mutant(
        "C7 delivered waits for the listeners",
        "_delivery.py",
        "        if not targets:\n            self._done.release()",
        "        self._done.release()",
        PROMISES + "test_c07_delivered.py::test_c7_delivered_means_handled_by_every_listener",
    ),
    Mutant(
        "C7 a deregistered listener still counts",
        "_membership.py",
        "                agent._ate_fence(lambda: put(Departed(agent)))",
        "                put(Departed(agent))",
        PROMISES + "test_c07_delivered.py::test_c7_a_listener_that_was_deregistered_still_counts",
    ),
    Mutant(
        "C7 nobody waits for itself",
        "_request.py",
        '            raise DeadlockError(\n                f"{role.name!r} would wait for its own part',
        "            return\n            raise DeadlockError(\n"
        '                f"{role.name!r} would wait for its own part',
        PROMISES + "test_c07_delivered.py::test_c7_a_library_thread_may_not_wait_for_itself",
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
        PROMISES
        + "test_c08_routing.py::test_c8_each_callers_order_of_sends_and_registrations_holds",
    ),
    Mutant(
        "C8 registering twice is once",
        "_routes.py",
        "        if address in table:\n            return False\n",
        "        address_ = address\n        while address_ in table:\n"
        "            address_ = __import__('copy').copy(address)\n        address = address_\n",
        PROMISES
        + "test_c08_routing.py::test_c8_registering_twice_is_once_and_deregistering_nothing_is_no_error",
    ),
    Mutant(
        "C8 deregister waits for the work",
        "_membership.py",
        "            agent._ate_fence(message.passed)",
        "            message.passed()",
        PROMISES + "test_c08_routing.py::test_c8_deregister_can_wait_for_the_work",
    ),
    Mutant(
        "C8 a fence behind an agent's last look passes",
        "_agent.py",
        "        self._ate_address.control(fence)\n        if self._ate_gone:",
        "        self._ate_address.control(fence)\n        if False:",
        FOUND + "test_a_fence_behind_an_agents_last_look_passes",
    ),
    Mutant(
        "C9 what hangs is not waited for",
        "_lifetime.py",
        "            if progress == self._progress:\n                return True",
        "            if progress == self._progress:\n                pass",
        PROMISES + "test_c09_stopping.py::test_c9_what_hangs_is_reported_not_waited_for",
    ),
    Mutant(
        "C9 stop drains",
        "_lifetime.py",
        "        if not stop.drain:\n            self._end(requests)",
        "        self._end(requests)",
        PROMISES + "test_c09_stopping.py::test_c9_stop_drains",
    ),
    Mutant(
        "C9 what comes behind the stop ends",
        "_dispatching.py",
        "        if not self._scattering:  # it was put behind the Stop",
        "        if False:",
        FOUND + "test_a_request_put_behind_the_stop_ends_stopped",
    ),
    Mutant(
        "C9 who meets the stop is not lost",
        "dispatcher.py",
        "        if home.gone:  # it ended between the hurdle and the put: see ReturnAddress\n"
        "            self._refuse_mailbox()\n",
        "",
        PROMISES + "test_c09_stopping.py::test_c9_a_send_that_meets_the_stop_is_never_lost",
    ),
    Mutant(
        "C10 bounds hold",
        "_mailbox.py",
        "            if self._work >= self.capacity:",
        "            if False:",
        PROMISES + "test_c10_bounds.py::test_c10_a_full_producer",
    ),
    Mutant(
        "C10 expired work does not count",
        "_producer.py",
        "        return self._ate_address not in message._rows and not message.cancelled",
        "        return True",
        PROMISES + "test_c10_bounds.py::test_c10_expired_work_in_a_full_mailbox_does_not_count",
    ),
    Mutant(
        "C10 max_open gives way at the deadline",
        "dispatcher.py",
        "        if not acquire(self._admission, limit_of(left), look):",
        "        if not acquire(self._admission, limit_of(left), look) and False:",
        PROMISES + "test_c10_bounds.py::test_c10_max_open_raises_at_the_deadline",
    ),
    Mutant(
        "C11 any keyword is the producers'",
        "dispatcher.py",
        "    def send_request(self, /, topic: str, *args: Any, ttl: Any = 5000, **kwargs: Any)"
        ' -> Request:\n        """Scatter',
        "    def send_request(self, topic: str, *args: Any, ttl: Any = 5000, uuid: Any = None,"
        ' **kwargs: Any) -> Request:\n        """Scatter',
        PROMISES
        + "test_c11_arguments.py::test_c11_any_keyword_but_ttl_and_topic_reaches_producers",
    ),
    Mutant(
        "C11 copies isolate",
        "_options.py",
        "        return value if self.copy is None else _COPIES[self.copy](value)",
        "        return value",
        PROMISES + "test_c11_arguments.py::test_c11_copies_are_everybodys_own",
    ),
    Mutant(
        "C12 no polling",
        "_dispatching.py",
        "            return self._mailbox.get(True, min(max(wait, 0.0) + 1e-6, TIMEOUT_MAX))",
        "            return self._mailbox.get(True, 0.01)",
        PROMISES
        + "test_c12_idle_and_memory.py::test_c12_an_open_request_is_waited_for_in_one_piece",
    ),
    Mutant(
        "C12 no reference cycle",
        "_dispatching.py",
        "                    rows[address] = message\n                    message._request = None",
        "                    rows[address] = message",
        PROMISES + "test_c12_idle_and_memory.py::test_c12_an_ended_request_dies_when_it_is_let_go",
    ),
    Mutant(
        "C12 ended requests leave the deadlines",
        "_deadlines.py",
        "        if len(self._heads) > 2 * (len(self._lines) + len(self._strays)) + 16:",
        "        if False:",
        PROMISES + "test_c12_idle_and_memory.py::test_c12_no_object_is_left_of_ended_requests",
    ),
    Mutant(
        "C13 a sleep ends early",
        "_request.py",
        "        def call_off() -> None:\n            woken.put(True)",
        "        def call_off() -> None:\n            pass",
        PROMISES + "test_c13_calling_off.py::test_c13_a_cancel_wakes_a_sleeper",
    ),
    Mutant(
        "C13 on_cancel is called",
        "_request.py",
        "            if self._rows[address].ended is None:",
        "            if False:",
        PROMISES + "test_c13_calling_off.py::test_c13_on_cancel_can_interrupt_a_call_that_blocks",
    ),
    Mutant(
        "C14 values come as they are yielded",
        "_producer.py",
        "                home.put(Partial(request, self._ate_address, value, started, now))",
        "                pass",
        PROMISES + "test_c14_streams.py::test_c14_each_value_is_relayed_as_it_comes",
    ),
    Mutant(
        "C14 closed when it is no longer wanted",
        "_producer.py",
        "                request.check()\n        except StopIteration as end:",
        "                pass\n        except StopIteration as end:",
        PROMISES + "test_c14_streams.py::test_c14_closed_between_yields_on_its_own_thread",
    ),
    Mutant(
        "C2 a timeout names the resource",
        "_ledger.py",
        "            if waiting is not None and waiting.request is self:",
        "            if False:",
        STATION + "test_shared_resources.py::test_a_timeout_names_the_resource_and_who_has_it",
    ),
    Mutant(
        "C4 whoever waits for a resource is woken by the end",
        "_resources.py",
        "            if waiter.add(hold.ring):",
        "            if waiter.add(lambda: None):",
        STATION + "test_shared_resources.py::test_whoever_waits_is_woken_by_the_end_of_its_request",
    ),
    Mutant(
        "C1 nobody waits in a circle",
        "_resources.py",
        "    return tuple(sorted(set(names)))",
        "    return tuple(dict.fromkeys(names))",
        "tests/test_resources.py::test_names_are_sorted_and_each_is_taken_once",
    ),
    Mutant(
        "C2 a resource is given back however the work ends",
        "_producer.py",
        "            finally:\n                RESOURCES.release(hold)",
        "            finally:\n                pass",
        STATION + "test_shared_resources.py::test_it_is_given_back_however_the_work_ends",
    ),
    Mutant(
        "C2 what somebody held that was given up is handed on",
        "_producer.py",
        "        if held is not None:  # its own",
        "        if False:  # its own",
        LIVES + "test_a_producer_that_was_given_up_hands_on_its_resources",
    ),
    Mutant(
        "C9 a thread that was given up and hangs is reported",
        "_lifetime.py",
        "        alive.extend(",
        "        list(",
        LIVES + "test_a_thread_that_was_given_up_and_hangs_is_in_the_report",
    ),
    Mutant(
        "C6 the more urgent begins first",
        "_ranked.py",
        "            heapq.heappush(self._heap, (-self._rank(message), self._serial, message))",
        "            heapq.heappush(self._heap, (0, self._serial, message))",
        STATION
        + "test_priorities.py::test_the_more_urgent_begins_first_and_one_priority_keeps_its_order",
    ),
    Mutant(
        "C8 a fence waits for less urgent work",
        "_ranked.py",
        "            if self._fences and not self._fences[0][1]:",
        "            if self._fences:",
        STATION + "test_priorities.py::test_deregistering_waits_for_less_urgent_work_as_well",
    ),
    Mutant(
        "C9 made safe on every way out",
        "_agent.py",
        "                self._ate_make_safe()\n",
        "                pass\n",
        STATION + "test_safe_state.py::test_once_on_every_way_out_in_reverse_order_of_registration",
    ),
    Mutant(
        "C9 made safe in reverse order",
        "_lifetime.py",
        "            producers = reversed(safe_producers(",
        "            producers = iter(safe_producers(",
        STATION + "test_safe_state.py::test_once_on_every_way_out_in_reverse_order_of_registration",
    ),
    Mutant(
        "C9 the next is made safe when the one before it is",
        "_safety.py",
        "        while now >= self.alarm or not self._asked or self._asked[-1]._ate_made_safe:",
        "        while True:",
        STATION + "test_safe_state.py::test_one_after_the_other",
    ),
    Mutant(
        "C9 a safe state that raises stops nobody",
        "_producer.py",
        "        except BaseException as error:  # whatever it is, the others are still to be made safe",
        "        except ZeroDivisionError as error:",
        STATION
        + "test_safe_state.py::test_a_safe_state_that_raises_is_reported_and_the_others_go_on",
    ),
    Mutant(
        "C9 a signal in the exit is no success",
        "_lifetime.py",
        "    if interruption is not None:\n        _exit(interruption)",
        "    if interruption is not None:\n        raise interruption",
        STATION + "test_safe_exit.py::test_stop_on_signals_makes_everything_safe_once_and_says_so",
    ),
    Mutant(
        "C9 abort passes what is queued",
        "dispatcher.py",
        "        self._scattering = False\n",
        "",
        STATION + "test_safe_state.py::test_abort_passes_what_is_queued_at_the_dispatcher",
    ),
]
