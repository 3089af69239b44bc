"""The bench file for as many simulated instruments as asked for."""

from __future__ import annotations

from pathlib import Path
from typing import List, NamedTuple, Tuple

__all__ = ["BENCH", "CHAMBER", "SHARED_BUS", "Place", "places", "write_bench"]

BENCH = Path(__file__).with_name("bench.yaml")

CHAMBER = "TCPIP0::chamber.example::inst0::INSTR"
"""VISA resource of the chamber that all sites share."""

SHARED_BUS = "GPIB0"
"""What the multimeters of the first two sites hang on, so that they measure in turn."""


class Place(NamedTuple):
    """One instrument on the bench: its name, kind, site and VISA resource, and what it shares."""

    name: str
    kind: str
    site: int
    resource: str
    shares: Tuple[str, ...] = ()


def places(devices: int) -> List[Place]:
    """Lay out a bench: a multimeter and a power supply for each site, site by site."""
    laid = []
    for number in range(devices):
        kind, site = ("dmm", "psu")[number % 2], number // 2
        name = f"{kind}{site}"
        shares = (SHARED_BUS,) if kind == "dmm" and site < 2 and devices > 2 else ()
        laid.append(Place(name, kind, site, f"TCPIP0::{name}.example::inst0::INSTR", shares))
    return laid


def write_bench(path: Path, bench: List[Place]) -> None:
    """Write the bench file for PyVISA-sim: the package's own, with a resource for each place."""
    text = BENCH.read_text(encoding="utf-8")
    more = [place for place in bench if f"{place.resource}:" not in text]
    text += "".join(f"  {place.resource}:\n    device: {place.kind}\n" for place in more)
    path.write_text(text, encoding="utf-8")
