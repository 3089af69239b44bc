"""Restarts, processes and sites.

::

    decisions            _restart  _stalls  _meeting
    to a child process   _dialogue  _child  _link
    for users            _supervisor  _process  _barrier
"""

from .._backoff import Backoff
from ._barrier import SiteBarrier
from ._process import ProcessProducer
from ._restart import Restart
from ._supervisor import Supervised, Supervisor

__all__ = ["Backoff", "ProcessProducer", "Restart", "SiteBarrier", "Supervised", "Supervisor"]
