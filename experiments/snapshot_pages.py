"""Pages of the stored results: one per table, and an index."""

from pathlib import Path
from typing import Any

from experiments.snapshot_facts import all_warnings
from mtl.compare.definition import MEAN
from mtl.compare.page import PageData, render
from mtl.compare.page.collect import COST_NAMES
from mtl.compare.page.data import CellScore, CrossedMap, Difference, Download, PageRow
from mtl.compare.page.index import Summary, render_index
from mtl.training.run_folder import write_atomic

# The columns of the grid of costs, by cost.
COST_HEADS = {
    "seconds": "training time (s)",
    "total": "parameters stored",
    "passes": "encoder passes per text",
    "trained": "trained parameters",
}


def write_pages(snapshots: dict[str, dict[str, Any]], folder: Path) -> None:
    """Writes the page of each snapshot, and the index.

    Args:
        snapshots: The snapshots by name.
        folder: Folder of the pages.
    """
    folder.mkdir(exist_ok=True)
    summaries = {}
    for name, snapshot in snapshots.items():
        page = snapshot_page(name, snapshot)
        write_atomic(folder / f"{name}.html", render(page))
        summaries[f"{name}.html"] = Summary.of(page)
    about = "All tables whose results are kept in experiments/results."
    write_atomic(folder / "index.html", render_index("Results of our own runs", about, summaries))


def snapshot_page(name: str, snapshot: dict[str, Any]) -> PageData:
    """What the page of a snapshot shows. Learning curves and pairs of rows are not kept.

    Args:
        name: Its name.
        snapshot: Its contents.
    """
    cells: dict[str, dict[str, dict[str, Any]]] = {}
    for cell in snapshot["cells"]:
        cells.setdefault(cell["row"], {})[cell["column"]] = cell
    columns = {
        column: cell["test_examples"]
        for by_column in list(cells.values())[:1]
        for column, cell in by_column.items()
        if column != MEAN
    }
    grids = {grid["title"]: grid for grid in snapshot["grids"]}
    return PageData(
        question=snapshot["question"],
        name=name,
        verdict=snapshot["verdict"],
        warnings=all_warnings(snapshot),
        baseline=snapshot["baseline"],
        score_name=MEAN,
        margin=snapshot["margin"],
        seeds=snapshot["seeds"],
        columns=columns,
        rows=[_row(row, by_column, snapshot, grids) for row, by_column in cells.items()],
        pairs=[],
        cost_names=COST_NAMES,
        notes=[note for grid in grids.values() for note in grid["notes"]],
        downloads=[_scores_file(snapshot)],
        command=snapshot["command"],
        crossed=_crossed(snapshot["grids"][0], list(cells)),
    )


def _row(
    row: str, cells: dict[str, dict[str, Any]], snapshot: dict[str, Any], grids: dict[str, Any]
) -> PageRow:
    scores = {column: _score(snapshot, row, column, cell) for column, cell in cells.items()}
    tasks = {
        column: _task_difference(cell)
        for column, cell in cells.items()
        if cell["exploratory_difference"] is not None
    }
    return PageRow(row, "", scores, _difference(cells[MEAN]), tasks, _costs(row, grids))


def _score(snapshot: dict[str, Any], row: str, column: str, cell: dict[str, Any]) -> CellScore:
    kept = snapshot["scores"].get(row, {}).get(column, [])
    seeds = dict(zip(snapshot["seeds"], kept, strict=False))
    missing = "" if cell["n"] else "not run"
    return CellScore(cell["mean"], cell["std"], seeds, cell["n"], missing)


def _difference(cell: dict[str, Any]) -> Difference | None:
    if cell["difference"] is None:
        return None
    verdict, sentence = cell["verdict"] or "", cell["sentence"] or ""
    numbers = (cell["difference"], cell["low"], cell["high"])
    return Difference(cell["against"], *numbers, verdict, sentence)


def _task_difference(cell: dict[str, Any]) -> Difference:
    value, p = cell["exploratory_difference"], cell["exploratory_p"]
    significant = p is not None and p < 0.05
    verdict = "undecided" if not significant else "better" if value > 0 else "worse"
    sentence = "exploratory" if p is None else f"exploratory: p = {p:.3f} (Holm)"
    low, high = cell["exploratory_low"], cell["exploratory_high"]
    return Difference(cell["against"], value, low, high, verdict, sentence)


def _costs(row: str, grids: dict[str, Any]) -> dict[str, float | None]:
    grid = grids.get("cost", {"head": [], "lines": []})
    texts: dict[str, str] = next(
        (
            dict(zip(grid["head"], [cell[0] for cell in line], strict=True))
            for line in grid["lines"]
            if line[0][0] == row
        ),
        {},
    )
    return {
        key: float(text.replace(",", "")) if (text := texts.get(head)) else None
        for key, head in COST_HEADS.items()
    }


def _scores_file(snapshot: dict[str, Any]) -> Download:
    lines = ["row,column,n,mean,std"]
    for cell in snapshot["cells"]:
        names = ",".join(
            f'"{cell[key].replace(chr(34), chr(34) * 2)}"' for key in ("row", "column")
        )
        numbers = ("" if cell[key] is None else str(cell[key]) for key in ("n", "mean", "std"))
        lines.append(f"{names},{','.join(numbers)}")
    contents = ("\n".join(lines) + "\n").encode()
    return Download("scores.csv", "mean and deviation of every row and task", "text/csv", contents)


def _crossed(grid: dict[str, Any], rows: list[str]) -> CrossedMap | None:
    """The map of crossed rows, which is the first grid of such a table."""
    if grid["title"] == "scores":
        return None
    first, second = grid["title"].split(" and ")
    across, down = grid["head"][1:-1], [line[0][0] for line in grid["lines"][:-1]]
    index = {row: number for number, row in enumerate(rows)}
    cells = [[index.get(f"{one}, {other}") for one in across] for other in down]
    return CrossedMap((first, second), across, down, cells)
