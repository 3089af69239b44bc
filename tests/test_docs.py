"""The pages under docs/ are true: their code runs and prints what they show; pictures are current.

A page is one script; `documents.py` says how it is run. What a page includes from the README is run
by `test_readme.py`. That the pages can be built, without a warning, is a step of the gate.
"""

from __future__ import annotations

import builtins
import re
import subprocess
import sys

import pytest
from documents import PROJECT, blocks, run

import ate_dispatcher

DOCS = PROJECT / "docs"
PAGES = {page.relative_to(DOCS).as_posix(): page for page in sorted(DOCS.rglob("*.md"))}
SCRIPTS = {name: blocks(page) for name, page in PAGES.items() if "_build" not in page.parts}
INCLUDED = re.compile(
    r'^```\{include\} ../../README.md\n:start-after: "(.+)"\n:end-before: "(.+)"$', re.MULTILINE
)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("page", [name for name, scripts in SCRIPTS.items() if scripts])
def test_the_code_runs_and_prints_what_it_shows(page, tmp_path, monkeypatch):
    """Whoever copies a page's blocks gets what it shows, and no thread is left."""
    monkeypatch.chdir(tmp_path)  # some write files
    (script,) = SCRIPTS[page].values()
    run(script, "page")


def test_every_promise_is_there():
    """C1 to C14, each told to users."""
    told = re.findall(r"^\*\*(C\d+): ", PAGES["contract.md"].read_text(encoding="utf-8"), re.M)
    assert told == [f"C{number}" for number in range(1, 15)]


def test_every_public_module_has_its_page():
    """Each folder and module that users import from is in the reference."""
    package = PROJECT / "ate_dispatcher"
    public = {path.stem for path in package.iterdir() if not path.name.startswith("_")}
    unlisted = {"cli", "demo", "dispatcher", "py"}  # commands; 0.1.0's import path; py.typed
    pages = {name.split("/")[1][:-3] for name in PAGES if name.startswith("reference/")}
    assert pages == public - unlisted | {"core"}
    for page in pages - {"core"}:
        text = PAGES[f"reference/{page}.md"].read_text(encoding="utf-8")
        assert f".. automodule:: ate_dispatcher.{page}\n" in text


def test_what_is_included_is_there():
    """Chapters that come from the README, which is their one source, have not lost their marks."""
    readme = (PROJECT / "README.md").read_text(encoding="utf-8")
    marks = [
        [mark.replace('\\"', '"') for mark in found]
        for page in PAGES.values()
        for found in INCLUDED.findall(page.read_text(encoding="utf-8"))
    ]
    assert len(marks) >= 8
    for begin, end in marks:
        assert len(readme.split(begin, 1)[1].split(end, 1)[0]) > 500, begin


def test_the_picture_is_what_its_script_draws(tmp_path):
    """A picture is changed by changing its script."""
    (tmp_path / "threads.py").write_bytes((DOCS / "pictures" / "threads.py").read_bytes())
    command = [sys.executable, str(tmp_path / "threads.py")]
    subprocess.run(command, check=True, timeout=60)
    assert (tmp_path / "threads.svg").read_bytes() == (
        DOCS / "pictures" / "threads.svg"
    ).read_bytes()


def test_the_errors_that_pages_name_exist():
    """No error is mentioned that one would look for in vain."""
    ours = "".join(page.read_text(encoding="utf-8") for page in PAGES.values())
    named = set(re.findall(r"`([A-Z]\w+Error)`", ours))
    assert named
    known = {*vars(ate_dispatcher), *vars(builtins)}
    assert named - known == set()
