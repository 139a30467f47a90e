r"""Texts for LaTeX: plain ASCII that any engine sets, whatever a name has in it."""

from __future__ import annotations

import unicodedata

SPECIAL = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}", "_": r"\_", "&": r"\&", "%": r"\%", "#": r"\#",
    "$": r"\$", "<": r"$<$", ">": r"$>$", "|": r"$|$", '"': r"\char34{}",
    "`": r"\char96{}",
}  # fmt: skip
"""Letters that LaTeX takes for something else."""
JOINED = {"-": "-{}", "'": "'{}"}
"""Letters that two in a row make another sign of, unless they are kept apart."""
JOINTS = "-_[,=/"
"""What joins the words of a name."""
# ruff: noqa: RUF001 - these letters are meant
SIGNS = {
    "±": r"$\pm$", "×": r"$\times$", "≈": r"$\approx$", "†": r"$\dagger$",
    "‡": r"$\ddagger$", "−": "$-$", "≤": r"$\leq$", "≥": r"$\geq$", "·": r"$\cdot$",
    "√": r"$\surd$", "°": r"$^{\circ}$", "µ": r"$\mu$",
    "–": r"\textendash{}", "—": r"\textemdash{}",
    "…": r"\dots{}", "→": r"$\to$", "∞": r"$\infty$", "²": "$^2$", "³": "$^3$",
    "‘": r"\textquoteleft{}", "’": "'",
    "“": r"\textquotedblleft{}", "”": r"\textquotedblright{}",
    "ß": r"{\ss}", "æ": r"{\ae}", "Æ": r"{\AE}", "œ": r"{\oe}", "Œ": r"{\OE}",
    "ø": r"{\o}", "Ø": r"{\O}", "ł": r"{\l}", "Ł": r"{\L}", "ı": r"{\i}",
    "å": r"{\aa}", "Å": r"{\AA}",
}  # fmt: skip
ACCENTS = {
    "\u0300": "`", "\u0301": "'", "\u0302": "^", "\u0303": "~", "\u0304": "=",
    "\u0306": "u", "\u0307": ".", "\u0308": '"', "\u030b": "H", "\u030c": "v",
    "\u0323": "d", "\u0327": "c",
}  # fmt: skip
"""What LaTeX calls the accents that Unicode combines with the letter before them."""
GREEK = (
    "alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota", "kappa",
    "lambda", "mu", "nu", "xi", "pi", "rho", "sigma", "tau", "upsilon", "phi", "chi",
    "psi", "omega",
)  # fmt: skip
CAPITALS = (
    "Gamma", "Delta", "Theta", "Lambda", "Xi", "Pi", "Sigma", "Upsilon", "Phi", "Psi",
    "Omega",
)  # fmt: skip
"""Those that LaTeX has; the others look like Latin ones."""


def escaped(text: str) -> str:
    r"""Return a text for LaTeX, in ASCII.

    Accents and Greek letters are commands; a letter for which LaTeX has none is its
    number, such as ``$<$4e2d$>$``. Line breaks and other blanks are spaces.
    """
    return _joined(text, "")


def breakable(text: str) -> str:
    """Return the same, whose lines may also end after what joins the words of a name."""
    return _joined(text, r"\allowbreak{}")


def _joined(text: str, ending: str) -> str:
    letters = unicodedata.normalize("NFC", " ".join(text.split()))
    parts = []
    triples = zip([" ", *letters], letters, [*letters[1:], " "], strict=False)
    for before, letter, after in triples:
        parts.append(_letter(letter))
        if letter == after and letter in JOINED:
            parts[-1] = JOINED[letter]
        elif letter in JOINTS and before.isalnum() and after != " ":
            parts.append(ending)
    return "".join(parts)


def _letter(letter: str) -> str:
    for known in (SPECIAL, SIGNS, _GREEK):
        if letter in known:
            return known[letter]
    if " " <= letter <= "~":
        return letter
    parts = unicodedata.normalize("NFD", letter)
    if len(parts) == 2 and parts[0].isascii() and parts[1] in ACCENTS:
        base = rf"\{parts[0]}{{}}" if parts[0] in "ij" else parts[0]
        return rf"\{ACCENTS[parts[1]]}{{{base}}}"
    return f"$<${ord(letter):x}$>$"


_GREEK = {
    unicodedata.lookup(f"GREEK SMALL LETTER {name.replace('lambda', 'lamda')}"): (
        rf"$\{name}$"
    )
    for name in GREEK
} | {
    unicodedata.lookup(f"GREEK CAPITAL LETTER {name.replace('Lambda', 'Lamda')}"): (
        rf"$\{name}$"
    )
    for name in CAPITALS
}
