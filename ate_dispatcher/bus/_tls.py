"""TLS for drivers: the options of a URL, and the context that they make."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Dict, Mapping

from .._exceptions import BusURLError
from ._url import BusURL, OptionType, flag, text

if TYPE_CHECKING:
    import ssl

__all__ = ["TLS_OPTIONS", "refuse_tls", "tls_context"]

TLS_OPTIONS: Dict[str, OptionType] = {
    "tls_ca": text,
    "tls_cert": text,
    "tls_key": text,
    "tls_verify": flag,
}
"""Files of the certificates to trust, of our own certificate and its key; whether the broker's
certificate is verified (it is, unless ``tls_verify=no``)."""


def refuse_tls(url: BusURL, settings: Mapping[str, Any], instead: str) -> None:
    """Raise `BusURLError` if a URL without TLS has one of its options."""
    for name in TLS_OPTIONS:
        if name in settings:
            raise BusURLError(
                f"the option {name!r} needs {instead}://, {url.scheme}:// is not encrypted"
            )


def tls_context(settings: Mapping[str, Any]) -> ssl.SSLContext:
    """Make the context that a URL's options ask for.

    Raises
    ------
    BusURLError
        A file cannot be read, or holds no certificate.
    """
    import ssl

    try:
        context = ssl.create_default_context(cafile=settings.get("tls_ca"))
        if "tls_cert" in settings:
            context.load_cert_chain(settings["tls_cert"], settings.get("tls_key"))
    except OSError as error:  # ssl.SSLError is one
        files = [str(settings[name]) for name in TLS_OPTIONS if name in settings]
        raise BusURLError(f"{', '.join(files)} cannot be used for TLS: {error}") from None
    if not settings.get("tls_verify", True):
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
