"""What the tests of recordings share."""

from __future__ import annotations

import pytest

from ate_dispatcher.record import CSVRecorder, JSONLinesRecorder, SQLiteRecorder

KINDS = {"jsonl": JSONLinesRecorder, "csv": CSVRecorder, "sqlite": SQLiteRecorder}


@pytest.fixture(params=sorted(KINDS))
def kind(request):
    """Every recorder, one after another."""
    return KINDS[request.param]


@pytest.fixture
def path(kind, tmp_path):
    """A path for a recording of that kind, with its usual suffix."""
    return tmp_path / f"run.{next(name for name, k in KINDS.items() if k is kind)}"
