"""The README is true: its code runs and prints what it shows, and what it names exists.

Blocks under one ``##`` heading (the first example stands before any) are one script: they share a
namespace, in their order; `documents.py` says how they are run.
"""

from __future__ import annotations

import builtins
import re

import pytest
from documents import PROJECT, blocks, run
from driver_table import HEAD, PLACE, rows_at_hand, schemes

import ate_dispatcher
from ate_dispatcher import ATEDispatcher, Outcome, OutcomeStatus, Request, RequestStatus

README = PROJECT / "README.md"
TEXT = README.read_text(encoding="utf-8")
CHAPTERS = blocks(README, r"^## (.*)$")


@pytest.mark.parametrize("chapter", list(CHAPTERS))
def test_the_code_runs_and_prints_what_it_shows(chapter, tmp_path, monkeypatch):
    """Whoever copies a chapter's blocks gets what the README shows, and no thread is left."""
    monkeypatch.chdir(tmp_path)  # some write files
    run(CHAPTERS[chapter], "readme")


def test_the_first_example_is_short():
    """The first thing to copy stands at the top, with at most twenty lines of code."""
    (block,) = CHAPTERS["first example"]
    code = [line for line in block.code.splitlines() if line.strip()]
    assert len(code) <= 20
    assert block.prints


@pytest.mark.parametrize(
    ("word", "owner"),
    [("dispatcher", ATEDispatcher), ("request", Request), ("outcome", Outcome)],
)
def test_every_attribute_that_the_text_names_exists(word, owner):
    """No method or attribute is mentioned that one would look for in vain."""
    named = set(re.findall(rf"(?<![\w.]){word}\.(\w+)", TEXT))
    deregister = {"deregister_"}  # the text abbreviates the two verbs
    assert named
    assert [name for name in sorted(named - deregister) if not hasattr(owner, name)] == []


def test_every_status_and_error_is_named():
    """The tables are complete: each final status, and errors that are really exported."""
    final = {status.name for status in (*RequestStatus, *OutcomeStatus)} - {"OPEN"}
    assert {name for name in final if name not in TEXT} == set()
    errors = set(re.findall(r"\b[A-Z]\w+Error\b", TEXT))
    assert errors
    for name in errors:
        assert hasattr(ate_dispatcher, name) or hasattr(builtins, name), name


@pytest.mark.parametrize("name", ["demo", "tests"])
def test_the_commands_can_be_found(name):
    """The gate runs these two commands as they stand: a line each, own environment."""
    (command,) = re.findall(
        rf"^<!-- command: {name} -->\n```\w*\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL
    )
    assert command.count("\n") == 1
    assert command.startswith("python3 -m venv .venv && ")


def test_every_promise_is_there():
    """C1 to C14, each told in the README."""
    told = re.findall(r"\*\*(C\d+)\*\*", TEXT)
    assert told == [f"C{number}" for number in range(1, 15)]


def test_the_table_of_drivers_is_what_they_say_of_themselves():
    """One row a driver, made of its `Capabilities`: see `driver_table.py`."""
    lines = PLACE.search(TEXT)[2].splitlines()
    assert lines[:2] == HEAD
    assert len(lines) == 2 + len(schemes())
    found = rows_at_hand()
    assert found
    assert [line for line in found if line not in lines] == []
