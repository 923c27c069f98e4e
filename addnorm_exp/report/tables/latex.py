"""Text for LaTeX: any name and note as plain ASCII, for every engine, without further packages."""

import re
import unicodedata

_LATEX = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': "''",
    "`": r"\`{}",
    "±": r"$\pm$",
    "×": r"$\times$",
    "·": r"$\cdot$",
    "–": r"\textendash{}",
    "—": r"\textemdash{}",
    "−": "$-$",
    "‘": "`",
    "’": "'",
    "“": "``",
    "”": "''",
    "…": r"\dots{}",
    "→": r"$\to$",
    "←": r"$\leftarrow$",
    "√": r"$\surd$",
    "∂": r"$\partial$",
    "∞": r"$\infty$",
    "≤": r"$\leq$",
    "≠": r"$\neq$",
    "≈": r"$\approx$",
    "§": r"\S{}",
    "ß": r"\ss{}",
    "ø": r"\o{}",
    "Ø": r"\O{}",
    "æ": r"\ae{}",
    "Æ": r"\AE{}",
    "ł": r"\l{}",
    "Ł": r"\L{}",
    "ı": r"\i{}",
    "²": r"\textsuperscript{2}",
    "³": r"\textsuperscript{3}",
    "†": r"\textsuperscript{\textdagger}",
    "≥": r"$\geq$",
    "₀": r"\textsubscript{0}",
    "₁": r"\textsubscript{1}",
    "₂": r"\textsubscript{2}",
}

_ACCENTS = {
    "\u0300": "`",
    "\u0301": "'",
    "\u0302": "^",
    "\u0303": "~",
    "\u0304": "=",
    "\u0306": "u",
    "\u0307": ".",
    "\u0308": '"',
    "\u030a": "r",
    "\u030b": "H",
    "\u030c": "v",
    "\u0327": "c",
}
_CAPITALS = ("GAMMA", "DELTA", "THETA", "LAMDA", "XI", "PI", "SIGMA", "UPSILON", "PHI", "PSI", "OMEGA")
_MINUS = re.compile(r"((?<![\w.-])-(?=[\d.]))")


def escape(text: str) -> str:
    """Escapes LaTeX's special characters; writes our symbols, Greek and accents as commands, and a minus before a number as a minus.

    A character without a command is replaced by its code point, `[U+4E2D]`: the file compiles, and the reader sees what is missing.
    """
    parts = _MINUS.split(" ".join(text.split()))
    return "".join("$-$" if i % 2 else _plain(part) for i, part in enumerate(parts))


def _plain(text: str) -> str:
    """Keeps two hyphens as two hyphens, as in the name of a flag."""
    return re.sub("-(?=-)", "-{}", "".join(map(_character, text)))


def _character(c: str) -> str:
    if c in _LATEX:
        return _LATEX[c]
    if c.isascii():
        return c
    base, *marks = list(unicodedata.normalize("NFD", c))
    if base.isascii() and base.isalpha() and len(marks) == 1 and marks[0] in _ACCENTS:
        stem = {"i": r"\i", "j": r"\j"}.get(base, base) if marks[0] != "\u0327" else base
        return rf"\{_ACCENTS[marks[0]]}{{{stem}}}"
    return _greek(c) or f"[U+{ord(c):04X}]"


def _greek(c: str) -> str | None:
    match = re.fullmatch(r"GREEK (SMALL|CAPITAL) LETTER ([A-Z]+)", unicodedata.name(c, ""))
    if match is None:
        return None
    size, name = match.groups()
    if name == "OMICRON":
        return "o" if size == "SMALL" else None
    if size == "CAPITAL" and name not in _CAPITALS:
        return None
    command = {"LAMDA": "lambda", "EPSILON": "varepsilon"}.get(name, name.lower())
    return rf"$\{command if size == 'SMALL' else command.capitalize()}$"
