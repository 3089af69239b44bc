"""Draw which threads there are and what they hand to each other.

    python docs/pictures/threads.py

writes ``threads.svg`` beside this file; a test holds the two together. Only the standard library.
"""

from __future__ import annotations

from html import escape
from pathlib import Path

HERE = Path(__file__).resolve().parent
WIDTH, HEIGHT = 960, 430
INK, PAPER, SHADE, ACCENT = "#1f2933", "#ffffff", "#eef2f6", "#2a6f97"


def box(x, y, width, height, title, *lines, fill=PAPER):
    """Draw a thread: its name, and what it does."""
    shapes = [
        f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="6" fill="{fill}" '
        f'stroke="{INK}"/>',
        f'<text x="{x + width / 2}" y="{y + 21}" class="title">{escape(title)}</text>',
    ]
    shapes += [
        f'<text x="{x + width / 2}" y="{y + 41 + 17 * number}">{escape(line)}</text>'
        for number, line in enumerate(lines)
    ]
    return shapes


def arrow(x1, y1, x2, y2, label, *, by=(0, -8), dashed=False):
    """Draw a hand-over, with what is handed over, that far from the middle of the line."""
    dash = ' stroke-dasharray="5 4"' if dashed else ""
    middle_x, middle_y = (x1 + x2) / 2, (y1 + y2) / 2
    return [
        f'<line x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}" class="arrow"{dash}/>',
        f'<text x="{middle_x + by[0]}" y="{middle_y + by[1]}" class="label">{escape(label)}</text>',
    ]


def mailbox(x, y):
    """Draw the queue in front of a thread."""
    return [
        f'<rect x="{x + 9 * number}" y="{y}" width="7" height="26" fill="{ACCENT}"/>'
        for number in range(3)
    ]


def picture():
    """Give the whole drawing as text."""
    shapes = []
    shapes += box(15, 150, 165, 84, "your script", "send_request(…)", "request.wait()")
    shapes += box(
        330, 130, 200, 124, "dispatcher", "routes, deadlines, rows;", "runs none of", "your code"
    )
    for number, (name, what) in enumerate(
        (("producer dmm0", "your measurement"), ("producer dmm1", "your measurement"))
    ):
        y = 15 + 95 * number
        shapes += box(730, y, 215, 66, name, what, fill=SHADE)
        shapes += mailbox(695, y + 20)
        shapes += arrow(
            532, 150 + 20 * number, 688, y + 33, "work" if not number else "", by=(-24, -6)
        )
    shapes += arrow(728, 165, 532, 205, "outcome, stamped", by=(40, 19))
    for number, (name, what) in enumerate(
        (("listener log", "your file, database"), ("listener screen", "your display"))
    ):
        y = 235 + 95 * number
        shapes += box(730, y, 215, 66, name, what, fill=SHADE)
        shapes += mailbox(695, y + 20)
        shapes += arrow(
            532, 222 + 16 * number, 688, y + 33, "result" if number else "", by=(-28, 12)
        )
    shapes += mailbox(296, 178)
    shapes += arrow(182, 175, 290, 185, "request")
    shapes += box(
        330, 330, 200, 84, "callback thread", "observers, on_cancel,", "futures", fill=SHADE
    )
    shapes += arrow(430, 256, 430, 328, "")
    shapes += ['<text x="478" y="297" class="label">what happened</text>']
    shapes += arrow(328, 238, 182, 222, "ended", by=(0, 19), dashed=True)
    shapes += mailbox(20, 352)
    shapes += [
        '<text x="55" y="370" style="text-anchor: start">a mailbox: put() never waits</text>'
    ]
    shapes += [
        f'<rect x="20" y="390" width="25" height="20" rx="3" fill="{SHADE}" stroke="{INK}"/>',
        '<text x="55" y="405" style="text-anchor: start">runs your code</text>',
    ]
    style = (
        f"text {{ font: 13px sans-serif; fill: {INK}; text-anchor: middle }} "
        f".title {{ font-weight: bold }} .label {{ font-style: italic; fill: {ACCENT} }} "
        f".arrow {{ stroke: {ACCENT}; stroke-width: 1.6; marker-end: url(#tip) }}"
    )
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
            'aria-label="The threads of a dispatcher and what they hand to each other">',
            f"<style>{style}</style>",
            '<defs><marker id="tip" markerWidth="9" markerHeight="8" refX="8" refY="4" '
            f'orient="auto"><path d="M0,0 L9,4 L0,8 z" fill="{ACCENT}"/></marker></defs>',
            f'<rect width="{WIDTH}" height="{HEIGHT}" fill="{PAPER}"/>',
            *shapes,
            "</svg>",
            "",
        ]
    )


if __name__ == "__main__":
    (HERE / "threads.svg").write_bytes(picture().encode())
