"""What only the promises need: the mark of a test that takes long by its nature."""

from __future__ import annotations

import os

import pytest


def pytest_configure(config):
    config.addinivalue_line("markers", "slow: takes seconds by its nature; run with ATE_SLOW=1")


def pytest_collection_modifyitems(items):
    if os.environ.get("ATE_SLOW") == "1":
        return
    for item in items:
        if item.get_closest_marker("slow"):
            item.add_marker(pytest.mark.skip(reason="takes ten seconds: set ATE_SLOW=1"))
