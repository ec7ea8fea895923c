"""A picture of the stored results: of each table one difference with its interval, as SVG.

Written as text, so that the file depends on the results only, not on a library's version.
"""

import textwrap
from collections.abc import Mapping, Sequence
from html import escape

from experiments.snapshot_facts import Finding, Snapshot

WIDTH, LINE, TOP, BOTTOM = 980, 40, 34, 44
# The plot's left and right ends; the texts are left of it, the numbers right of it.
LEFT, RIGHT = 470, 810
# Points beyond which an interval is cut and ends in an arrow.
LIMIT = 20.0
STEP = 5
COLOURS = {"better": "#1a7f37", "no worse": "#0969da", "worse": "#cf222e", "undecided": "#6e7781"}
STYLE = (
    "text{font:13px system-ui,sans-serif;fill:#1f2328}.row{fill:#59636e;font-size:12px}"
    ".num{font-size:12px}.axis{font-size:11px;fill:#59636e}"
)


def verdict_picture(found: Sequence[Finding], snapshots: Mapping[str, Snapshot]) -> str:
    """The picture as SVG.

    Args:
        found: The differences, one a line. Those of fewer than five seeds have an open marker.
        snapshots: The snapshots by name.
    """
    height = TOP + LINE * len(found) + BOTTOM
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" '
        'aria-label="Difference of a row from its baseline, by table, with 95 % intervals">',
        f"<style>{STYLE}</style>",
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
        *_axis(height),
    ]
    for index, one in enumerate(found):
        parts += _line(one, snapshots[one.name]["question"], TOP + LINE * index + LINE / 2)
    parts.append(_legend(height))
    return "\n".join([*parts, "</svg>"]) + "\n"


def _x(points: float) -> float:
    share = (max(-LIMIT, min(LIMIT, points)) + LIMIT) / (2 * LIMIT)
    return round(LEFT + share * (RIGHT - LEFT), 1)


def _axis(height: int) -> list[str]:
    low, parts = height - BOTTOM, []
    for points in range(-int(LIMIT), int(LIMIT) + 1, STEP):
        colour = "#59636e" if points == 0 else "#eaeef2"
        parts.append(
            f'<line x1="{_x(points)}" x2="{_x(points)}" y1="{TOP - 6}" y2="{low}" '
            f'stroke="{colour}"/>'
            f'<text class="axis" x="{_x(points)}" y="{low + 14}" text-anchor="middle">'
            f"{points:+d}</text>"
        )
    title = "difference from the baseline in points"
    parts.append(
        f'<text class="axis" x="{_x(0)}" y="{TOP - 14}" text-anchor="middle">{title}</text>'
    )
    return parts


def _line(one: Finding, question: str, y: float) -> list[str]:
    colour = COLOURS[one.verdict]
    fill = "#ffffff" if one.preliminary else colour
    row = f"{one.row} - {one.against}"
    short = textwrap.shorten(question, 68, placeholder=" ...")
    return [
        f'<text x="12" y="{y - 3}">{escape(short)}</text>',
        f'<text class="row" x="12" y="{y + 13}">{escape(row)}</text>',
        f'<line x1="{_x(one.low)}" x2="{_x(one.high)}" y1="{y}" y2="{y}" stroke="{colour}" '
        'stroke-width="2"/>',
        *_arrow(one.low, y, colour),
        *_arrow(one.high, y, colour),
        f'<circle cx="{_x(one.difference)}" cy="{y}" r="4.5" fill="{fill}" stroke="{colour}" '
        'stroke-width="2"/>',
        f'<text class="num" x="{RIGHT + 14}" y="{y + 4}">{escape(one.numbers)}</text>',
    ]


def _arrow(points: float, y: float, colour: str) -> list[str]:
    """The end of an interval that is cut."""
    if abs(points) <= LIMIT:
        return []
    x, back = _x(points), -7 if points > 0 else 7
    return [
        f'<path d="M{x} {y} l{back} -4 v8 z" fill="{colour}"/>',
    ]


def _legend(height: int) -> str:
    words = "".join(
        f'<tspan fill="{colour}" dx="10">● {verdict}</tspan>' for verdict, colour in COLOURS.items()
    )
    return (
        f'<text class="axis" x="12" y="{height - 10}">95 % interval, for all rows of a table '
        f'together{words}<tspan dx="10">○ preliminary (fewer than five seeds)</tspan></text>'
    )
