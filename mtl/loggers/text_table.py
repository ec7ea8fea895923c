"""A table of texts, as Markdown and as CSV."""

import csv
import re
from io import StringIO
from typing import NamedTuple


class TextTable(NamedTuple):
    """A table of texts.

    Attributes:
        caption: What the table shows.
        columns: Names of the columns.
        rows: The texts of each row.
    """

    caption: str
    columns: list[str]
    rows: list[list[str]]

    def markdown(self) -> str:
        """The caption and the table, with Markdown and HTML characters escaped."""
        cells = [[escaped(cell) for cell in row] for row in self.rows]
        lines = [self.columns, ["---"] * len(self.columns), *cells]
        return f"{escaped(self.caption)}\n\n" + "\n".join(
            f"| {' | '.join(line)} |" for line in lines
        )

    def csv(self) -> str:
        """The columns and rows."""
        text = StringIO()
        csv.writer(text, lineterminator="\n").writerows([self.columns, *self.rows])
        return text.getvalue()


def escaped(text: str) -> str:
    """The text on one line, with Markdown and HTML characters escaped.

    >>> escaped("a|b  <b>*c*</b>")
    'a&#124;b &#60;b&#62;&#42;c&#42;&#60;/b&#62;'
    """
    line = " ".join(text.split())
    return re.sub(r"[&<>|\\`*_{}\[\]#~!$]", lambda match: f"&#{ord(match[0])};", line)
