"""The page in a headless Chromium: sorting, filtering, widths, colour schemes, the console."""

import base64
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from mtl.compare.page import PageData, render
from tests.compare import chromium
from tests.compare.page_examples import crossed_rows, eight_rows

pytestmark = pytest.mark.skipif(not chromium.installed(), reason=chromium.MISSING)

SHOWN = "return [...document.querySelectorAll('#rows tbody tr')].filter(line => !line.hidden)"
NAMES = f"{SHOWN}.map(line => line.dataset.name)"
ATTACK = (
    "</script><script>document.title='run'</script><img src=x onerror=\"document.title='run'\">"
)


def long_names() -> PageData:
    """Words that cannot be wrapped, and more tasks than fit a screen."""
    page = eight_rows()
    rows = [replace(row, name=row.name.replace(" ", "_") * 8, tasks={}) for row in page.rows]
    columns: dict[str, int | None] = {f"{'task' * 20}{index}": 100 for index in range(30)}
    scores = rows[0].scores["mean"]
    rows = [replace(row, scores=dict.fromkeys([*columns, "mean"], scores)) for row in rows]
    texts = ["word" * 50]
    return replace(
        page, question=texts[0], verdict=texts, warnings=texts, rows=rows, columns=columns
    )


PAGES = {"eight": eight_rows(), "crossed": crossed_rows(), "long": long_names()}


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[chromium.Chromium]:
    with chromium.Chromium(tmp_path_factory.mktemp("profile")) as window:
        yield window


@pytest.fixture
def eight(browser: chromium.Chromium, tmp_path: Path) -> chromium.Chromium:
    return opened(browser, eight_rows(), tmp_path)


def opened(
    browser: chromium.Chromium, page: PageData, folder: Path, width: int = 1280, dark: bool = False
) -> chromium.Chromium:
    (folder / "page.html").write_text(render(page), encoding="utf-8")
    browser.open(folder / "page.html", width, dark)
    return browser


def click_head(browser: chromium.Chromium, name: str) -> str:
    """Clicks the head of a column; the direction in which it is sorted then."""
    return str(
        browser.run(
            "const head = [...document.querySelectorAll('#rows thead th')].find(head => "
            f"head.querySelector('button').textContent === '{name}');"
            "head.querySelector('button').click(); return head.getAttribute('aria-sort')"
        )
    )


def test_a_click_on_a_head_sorts_by_its_numbers(eight: chromium.Chromium) -> None:
    page = eight_rows()
    by_mean = sorted(page.rows, key=lambda row: row.scores["mean"].mean or 0.0)
    assert click_head(eight, "mean") == "descending"
    assert eight.run(NAMES) == [row.name for row in reversed(by_mean)]
    assert click_head(eight, "mean") == "ascending"
    assert eight.run(NAMES) == [row.name for row in by_mean]
    assert click_head(eight, "difference") == "descending"
    assert eight.run(NAMES)[-1] == page.baseline  # it has no difference: empty cells come last
    assert click_head(eight, "difference") == "ascending"
    assert eight.run(NAMES)[-1] == page.baseline


def test_the_keyboard_sorts(eight: chromium.Chromium) -> None:
    eight.run("document.querySelector('#rows thead th button').focus()")
    eight.press("Enter")
    eight.press("Enter")
    assert eight.run(NAMES)[-1] == eight_rows().rows[0].name


def test_the_filter_selects_rows_by_name_and_verdict_and_the_charts_follow(
    eight: chromium.Chromium,
) -> None:
    def charts() -> list[int]:
        cells = "document.querySelectorAll('#chart-pairs tbody tr').length"
        curves = "document.querySelectorAll('#chart-curves figure').length"
        marks = "document.querySelectorAll('#chart-cost .mark').length"
        return list(eight.run(f"return [{cells}, {curves}, {marks}]"))

    assert charts() == [8, 8, 8]
    typed = "const field = document.getElementById('filter'); field.value = 'HEAD multi';"
    eight.run(typed + "field.dispatchEvent(new Event('input'))")
    assert eight.run(NAMES) == ["multi-head, round robin", "multi-head, mixed"]
    assert eight.run("return document.getElementById('count').textContent") == "2 of 8"
    assert charts() == [2, 2, 2]
    eight.run(
        "field = document.getElementById('filter'); field.value = '';"
        + "field.dispatchEvent(new Event('input'))"
    )
    eight.run("document.querySelector('.chips input[value=better]').click()")
    assert eight.run(NAMES) == [
        row.name
        for row in eight_rows().rows
        if row.decision is None or row.decision.verdict != "better"
    ]


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("page", PAGES.values(), ids=PAGES)
def test_no_horizontal_scroll_and_no_message_on_the_console(
    browser: chromium.Chromium, tmp_path: Path, page: PageData, width: int, dark: bool
) -> None:
    opened(browser, page, tmp_path, width, dark)
    assert browser.run("return document.documentElement.scrollWidth") <= width
    too_wide = (
        "return [...document.querySelectorAll('svg')].filter(svg => "
        "svg.getBoundingClientRect().right > innerWidth).length"
    )
    assert browser.run(too_wide) == 0
    assert browser.run("return document.querySelectorAll('svg').length") >= 10
    assert browser.console() == []


def test_text_contrasts_with_its_background_in_both_schemes(
    browser: chromium.Chromium, tmp_path: Path
) -> None:
    backgrounds = []
    for dark in (False, True):
        opened(browser, eight_rows(), tmp_path, dark=dark)
        backgrounds.append(
            browser.run("return getComputedStyle(document.documentElement).backgroundColor")
        )
        for place in (
            "h1",
            ".hint",
            ".badge.better",
            ".badge.worse",
            ".badge.no-worse",
            "tr.worse td:last-child",
        ):
            assert contrast(browser, place) >= 4.5, place
    assert backgrounds[0] != backgrounds[1]


def contrast(browser: chromium.Chromium, place: str) -> float:
    """The contrast of a text with the colour behind it (WCAG 2.1, section 1.4.3)."""
    colours = browser.run(
        f"let one = document.querySelector('{place}'); const ink = getComputedStyle(one).color;"
        "const paper = () => getComputedStyle(one).backgroundColor;"
        "while (paper() === 'rgba(0, 0, 0, 0)') one = one.parentElement;"
        "return [ink, paper()].map(text => text.match(/[0-9.]+/g).map(Number))"
    )
    lights = sorted(map(luminance, colours), reverse=True)
    return (lights[0] + 0.05) / (lights[1] + 0.05)


def luminance(colour: list[float]) -> float:
    parts = [value / 255 for value in colour[:3]]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_names_and_messages_are_shown_as_text_and_never_run(
    browser: chromium.Chromium, tmp_path: Path
) -> None:
    page = eight_rows()
    rows = [replace(row, name=row.name + ATTACK, about=ATTACK) for row in page.rows]
    problems = [replace(page.problems[0], run=ATTACK, message=ATTACK, log=ATTACK)]
    attacked = replace(page, question=ATTACK, verdict=[ATTACK], warnings=[ATTACK], rows=rows)
    attacked = replace(attacked, problems=problems, notes=[ATTACK], command=ATTACK, name=ATTACK)
    opened(browser, attacked, tmp_path)
    assert browser.run("return document.title") == ATTACK
    assert browser.run("return document.querySelectorAll('img, body script').length") == 2
    assert browser.run(NAMES) == [row.name for row in rows]
    assert browser.console() == []


def test_downloads_hold_the_files(eight: chromium.Chromium) -> None:
    links = eight.run(
        "return [...document.querySelectorAll('a[download]')].map(link => [link.download, "
        "link.href])"
    )
    contents = {name: base64.b64decode(url.partition(",")[2]) for name, url in links}
    assert contents == {file.name: file.contents for file in eight_rows().downloads}


@pytest.mark.parametrize("chart", ["#chart-pairs table", "#chart-cost svg", "#chart-tasks svg"])
def test_a_chart_is_one_stop_of_the_tab_key_and_arrows_move_in_it(
    eight: chromium.Chromium, chart: str
) -> None:
    stops = f"document.querySelectorAll('{chart} [tabindex=\"0\"]')"
    first = f"document.querySelector('{chart}').querySelector('[tabindex=\"0\"]')"
    charts = eight.run(f"return document.querySelectorAll('{chart}').length")
    assert eight.run(f"return {stops}.length") == charts
    eight.run(f"window.first = {first}; window.first.focus()")
    eight.press("ArrowRight")
    assert eight.run("return document.activeElement !== window.first")
    assert eight.run(f"return {stops}.length") == charts
    tip = eight.run("return document.getElementById('tip').textContent")
    assert tip == eight.run("return document.activeElement.dataset.tip")
