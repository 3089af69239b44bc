"""The conda recipe: built from the checkout, installed from a channel, run; all of it offline.

A channel of the test's own stands for conda-forge. Its ``python`` is a virtual environment of the
interpreter that runs the tests, made relocatable; ``pip``, ``setuptools`` and
``typing_extensions`` are what this environment has of them.
"""

from __future__ import annotations

import asyncio
import importlib.metadata
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import ate_dispatcher

PROJECT = Path(__file__).resolve().parents[1]
PYTHON = f"{sys.version_info[0]}.{sys.version_info[1]}"
DISTRIBUTIONS = [
    ("pip", "pip"),
    ("setuptools", "setuptools"),
    ("typing-extensions", "typing_extensions"),
]
DISPATCH = """
import pathlib, sys
import ate_dispatcher
assert pathlib.Path(sys.prefix) in pathlib.Path(ate_dispatcher.__file__).parents
with ate_dispatcher.ATEDispatcher() as dispatcher:
    dispatcher.producer("voltage")(lambda topic, channel: 5.0 + channel)
    request = dispatcher.send_request("voltage", 1).gather(10)
    print(*request.values.values(), ate_dispatcher.__version__)
"""

pytestmark = [
    pytest.mark.skipif(os.environ.get("ATE_SLOW") != "1", reason="takes a minute: set ATE_SLOW=1"),
    pytest.mark.skipif(sys.platform == "win32", reason="its stand-in for python needs symlinks"),
    pytest.mark.timeout(300),
]


def add_distribution(rattler_build, name, conda_name, folder, channel):
    """Put an installed distribution into the channel, as a noarch package."""
    files = folder / conda_name
    found = importlib.metadata.distribution(name)
    for entry in found.files:
        if ".." not in entry.parts and "__pycache__" not in entry.parts:
            target = files / "site-packages" / entry
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(str(entry.locate()), target)
    rattler_build.assemble_package(
        name=conda_name,
        version=found.version,
        target_platform="noarch",
        build_string="py_0",
        output_dir=channel,
        files_dir=files,
        depends=["python"],
        noarch="python",
    )


def add_python(rattler_build, platform, folder, channel):
    """Put this interpreter into the channel: links to it, in a virtual environment."""
    files = folder / "python"
    (files / "bin").mkdir(parents=True)
    (files / "lib" / f"python{PYTHON}" / "site-packages").mkdir(parents=True)
    (files / "lib" / f"python{PYTHON}" / "site-packages" / "README.txt").write_text("packages\n")
    interpreter = Path(getattr(sys, "_base_executable", sys.executable)).resolve()
    for name in ("python", "python3", f"python{PYTHON}"):
        (files / "bin" / name).symlink_to(interpreter)
    (files / "pyvenv.cfg").write_text(
        f"home = {interpreter.parent}\ninclude-system-site-packages = false\n", encoding="utf-8"
    )
    rattler_build.assemble_package(
        name="python",
        version=".".join(map(str, sys.version_info[:3])),
        target_platform=platform,
        build_string="stub_0",
        output_dir=channel,
        files_dir=files,
    )


def run(prefix, *command):
    """Run what was installed, in its folder and with nothing of this environment in its own."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(
        [str(word) for word in command],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=prefix,
        env=clean,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture
def tools():
    rattler = pytest.importorskip("rattler", reason="needs the extra dev (py-rattler)")
    rattler_build = pytest.importorskip(
        "rattler_build", reason="needs the extra dev (py-rattler-build)"
    )
    for name, _ in DISTRIBUTIONS:
        try:  # to import setuptools would change distutils for all tests
            importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            pytest.skip(f"needs the extra dev ({name})")
    if int(importlib.metadata.version("setuptools").split(".")[0]) < 71:
        pytest.skip("needs the extra dev (setuptools from 71 on, which makes wheels by itself)")
    return rattler, rattler_build


def test_the_recipe_builds_and_its_package_works(tools, tmp_path, monkeypatch):
    """Built, its own tests passed, indexed, solved for, installed into a prefix, and run there."""
    rattler, rattler_build = tools
    from rattler.index import index_fs

    # Tools that keep caches in the home directory keep them here, and ask nobody on the net.
    monkeypatch.setenv("RATTLER_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    platform = str(rattler.Subdir.current())
    channel = tmp_path / "channel"
    (channel / "noarch").mkdir(parents=True)
    (channel / platform).mkdir()
    add_python(rattler_build, platform, tmp_path, channel / platform)
    for name, conda_name in DISTRIBUTIONS:
        add_distribution(rattler_build, name, conda_name, tmp_path, channel / "noarch")
    asyncio.run(index_fs(channel))

    source = tmp_path / "source"
    litter = shutil.ignore_patterns(".*", "__pycache__", "*.egg-info", "build", "dist")
    shutil.copytree(PROJECT, source, ignore=litter)
    recipe = rattler_build.Stage0Recipe.from_file(source / "recipe" / "recipe.yaml")
    (rendered,) = recipe.render(rattler_build.VariantConfig({"python_min": [PYTHON]}))
    built = rendered.run_build(
        tool_config=rattler_build.ToolConfiguration(test_strategy="native"),
        output_dir=tmp_path / "built",
        channels=[channel.as_uri()],
    )
    (package,) = map(Path, built.packages)
    assert package.parent.name == "noarch"
    assert package.name.startswith(f"ate-dispatcher-{ate_dispatcher.__version__}-")
    names = {Path(name).as_posix() for name in rattler_build.Package.from_file(package).files}
    tops = {name.split("/")[1] for name in names if name.startswith("site-packages/")}
    assert {"ate_dispatcher", f"ate_dispatcher-{ate_dispatcher.__version__}.dist-info"} == tops
    assert {"site-packages/ate_dispatcher/py.typed"} <= names

    shutil.copy(package, channel / "noarch")
    asyncio.run(index_fs(channel, force=True))
    records = asyncio.run(rattler.solve([channel.as_uri()], ["ate-dispatcher"]))
    assert {record.name.normalized for record in records} == {
        "ate-dispatcher",
        "python",
        "typing_extensions",
    }
    prefix = tmp_path / "prefix"
    asyncio.run(
        rattler.install(
            records, prefix, cache_dir=tmp_path / "cache" / "installed", show_progress=False
        )
    )
    assert "usage: ate-dispatcher" in run(prefix, prefix / "bin" / "ate-dispatcher", "--help")
    said = run(prefix, prefix / "bin" / "python", "-c", DISPATCH)
    assert said == f"6.0 {ate_dispatcher.__version__}\n"
