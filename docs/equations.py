"""Markdown extension: equations of TeX as MathML, which browsers typeset without scripts or fonts from elsewhere.

A block of code named ``math`` and text between dollar signs are equations, as on GitHub.
"""

import re
from typing import Any

from latex2mathml.converter import convert
from markdown import Extension, Markdown
from markdown.inlinepatterns import InlineProcessor
from markdown.preprocessors import Preprocessor

BLOCK = re.compile(r"^( *)```math\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
INLINE = r"(?<![\\\w$])\$([^\s$](?:[^$\n]*[^\s$])?)\$(?!\w)"


class Blocks(Preprocessor):
    """Blocks of code named ``math``."""

    def run(self, lines: list[str]) -> list[str]:
        """The lines, with a placeholder for each block."""
        return BLOCK.sub(self._typeset, "\n".join(lines)).split("\n")

    def _typeset(self, found: re.Match[str]) -> str:
        equation = f'<div class="equation">{convert(found[2].strip(), display="block")}</div>'
        return f"\n{found[1]}{self.md.htmlStash.store(equation)}\n"


class Inline(InlineProcessor):
    """Text between dollar signs."""

    def handleMatch(self, m: re.Match[str], data: str) -> tuple[str, int, int]:
        """A placeholder for an equation."""
        return self.md.htmlStash.store(convert(m[1])), m.start(0), m.end(0)


class Equations(Extension):
    """Both."""

    def extendMarkdown(self, md: Markdown) -> None:
        """Blocks after white space (30), which removes placeholders, and before other code (25); text after code in backticks (190)."""
        md.preprocessors.register(Blocks(md), "equation-blocks", 28)
        md.inlinePatterns.register(Inline(INLINE, md), "equations", 185)


def makeExtension(**settings: Any) -> Equations:
    """Called by Markdown."""
    return Equations(**settings)
