"""What records say is text, never markup: escaping for Markdown, LaTeX and XML."""

from __future__ import annotations

import re

_LATEX = {
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
    **{"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"},
    **{"<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}"},
    **{"▲": r"$\blacktriangle$", "▼": r"$\blacktriangledown$", "·": r"$\cdot$", "°": r"$^\circ$", "†": r"$\dagger$"},
    **{"Δ": r"$\Delta$", "↑": r"$\uparrow$", "↓": r"$\downarrow$", "−": "$-$", "–": "--", "—": "---"},
    **{"├": "", "└": "", "×": r"$\times$", "σ": r"$\sigma$"},
}
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def markdown(text: str) -> str:
    """Text for GitHub Markdown. Underscores inside words and lone brackets are text already."""
    for sign in ("\\", "`", "*", "|", "~"):
        text = text.replace(sign, f"\\{sign}")
    text = re.sub(r"(?<!\w)_|_(?!\w)", r"\\_", text).replace("](", "]\\(")
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def latex(text: str) -> str:
    """Text for LaTeX with amssymb; signs of the tables become mathematics."""
    return "".join(_LATEX.get(sign, sign) for sign in text)


def xml(text: str) -> str:
    """Text without the characters that XML 1.0 cannot hold; the writer escapes the rest."""
    return _NOT_XML.sub("\ufffd", text)
