"""``ate-dispatcher demo``: a bench of simulated SCPI instruments behind PyVISA.

_bench        the bench file of as many instruments as asked for
_instruments  producers that own one VISA session each, and how they misbehave
_listeners    the CSV file
_display      the live table and the summary
_run          the script itself
"""

from ._run import run_demo

__all__ = ["run_demo"]
