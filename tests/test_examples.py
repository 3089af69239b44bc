"""Every example runs, as a user would run it."""

from __future__ import annotations

import csv
import pathlib
import subprocess
import sys

import pytest

EXAMPLES = pathlib.Path(__file__).parent.parent / "examples"


def run(name, folder):
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / name)],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=folder,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_first(tmp_path):
    """The shortest one prints what the README says it does."""
    assert run("first.py", tmp_path).splitlines() == [
        "voltage: 5.01 V",
        "voltage: 5.01 V",
        "COMPLETE {'dmm0': 5.01, 'dmm1': 5.01} missing: ()",
    ]


def test_the_readme_shows_the_first_example():
    """One text, in two places: the README's first block is examples/first.py."""
    readme = (EXAMPLES.parent / "README.md").read_text(encoding="utf-8")
    shown = readme.split("```python\n", 1)[1].split("```", 1)[0]
    code = (EXAMPLES / "first.py").read_text(encoding="utf-8").split('"""\n\n', 1)[1]
    assert shown == code


def test_bench(tmp_path):
    """The one to copy measures on four sites, names who is missing, and fills its file."""
    pytest.importorskip("pyvisa", reason="needs the extra demo (pyvisa)")
    pytest.importorskip("pyvisa_sim", reason="needs the extra demo (pyvisa-sim)")
    said = run("bench.py", tmp_path)
    assert "voltage COMPLETE {'dmm0': 5.003, 'dmm1': 5.003" in said
    assert "EXPIRED missing: dmm0, dmm1, dmm2, dmm3" in said
    with open(tmp_path / "results.csv", newline="") as file:
        rows = list(csv.reader(file))
    assert len(rows) == 4 + 4 + 2 + 4
    assert {row[2] for row in rows} == {"OK", "TIMEOUT"}
    assert len((EXAMPLES / "bench.py").read_text(encoding="utf-8").splitlines()) < 100
