"""Documents whose code is run: the README and the pages under docs/.

A ``text`` block right after a ``python`` block is what that one prints. Functions named ``test_…``
are called.
"""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional

PROJECT = Path(__file__).resolve().parents[1]
FENCED = re.compile(r"^```([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


class Block(NamedTuple):
    document: Path
    line: int
    code: str
    prints: Optional[str]


def blocks(document: Path, chapter: str = "") -> Dict[str, List[Block]]:
    """Give the python blocks of each chapter that has any.

    A chapter begins at each match of the regular expression, whose group is its name; without one
    the whole document is a chapter.
    """
    text = document.read_text(encoding="utf-8")
    found: Dict[str, List[Block]] = {}
    fences = list(FENCED.finditer(text))
    for fence, following in zip(fences, [*fences[1:], None]):
        if fence[1] != "python":
            continue
        prints = None
        if (
            following is not None
            and following[1] == "text"
            and not text[fence.end() : following.start()].strip()
        ):
            prints = following[2]
        before = text[: fence.start()]
        heading = re.findall(chapter, before, re.MULTILINE) if chapter else []
        line = before.count("\n") + 1
        found.setdefault(heading[-1] if heading else "first example", []).append(
            Block(document, line, fence[2], prints)
        )
    return found


def run(script: List[Block], name: str) -> None:
    """Run blocks in one namespace, tracebacks pointing into the document; compare what is shown."""
    namespace: Dict[str, Any] = {"__name__": name}
    for block in script:
        printed = io.StringIO()
        code = compile("\n" * block.line + block.code, str(block.document), "exec")
        known = set(namespace)
        with contextlib.redirect_stdout(printed):
            exec(code, namespace)
            for function in namespace.keys() - known:
                if function.startswith("test_"):
                    namespace[function]()
        if block.prints is not None:
            assert printed.getvalue() == block.prints, f"{block.document}, line {block.line}"
