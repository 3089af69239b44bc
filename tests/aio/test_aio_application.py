"""`aio.DistributionApplication`: applications that a coroutine starts and stops."""

from __future__ import annotations

import asyncio
import threading

import pytest

from ate_dispatcher import StateError
from ate_dispatcher.aio import DistributionApplication, Socket
from ate_dispatcher.aio._threads import in_thread
from ate_dispatcher.application import Message, SocketProviderFactory

BOUND = 60.0


@pytest.fixture
def provider():
    return SocketProviderFactory.from_url("memory://applications")


def run(coroutine):
    return asyncio.run(asyncio.wait_for(coroutine, BOUND))


def test_beside_a_block(provider):
    """Applications: ``async with`` runs it meanwhile; a socket asks, ``async with`` too."""
    app = DistributionApplication(provider, name="doubling")

    @app.application("double")
    async def double(message, socket, state):
        await socket.reply(message, 2 * message.payload)

    async def main():
        async with app, provider.async_socket() as socket:
            assert isinstance(socket, Socket)
            answers = [socket.request(Message(n, "double"), timeout=BOUND) for n in range(10)]
            assert [own.payload for own in await asyncio.gather(*answers)] == list(range(0, 20, 2))
        assert "not running" in repr(app)

    run(main())


def test_start_runs_until_all_have_ended(provider):
    """Applications: `start` returns when the last producer has."""
    app = DistributionApplication(provider)
    done = []

    @app.producer(state=done)
    def produce(socket, state):
        state.append(socket.name)

    async def main():
        await app.start()

    run(main())
    assert len(done) == 1


def test_stop_ends_start(provider):
    """Applications: `stop` from another task; `start` raises what stopped it."""
    app = DistributionApplication(provider)
    begun = threading.Event()

    @app.producer()
    async def forever(socket, state):
        begun.set()
        while await socket.sleep(0.01):
            pass

    async def main():
        starting = asyncio.ensure_future(app.start())
        assert await in_thread(begun.wait, BOUND)
        assert await app.stop()
        await starting
        assert await app.stop()

    run(main())


def test_what_raises_stops_it(provider):
    """Applications: with ``on_error="stop"`` the error comes out of `start`."""
    app = DistributionApplication(provider, on_error="stop")

    @app.producer()
    def fail(socket, state):
        raise LookupError("no instrument")

    with pytest.raises(LookupError, match="no instrument"):
        run(app.start())


def test_a_cancelled_start_stops(provider):
    """Cancelling: nothing runs on, whenever it comes."""
    app = DistributionApplication(provider)
    begun = threading.Event()
    ended = threading.Event()

    @app.producer()
    def forever(socket, state):
        begun.set()
        while socket.sleep(BOUND):
            pass
        ended.set()

    async def main():
        starting = asyncio.ensure_future(app.start())
        assert await in_thread(begun.wait, BOUND)
        starting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await starting
        assert await in_thread(ended.wait, BOUND)

    run(main())
    with pytest.raises(StateError, match="no functions"):
        run(DistributionApplication(provider).start())
