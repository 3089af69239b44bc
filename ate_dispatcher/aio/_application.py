"""`DistributionApplication` for asyncio."""

from __future__ import annotations

from typing import Any, Callable, Optional

from ..application import DistributionApplication as ThreadedApplication
from ..application import SocketProvider
from ..application._async_socket import AsyncSocket as Socket
from ._threads import in_thread

__all__ = ["DistributionApplication", "Socket"]


class DistributionApplication:
    """`ate_dispatcher.application.DistributionApplication`, started and stopped by coroutines.

    Its functions run where they do in the thread-based form: plain ones on a thread each, ``async
    def`` ones on the application's own loop, not on the one that starts it.

    Parameters
    ----------
    socket_provider, name, on_error, dead_letter
        As in the thread-based form.
    """

    def __init__(
        self,
        socket_provider: Optional[SocketProvider] = None,
        *,
        name: str = "application",
        on_error: str = "log",
        dead_letter: Optional[str] = None,
    ) -> None:
        self.threaded = ThreadedApplication(
            socket_provider, name=name, on_error=on_error, dead_letter=dead_letter
        )

    def producer(self, **options: Any) -> Callable[[Any], Any]:
        """Declare a function that is called once; with the options of the thread-based form."""
        return self.threaded.producer(**options)

    def application(self, topics: Any, **options: Any) -> Callable[[Any], Any]:
        """Declare a function that is called for messages."""
        return self.threaded.application(topics, **options)

    async def start(self) -> None:
        """Run until `stop`, or the end of all functions; cancelled, it stops what it started.

        Signals are the business of who runs the event loop: ``asyncio.run`` cancels on Ctrl-C.
        """
        async with self:
            run = self.threaded._run
            if run is not None:  # else it has ended already
                await in_thread(run.wait)

    async def stop(self, timeout: Optional[float] = 5.0) -> bool:
        """Finish what is in hand, and stop; whether all has ended within `timeout` seconds."""
        return await in_thread(self.threaded.stop, timeout)

    async def __aenter__(self) -> DistributionApplication:
        await in_thread(self.threaded.__enter__, undo=lambda threaded: threaded.stop())
        return self

    async def __aexit__(self, kind: Any, *error: Any) -> None:
        await in_thread(self.threaded.__exit__, kind, *error)

    def __repr__(self) -> str:
        return repr(self.threaded)
