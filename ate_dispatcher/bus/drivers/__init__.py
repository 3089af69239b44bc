"""One file a broker. See `ate_dispatcher.bus.Driver` for what each has to do."""

__all__ = ()
