"""The README's table of drivers, made of what each says of itself in its `Capabilities`.

    python tests/driver_table.py

writes it into the README; a test holds it there.
"""

from __future__ import annotations

import pathlib
import re
from typing import List

from ate_dispatcher import MissingExtraError
from ate_dispatcher.bus import BusURL
from ate_dispatcher.bus._registry import OURS, driver_class

README = pathlib.Path(__file__).resolve().parents[1] / "README.md"
PLACE = re.compile(r"(<!-- driver table begin -->\n)(.*?)(<!-- driver table end -->)", re.DOTALL)
HEAD = [
    "| URL | extra | delivery | in a group | backlog | survives | retains | counts | payload |",
    "|---|---|---|---|---|---|---|---|---|",
]


def row(scheme: str) -> str:
    """Give the row of a scheme's driver.

    Raises
    ------
    MissingExtraError
        Its client library is not installed.
    """
    driver = driver_class(BusURL(f"{scheme}://"))
    can = driver.capabilities
    names = ", ".join(f"`{name}://`" for name, entry in OURS.items() if entry == OURS[scheme])
    extra = OURS[scheme][2]
    limit = "any" if can.max_payload is None else f"{can.max_payload:,} bytes"
    cells = [
        names,
        f"`{extra}`" if extra else "",
        can.delivery,
        can.group_delivery or "no groups",
        "yes" if can.backlog else "no",
        "yes" if can.persistent else "no",
        "yes" if can.retained else "no",
        "yes" if can.introspection else "no",
        limit,
    ]
    return f"| {' | '.join(cells)} |"


def schemes() -> List[str]:
    """Give one scheme of each driver."""
    first = {}
    for scheme, entry in OURS.items():
        first.setdefault(entry, scheme)
    return list(first.values())


def rows_at_hand() -> List[str]:
    """Give the rows of the drivers whose libraries are installed."""
    found = []
    for scheme in schemes():
        try:
            found.append(row(scheme))
        except MissingExtraError:
            pass
    return found


if __name__ == "__main__":
    text = README.read_text(encoding="utf-8")
    table = "\n".join([*HEAD, *map(row, schemes())])
    README.write_text(PLACE.sub(rf"\g<1>{table}\n\g<3>", text), encoding="utf-8")
