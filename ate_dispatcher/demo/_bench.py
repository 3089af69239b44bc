"""The bench file of as many simulated instruments as asked for."""

from __future__ import annotations

from pathlib import Path
from typing import List, NamedTuple

__all__ = ["Place", "places", "write_bench"]

TEMPLATE = Path(__file__).with_name("bench.yaml")


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
        resource = f"TCPIP0::192.0.2.{site + 1}::{kind}::INSTR"
        laid.append(Place(f"{kind}{site}", kind, site, resource))
    return laid


def write_bench(path: Path, bench: List[Place]) -> None:
    """Write the bench file that PyVISA-sim reads: the device types and one resource a place."""
    resources = "".join(f"  {place.resource}:\n    device: {place.kind}\n" for place in bench)
    text = TEMPLATE.read_text(encoding="utf-8")
    path.write_text(text.replace("resources: {}", "resources:\n" + resources), encoding="utf-8")
