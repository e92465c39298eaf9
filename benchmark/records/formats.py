"""Displayed tables as Markdown, LaTeX and plain text."""

from collections.abc import Callable, Sequence

from benchmark.records.display import FIRST, SECOND, Display

GAP = "  "  # between the columns of plain text
LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$", "▼": r"$\triangledown$", "≈": r"$\approx$",
    "–": "--", "×": r"$\times$", "→": r"$\to$", "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}",
}  # fmt: skip


def markdown_table(headings: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A Markdown table; a bar within a word is escaped."""

    def line(words: Sequence[str]) -> str:
        return "| " + " | ".join(word.replace("|", "\\|") for word in words) + " |"

    return "\n".join([line(headings), "|" + " --- |" * len(headings), *map(line, lines)]) + "\n"


def markdown(shown: Display) -> str:
    """A heading, the notes, the table and its legend; the best bold, the second underlined."""
    lines = _emphasised(shown, lambda word: f"**{word}**", lambda word: f"<ins>{word}</ins>")
    notes = ">\n".join(f"> {note}\n" for note in shown.notes)
    table = markdown_table([column.heading for column in shown.columns], lines)
    below = f"\n{' '.join(shown.legend)}\n" if shown.legend else ""
    return f"### {shown.title}\n\n" + (f"{notes}\n" if notes else "") + table + below


def latex(shown: Display) -> str:
    """A table with the rules of the package booktabs; the best bold, the second underlined."""
    lines = _emphasised(shown, lambda word: rf"\textbf{{{word}}}", lambda word: rf"\underline{{{word}}}", _escaped)
    kinds = "".join("r" if column.numeric else "l" for column in shown.columns)
    said = (f"{words.removesuffix('.')}." for words in (shown.title, *shown.notes, *shown.legend) if words)
    caption = " ".join(map(_escaped, said))
    body = []
    for i, line in enumerate(lines):
        if i and shown.groups[i] != shown.groups[i - 1] and len(set(shown.groups)) < len(shown.groups):
            body.append(r"\midrule")
        body.append(" & ".join(line) + r" \\")
    return "\n".join(
        [
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{caption}}}",
            rf"\begin{{tabular}}{{{kinds}}}",
            r"\toprule",
            " & ".join(_escaped(column.heading) for column in shown.columns) + r" \\",
            r"\midrule",
            *body,
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
            "",
        ]
    )


def plain(shown: Display) -> str:
    """Columns of text, for a pipe; numbers to the right."""
    cells = [[column.heading for column in shown.columns], *shown.lines]
    widths = [max(len(line[i]) for line in cells) for i in range(len(shown.columns))]
    lines = [
        GAP.join(
            word.rjust(width) if column.numeric else word.ljust(width)
            for word, width, column in zip(line, widths, shown.columns, strict=True)
        ).rstrip()
        for line in cells
    ]
    return "\n".join([shown.title, *lines, *shown.notes, *shown.legend]) + "\n"


def _emphasised(
    shown: Display,
    best: Callable[[str], str],
    second: Callable[[str], str],
    escaped: Callable[[str], str] = str,
) -> list[list[str]]:
    how: dict[int, Callable[[str], str]] = {FIRST: best, SECOND: second, 0: str}
    return [
        [how[place](escaped(word)) for word, place in zip(line, places, strict=True)]
        for line, places in zip(shown.lines, shown.places, strict=True)
    ]


def _escaped(text: str) -> str:
    return "".join(LATEX.get(letter, letter) for letter in text)
