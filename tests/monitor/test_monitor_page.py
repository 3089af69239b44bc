"""The page itself, in a real browser.

``ATE_SCREENSHOT=docs/monitor.png`` keeps the picture that the test of the demo takes.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from ate_dispatcher import ATEDispatcher, TopicFilter
from ate_dispatcher.monitor import Monitor
from ate_dispatcher.testing import ScriptedProducer

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
if CHROMIUM is None or find_spec("playwright") is None:
    pytest.skip("needs Chromium, and playwright to drive it", allow_module_level=True)

from playwright.sync_api import sync_playwright  # noqa: E402

pytestmark = pytest.mark.timeout(180)
BOUND = 60_000
QUIET = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)


@pytest.fixture(scope="module")
def chromium():
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(QUIET))
        yield browser
        browser.close()


@pytest.fixture
def tab(chromium):
    """A page; whatever it complains of fails the test, but for `allowed` words."""
    context = chromium.new_context(viewport={"width": 1366, "height": 768})
    page = context.new_page()
    page.set_default_timeout(BOUND)
    page.allowed, complaints = [], []
    page.on("console", lambda m: m.type in ("error", "warning") and complaints.append(m.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("dialog", lambda dialog: complaints.append("a dialog"))
    yield page
    context.close()
    assert [c for c in complaints if not any(word in c for word in page.allowed)] == []


@pytest.fixture
def bench(dispatcher):
    """Three producers, of which one fails, and a listener."""
    dispatcher.add(ScriptedProducer(lambda topic, value: value, name="dmm0", site=0), "voltage")
    dispatcher.add(ScriptedProducer(lambda topic, value: value, name="dmm1", site=1), "voltage")
    dispatcher.add(ScriptedProducer(ValueError("no probe"), name="psu0", site=0), "current")
    dispatcher.listener(TopicFilter("#"), name="log")(lambda topic, value: None)
    return dispatcher


def ask(dispatcher, *values, topic="voltage"):
    for value in values:
        assert dispatcher.send_request(topic, value, ttl=60_000).wait(60)


def seen(tab, count):
    """Wait until the page knows so many outcomes."""
    tab.wait_for_function(f"() => rows.length >= {count}")


def column(tab, number):
    """Give a column of the table, once it has caught up with what the page knows."""
    tab.wait_for_function("() => !due.table && !asked")
    return tab.eval_on_selector_all(
        f"#outcomes tbody tr td:nth-child({number})", "cells => cells.map(c => c.textContent)"
    )


def test_it_shows_what_happens(tab, bench):
    """Outcomes, producers, listeners, routing, counts; in words as well as in colour."""
    with Monitor(bench) as monitor:
        tab.goto(monitor.url)
        ask(bench, 5.25)
        ask(bench, 0, topic="current")
        seen(tab, 3)
        assert sorted(column(tab, 3)) == ["dmm0", "dmm1", "psu0"]
        assert sorted(column(tab, 5)) == ["ERROR", "OK", "OK"]
        assert sorted(column(tab, 6)) == ["5.25", "5.25", "ValueError: no probe"]
        tab.wait_for_function("() => document.querySelector('#complete').textContent === '2'")
        assert tab.inner_text("#live") == "live"
        assert "dmm0" in tab.inner_text("#producers")
        assert "log" in tab.inner_text("#listeners")
        assert "# (filter)" in tab.inner_text("#topics")
        tab.wait_for_function(
            "() => document.querySelector('#latency-now').textContent.includes('p50')"
        )


def test_filters(tab, bench):
    """By status, producer, topic and site, together, by a click; and back."""
    with Monitor(bench) as monitor:
        tab.goto(monitor.url)
        ask(bench, 1, 2)
        ask(bench, 0, topic="current")
        seen(tab, 5)
        tab.click("#statuses button[value=ERROR]")
        assert column(tab, 3) == ["psu0"]
        assert tab.get_attribute("#statuses button[value=ERROR]", "aria-pressed") == "true"
        tab.click("#clear")
        assert len(column(tab, 3)) == 5
        tab.click("#producers tbody tr:has-text('dmm1')")
        assert column(tab, 3) == ["dmm1", "dmm1"]
        ask(bench, 3)
        seen(tab, 7)
        assert column(tab, 3) == ["dmm1"] * 3
        tab.click("#producers tbody tr:has-text('dmm1')")
        tab.select_option("#by-site", "0")
        tab.select_option("#by-topic", "voltage")
        assert column(tab, 3) == ["dmm0"] * 3
        tab.click("#statuses button[value=TIMEOUT]")
        assert column(tab, 3) == []
        assert tab.inner_text("#no-outcomes") == "No outcome passes the filters."


def test_the_filter_rule(tab, dispatcher):
    """Each part by itself; a late answer is late, whatever it says."""
    with Monitor(dispatcher) as monitor:
        tab.goto(monitor.url)
        rule = """([row, by]) => passes(row, { topic: "", producer: "", site: "", ...by,
            status: new Set(by.status || []) })"""
        row = [1, "voltage", "dmm0", 0, "OK", "5", "", 1, 1, 1, 2, 2, ""]
        late = [*row[:12], "late"]
        for by, wanted in (
            ({}, True),
            ({"topic": "voltage"}, True),
            ({"topic": "current"}, False),
            ({"producer": "dmm0", "site": "0"}, True),
            ({"producer": "dmm0", "site": "1"}, False),
            ({"status": ["ERROR", "OK"]}, True),
            ({"status": ["LATE"]}, False),
        ):
            assert tab.evaluate(rule, [row, by]) is wanted, by
        assert tab.evaluate(rule, [late, {"status": ["LATE"]}])
        assert not tab.evaluate(rule, [late, {"status": ["OK"]}])


def test_pausing(tab, bench):
    """The table stands still, nothing is lost meanwhile."""
    with Monitor(bench) as monitor:
        tab.goto(monitor.url)
        ask(bench, 1)
        seen(tab, 2)
        tab.click("#pause")
        ask(bench, 2)
        seen(tab, 4)
        assert len(column(tab, 3)) == 2
        tab.click("#pause")
        assert len(column(tab, 3)) == 4


def test_an_empty_station(tab, dispatcher):
    """It says that nothing is there, in place of empty boxes."""
    with Monitor(dispatcher) as monitor:
        tab.emulate_media(color_scheme="dark")
        tab.goto(monitor.url)
        tab.wait_for_function("() => document.querySelector('#state').textContent === 'running'")
        for words in (
            "No producer is registered.",
            "No listener is registered.",
            "No topic is registered.",
            "No outcome yet: nothing has been asked.",
        ):
            assert tab.is_visible(f"text={words}")


def test_nothing_from_the_bench_is_markup(tab, dispatcher):
    """Names, topics, values and errors are text, whatever they hold."""
    nasty = "<img src=x onerror=alert(1)><script>alert(2)</script>"
    good = ScriptedProducer(nasty, name=f"{nasty}1", site=nasty)
    dispatcher.add(good, nasty)
    dispatcher.add(ScriptedProducer(ValueError(nasty), name=f"{nasty}2"), nasty)
    dispatcher.listener(nasty, name=f"{nasty}3")(lambda topic, value: None)
    with Monitor(dispatcher) as monitor:
        tab.goto(monitor.url)
        assert dispatcher.send_request(nasty, ttl=60_000).wait(60)
        seen(tab, 2)
        assert column(tab, 2) == [nasty, nasty]
        tab.click("#producers tbody tr >> nth=0")
        assert tab.locator("img").count() == 0
        assert tab.locator("script").count() == 1  # our own


def test_a_page_that_is_cut_off_catches_up(tab, bench):
    """By itself, with everything that happened meanwhile, in order and once."""
    tab.allowed = ["ERR_"]
    with Monitor(bench) as monitor:
        tab.goto(monitor.url)
        ask(bench, 0)
        seen(tab, 2)
        tab.evaluate("() => { window.before = rows }")
        monitor._server.cut()
        ask(bench, *range(1, 11))
        seen(tab, 22)
        assert tab.evaluate("() => rows.map(row => row[0])") == list(range(1, 23))
        assert tab.evaluate("() => window.before === rows")  # no snapshot: it was a replay
        assert tab.inner_text("#live") == "live"


def test_a_page_outlives_a_restart_of_the_server(tab, bench):
    """It says that it is cut off, comes back by itself, and shows what the new server knows."""
    tab.allowed = ["ERR_"]
    monitor = Monitor(bench)
    port = monitor._server.port
    tab.goto(monitor.url)
    ask(bench, "old")
    seen(tab, 2)
    monitor.stop()
    tab.wait_for_function("() => document.querySelector('#live').textContent === 'reconnecting'")
    with Monitor(bench, port=port):
        ask(bench, "new")
        tab.wait_for_function("() => rows.some(row => row[5] === \"'new'\")")
        tab.wait_for_function("() => document.querySelector('#live').textContent === 'live'")
        ask(bench, "newer")
        tab.wait_for_function("() => rows.some(row => row[5] === \"'newer'\")")


def test_a_token_in_the_address(tab, bench):
    """Shown once, and then gone from the address."""
    with Monitor(bench, token="nobody-guesses-this") as monitor:
        tab.goto(f"{monitor.url}?token=nobody-guesses-this")
        ask(bench, 1)
        seen(tab, 2)
        assert tab.url == monitor.url


def test_the_download(tab, bench, tmp_path):
    """The button gives the trace as a file."""
    with Monitor(bench) as monitor:
        tab.goto(monitor.url)
        ask(bench, 1)
        seen(tab, 2)
        with tab.expect_download() as download:
            tab.click("#trace")
        download.value.save_as(tmp_path / "trace.json")
    assert '"traceEvents"' in (tmp_path / "trace.json").read_text(encoding="utf-8")


@pytest.mark.skipif(os.name == "nt", reason="needs a system where SIGINT can be sent")
def test_the_demo(tab, tmp_path):
    """``ate-dispatcher demo --monitor`` says where its page is, which shows the bench at work."""
    for library in ("pyvisa", "pyvisa_sim", "rich"):
        pytest.importorskip(library, reason="needs the extra demo")
    command = [sys.executable, "-m", "ate_dispatcher", "demo", "--monitor", "--rounds", "25"]
    picture = os.environ.get("ATE_SCREENSHOT")
    if picture:
        command[-1] = "400"
    process = subprocess.Popen(
        [*command, "--no-color", "--output", str(tmp_path / "results.csv")],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        said = ""
        while "http://" not in said:
            said = process.stdout.readline()
            assert said, "the demo has ended"
        tab.goto(said.split()[-1])
        seen(tab, 50)
        tab.wait_for_function(
            "() => document.querySelectorAll('#producers tbody tr').length === 12"
        )
        assert "dmm0" in tab.inner_text("#producers")
        tab.wait_for_function("() => seenOf.status.has('ERROR') && seenOf.status.has('TIMEOUT')")
        if picture:
            tab.wait_for_timeout(30_000)
        Path(picture or tmp_path / "monitor.png").write_bytes(tab.screenshot())
        process.send_signal(signal.SIGINT)
        rest, _ = process.communicate(timeout=60)
        assert "every one accounted for" in rest
        assert process.returncode in (0, 130)  # after its last round, or before
    finally:
        process.kill()
        process.communicate()


def test_two_pages_of_one_browser(chromium, bench):
    """Each has its own stream."""
    context = chromium.new_context()
    with Monitor(bench) as monitor:
        tabs = [context.new_page() for _ in range(2)]
        for tab in tabs:
            tab.goto(monitor.url)
        ask(bench, 1)
        for tab in tabs:
            seen(tab, 2)
    context.close()


def test_a_station_that_ends(tab):
    """It stays to be looked at, and says so."""
    dispatcher = ATEDispatcher()
    dispatcher.producer("t", name="dmm")(lambda topic: 1)
    dispatcher.start()
    with Monitor(dispatcher) as monitor:
        tab.goto(monitor.url)
        dispatcher.send_request("t", ttl=60_000)
        seen(tab, 1)
        dispatcher.stop()
        tab.wait_for_function("() => document.querySelector('#state').textContent === 'stopped'")
        assert "stopped" in tab.inner_text("#producers tbody tr:has-text('dmm')")
        tab.goto("about:blank")
