"""What is released: one version everywhere, and distributions with all that belongs in them."""

from __future__ import annotations

import importlib.metadata
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

import ate_dispatcher

PROJECT = Path(__file__).resolve().parents[1]
FOLDERS = ("ate_dispatcher", "benchmarks", "docs", "examples", "recipe", "tests")
TOP = {
    "CHANGELOG.md", "LICENSE", "MANIFEST.in", "PKG-INFO", "README.md", "pyproject.toml",
    "setup.cfg", "setup.py",
}  # fmt: skip
KINDS = {".css", ".html", ".js", ".md", ".png", ".py", ".rst", ".svg", ".typed", ".yaml"}
"""What kinds of files are ours: a build that picks up anything else has picked up litter."""


# ---- one version ---------------------------------------------------------------------------------


def read(name):
    return (PROJECT / name).read_text(encoding="utf-8")


def test_the_versions_agree():
    """One version: in the package, its metadata's source, the changelog and the recipe."""
    version = ate_dispatcher.__version__
    assert ".".join(map(str, ate_dispatcher.VERSION_STR)) == version
    assert "version = attr: ate_dispatcher._version.__version__" in read("setup.cfg")
    newest = re.search(r"^## \[(.+?)\] - (unreleased|\d{4}-\d\d-\d\d)$", read("CHANGELOG.md"), re.M)
    assert newest is not None
    assert newest[1] == version
    assert re.findall(r'^  version: "(.+)"$', read("recipe/recipe.yaml"), re.M) == [version]


def test_the_installed_metadata_agree():
    """What `pip` has written down is what the package says of itself, and of its licence."""
    try:
        metadata = importlib.metadata.metadata("ate-dispatcher")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("needs the package to be installed, not only to be on the path")
    assert metadata["Version"] == ate_dispatcher.__version__
    assert "MIT" in (metadata.get("License"), metadata.get("License-Expression"))
    assert metadata["Requires-Python"] == ">=3.8"
    required = importlib.metadata.requires("ate-dispatcher")
    assert [line for line in required if "extra ==" not in line] == ["typing-extensions"]


# ---- the distributions ---------------------------------------------------------------------------


def ours(folder):
    """Give the files of a folder, as a checkout has them."""
    litter = {"__pycache__", "_build"}
    return {
        path.relative_to(PROJECT).as_posix()
        for path in (PROJECT / folder).rglob("*")
        if path.is_file() and not litter & set(path.parts)
    }


@pytest.fixture(scope="module")
def distributions(tmp_path_factory):
    """Build both, the wheel from the source distribution; give the names in each."""
    for name in ("build", "setuptools"):
        try:  # to import setuptools would change distutils for all tests
            importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            pytest.skip(f"needs the extra dev ({name})")
    if int(importlib.metadata.version("setuptools").split(".")[0]) < 71:
        pytest.skip("needs the extra dev (setuptools from 71 on, which makes wheels by itself)")
    folder = tmp_path_factory.mktemp("release")
    source = folder / "source"
    source.mkdir()
    for name in sorted(TOP - {"PKG-INFO"}):
        shutil.copy(PROJECT / name, source)
    for name in FOLDERS:
        shutil.copytree(PROJECT / name, source / name, ignore=shutil.ignore_patterns("_build"))
    (source / "tests" / "__pycache__").mkdir(exist_ok=True)
    (source / "tests" / "__pycache__" / "litter.pyc").touch()
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder)]
    done = subprocess.run(
        [*command, str(source)], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = folder.glob("*.whl")
    (sdist,) = folder.glob("*.tar.gz")
    with zipfile.ZipFile(wheel) as opened:
        in_wheel = {name: opened.read(name) for name in opened.namelist()}
    with tarfile.open(sdist) as opened:
        in_sdist = {entry.name.split("/", 1)[1] for entry in opened if entry.isfile()}
    return in_wheel, in_sdist


@pytest.mark.timeout(300)
def test_the_source_distribution_is_the_checkout(distributions):
    """Tests, documentation, examples, benchmarks, recipe and licence are in it, litter is not."""
    _, found = distributions
    found = {name for name in found if not name.startswith("ate_dispatcher.egg-info/")}
    assert found == TOP.union(*(ours(folder) for folder in FOLDERS))
    assert {Path(name).suffix for name in found - TOP} <= KINDS


@pytest.mark.timeout(300)
def test_the_wheel_is_the_package(distributions):
    """Modules, type marker and data of the package, and the licence: nothing else is installed."""
    found, _ = distributions
    info = f"ate_dispatcher-{ate_dispatcher.__version__}.dist-info/"
    package = {name for name in found if not name.startswith(info)}
    assert package == ours("ate_dispatcher")
    data = {"py.typed", "demo/bench.yaml", "monitor/page/index.html"}
    assert {f"ate_dispatcher/{name}" for name in data} <= package
    (licence,) = (name for name in found if name.startswith(info) and name.endswith("/LICENSE"))
    assert found[licence].decode() == read("LICENSE")
    assert b"License" in found[info + "METADATA"]
