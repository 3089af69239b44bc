"""``ate-dispatcher demo``: a bench of simulated SCPI instruments behind PyVISA.

bench.yaml    what PyVISA-sim simulates
_bench        the bench file for as many instruments as asked for
_script       what each measurement is to meet: its noise and its fault
_instruments  producers that own one VISA session each
_chamber      the chamber that all sites share
_listeners    the CSV file
_display      the live table and the summary
_places       where the instruments run: in this process, or in one a site
_run          the demo itself
"""

from ._run import run_demo

__all__ = ["run_demo"]
