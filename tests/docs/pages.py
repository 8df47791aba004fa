"""The pages of the documentation, taken apart: blocks of code, code within sentences, headings and links."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]

PAGES = sorted(
    path
    for path in [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]
    # The figures' page is written by the benchmarks; it is checked for its links alone.
    if path.name != "benchmarks.md"
)

_BLOCK = re.compile(r"^(?P<indent> *)```(?P<info>[^\n]*)\n(?P<body>.*?)^(?P=indent)``` *$", re.DOTALL | re.MULTILINE)
_INLINE = re.compile(r"(?<!`)`([^`\n]+(?:\n[^`\n]+)?)`(?!`)")
_TITLE = re.compile(r'title="(?P<title>[^"]*)"')
_HEADING = re.compile(r"^#{1,6} (.+)$", re.MULTILINE)
_LINK = re.compile(r"\[[^\]]*\]\((?P<target>[^)\s]+)\)")
_COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)


class Block(NamedTuple):
    """A fenced block of code."""

    page: str
    number: int
    language: str
    title: str
    """What the block is, from ``title="..."``; empty without one."""
    body: str

    def __str__(self) -> str:
        return f"{self.page}-{self.number}"


def blocks(name: str, text: str) -> list[Block]:
    """Every block of a page."""
    found = []
    for number, match in enumerate(_BLOCK.finditer(text), start=1):
        title = _TITLE.search(match["info"])
        language = match["info"].split()[0] if match["info"].split() else ""
        found.append(Block(name, number, language, title["title"] if title else "", textwrap.dedent(match["body"])))
    return found


def prose(text: str) -> str:
    """A page without its blocks of code and comments."""
    return _COMMENT.sub("", _BLOCK.sub("", text))


def code_in(text: str) -> list[str]:
    """The code within the sentences of a page."""
    return [" ".join(code.split()) for code in _INLINE.findall(prose(text))]


def headings(text: str) -> list[str]:
    """The headings of a page."""
    return _HEADING.findall(prose(text))


def links(text: str) -> list[str]:
    """What the links and pictures of a page point at."""
    return [match["target"] for match in _LINK.finditer(_INLINE.sub("", prose(text)))]


def all_blocks(*languages: str) -> list[Block]:
    """The blocks of all pages in some languages."""
    found = [block for path in PAGES for block in blocks(path.name, path.read_text("utf-8"))]
    return [block for block in found if block.language in languages]
