"""Break each promise once, in a scratch copy, and see that its test notices.

    python tests/mutants/run.py [WORD]

Fails if a test stays green under its mutant, is red without it, or an edit no longer applies
exactly once. WORD chooses the mutants whose promise contains it.
"""

from __future__ import annotations

import concurrent.futures
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
from typing import List

from mutants import MUTANTS, Mutant

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
SECONDS = 60


def pytest(folder: pathlib.Path, *tests: str) -> subprocess.CompletedProcess[str]:
    """Run tests against the package in `folder`."""
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider"]
    environment = dict(os.environ, PYTHONPATH=str(folder), PYTHONDONTWRITEBYTECODE="1")
    return subprocess.run(
        [*command, "-o", "timeout=15", *tests],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=SECONDS * 5,
        check=False,
        stdin=subprocess.DEVNULL,
    )


def copy(folder: pathlib.Path) -> None:
    """Make a scratch copy of what the tests need."""
    ignore = shutil.ignore_patterns("__pycache__")
    for name in ("ate_dispatcher", "tests"):
        shutil.copytree(ROOT / name, folder / name, ignore=ignore)
    shutil.copy(ROOT / "setup.cfg", folder)


def verdict(mutant: Mutant) -> str:
    """Apply one mutant; empty if its test went red, otherwise what is wrong."""
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        copy(folder)
        path = folder / "ate_dispatcher" / mutant.file
        text = path.read_text(encoding="utf-8")
        if text.count(mutant.old) != 1:
            return f"the edit applies {text.count(mutant.old)} times in {mutant.file}"
        path.write_text(text.replace(mutant.old, mutant.new), encoding="utf-8")
        done = pytest(folder, mutant.test)
        if done.returncode == 0:
            return f"{mutant.test} stayed green"
        if done.returncode == 1:  # a test failed; a hang is ended by its time limit and fails too
            return ""
        return (
            f"{mutant.test} ended with {done.returncode}:\n{done.stdout[-600:]}{done.stderr[-600:]}"
        )


def main(words: List[str]) -> int:
    """Run them all, as many at a time as there are processors."""
    chosen = [m for m in MUTANTS if all(word in m.promise for word in words)]
    with tempfile.TemporaryDirectory() as name:
        copy(pathlib.Path(name))
        clean = pytest(pathlib.Path(name), *sorted({mutant.test for mutant in chosen}))
    if clean.returncode:
        print(clean.stdout[-3000:], "red without any mutant", sep="\n")
        return 1
    survivors = 0
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for mutant, wrong in zip(chosen, pool.map(verdict, chosen)):
            print(f"{'SURVIVED' if wrong else 'killed':9}{mutant.promise}", wrong, flush=True)
            survivors += bool(wrong)
    promises = {mutant.promise.split()[0] for mutant in MUTANTS}
    unguarded = [f"C{n}" for n in range(1, 15) if f"C{n}" not in promises]
    if unguarded:
        print(f"no mutant for {', '.join(unguarded)}")
    print(f"{len(chosen) - survivors} of {len(chosen)} mutants killed")
    return 1 if survivors or unguarded else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
