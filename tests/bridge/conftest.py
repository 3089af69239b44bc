"""What the tests of the bridge share: a bus in memory, a host and a bridge on it."""

from __future__ import annotations

import uuid

import pytest

from ate_dispatcher.bridge import AgentHost, Bridge
from ate_dispatcher.bus import Distributer

NEVER = 3600  # a heartbeat in seconds: no pause of this machine makes a host look lost


@pytest.fixture
def url():
    return f"memory://{uuid.uuid4().hex}"


@pytest.fixture
def host(url):
    with AgentHost(url, name="rack2", heartbeat=NEVER) as host:
        yield host


@pytest.fixture
def bridge(dispatcher, url):
    with Bridge(dispatcher, url, name="bridge") as bridge:
        yield bridge


@pytest.fixture
def stranger(url):
    """Somebody else on the same bus."""
    with Distributer(url) as bus:
        yield bus
