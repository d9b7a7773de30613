"""What records say is text, never markup: escaping for Markdown, LaTeX and XML."""

from __future__ import annotations

import re

_LATEX = {
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
    **{"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"},
    **{"<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}", "`": r"\textasciigrave{}"},
    **{"▲": r"$\blacktriangle$", "▼": r"$\blacktriangledown$", "·": r"$\cdot$", "°": r"$^\circ$", "†": r"$\dagger$"},
    **{"Δ": r"$\Delta$", "↑": r"$\uparrow$", "↓": r"$\downarrow$", "−": "$-$", "–": "--", "—": "---"},
    **{"├": "", "└": "", "\0": "{}", "×": r"$\times$", "σ": r"$\sigma$"},
}
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def markdown(text: str) -> str:
    """Text for GitHub Markdown. Underscores inside words and lone brackets are text already."""
    for sign in ("\\", "`", "*", "|", "~"):
        text = text.replace(sign, f"\\{sign}")
    text = re.sub(r"(?<!\w)_|_(?!\w)", r"\\_", text).replace("](", "]\\(")
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def latex(text: str) -> str:
    """Text on one line for LaTeX with amssymb and T1; signs of the tables become mathematics.

    Letters that its fonts may not have become `?`: a name in another script must not stop a document.
    """
    plain = " ".join(text.split()).replace("--", "-\0-").replace("--", "-\0-")  # no dash out of two hyphens
    found = (_LATEX.get(sign, sign if " " <= sign <= "~" or "\xa0" <= sign <= "\xff" else "?") for sign in plain)
    return "".join(found)


def xml(text: str) -> str:
    """Text without the characters that XML 1.0 cannot hold; the writer escapes the rest."""
    return _NOT_XML.sub("\ufffd", text)
