"""The bench file for as many simulated instruments as asked for."""

from __future__ import annotations

from pathlib import Path
from typing import List, NamedTuple

__all__ = ["BENCH", "Place", "places", "write_bench"]

BENCH = Path(__file__).with_name("bench.yaml")


class Place(NamedTuple):
    """One instrument on the bench: its name, kind, site and VISA resource."""

    name: str
    kind: str
    site: int
    resource: str


def places(devices: int) -> List[Place]:
    """Lay out a bench: a multimeter and a power supply for each site, site by site."""
    laid = []
    for number in range(devices):
        kind, site = ("dmm", "psu")[number % 2], number // 2
        name = f"{kind}{site}"
        laid.append(Place(name, kind, site, f"TCPIP0::{name}.example::inst0::INSTR"))
    return laid


def write_bench(path: Path, bench: List[Place]) -> None:
    """Write the bench file for PyVISA-sim: the package's own, with a resource for each place."""
    text = BENCH.read_text(encoding="utf-8")
    more = [place for place in bench if f"{place.resource}:" not in text]
    text += "".join(f"  {place.resource}:\n    device: {place.kind}\n" for place in more)
    path.write_text(text, encoding="utf-8")
