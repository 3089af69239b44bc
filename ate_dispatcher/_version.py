"""The version, once."""

__all__ = ["VERSION_STR", "__version__"]

VERSION_STR = (0, 2, 0)
__version__ = "0.2.0"
