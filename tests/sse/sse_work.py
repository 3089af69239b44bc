"""Channels that processes of a pool can import."""

from __future__ import annotations

import os

from ate_dispatcher.sse import DataProcessingChannel


class Powers(DataProcessingChannel):
    """Raises numbers to a power, raises for text, and dies on request."""

    def __init__(self, power, *args, **options):
        super().__init__(*args, **options)
        self.power = power

    def adapt(self, msg):
        if msg.type == "die":
            os._exit(1)
        return {"event": msg.type, "data": msg.payload**self.power}
