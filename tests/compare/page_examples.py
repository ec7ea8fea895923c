"""Hand-made pages: eight rows, and crossed rows."""

import random
from itertools import product

from mtl.compare.page.data import (
    CellScore,
    CrossedMap,
    Curve,
    Difference,
    Download,
    PageData,
    PageRow,
    Pair,
    Problem,
)

COSTS = {
    "seconds": "training time per seed (s)",
    "total": "parameters stored",
    "passes": "encoder passes per text",
}
TASKS = ["books", "kitchen", "kettles", "headphones", "spam", "duplicates"]
# Name, true difference from the baseline, seconds, parameters in millions, encoder passes.
ROWS = [
    ("each task alone", 0.0, 540.0, 136.2, 6),
    ("multi-head, round robin", 3.4, 410.0, 22.8, 1),
    ("multi-head, mixed", 2.9, 395.0, 22.8, 1),
    ("joint labels", 0.9, 380.0, 22.7, 1),
    ("per-task LoRA", 0.3, 460.0, 24.1, 6),
    ("PALs", 1.6, 520.0, 25.9, 6),
    ("PCGrad", 3.1, 1190.0, 22.8, 1),
    ("two experts, one gate", -5.2, 890.0, 44.0, 1),
]
SCHEMES = (
    "round robin, mixed, proportional, square root, annealed, uncertainty, task by task, "
    "largest first, equal, random"
)
METHODS = (
    "MultiHead, PALs, LoRA, Adapters, CA-MTL, MMoE, PCGrad, CAGrad, GradVac, Nash-MTL, "
    "uncertainty weights, DWA, SMART"
)


def difference(row: str, other: str, value: float, half: float, margin: float = 1.0) -> Difference:
    low, high = value - half, value + half
    verdict = "better" if low > 0 else "worse" if high < 0 else "undecided"
    verdict = "no worse" if verdict == "undecided" and low > -margin else verdict
    sentence = f"{verdict} than {other}: {value:+.1f} [{low:.1f}, {high:.1f}]"
    return Difference(other, value, low, high, verdict, sentence)


def row_of(
    name: str, effect: float, costs: list[float], tasks: list[str], draw: random.Random, seeds: int
) -> PageRow:
    by_task = {task: effect + draw.gauss(0, 1.3) for task in tasks} if effect else {}
    scores = {}
    for index, task in enumerate(tasks):
        values = {
            s: 70 + 3 * index + by_task.get(task, 0) + draw.gauss(0, 0.9)
            for s in range(1, seeds + 1)
        }
        scores[task] = cell(values)
    scores["mean"] = cell(
        {s: sum(scores[task].seeds[s] for task in tasks) / len(tasks) for s in range(1, seeds + 1)}
    )
    baseline = name == ROWS[0][0]
    decision = None if baseline else difference(name, ROWS[0][0], effect, 1.2 + draw.random())
    found = (
        {}
        if baseline
        else {
            task: difference(name, ROWS[0][0], by_task[task], 2.2 + draw.random()) for task in tasks
        }
    )
    return PageRow(
        name,
        "one run for all tasks; sampling/round_robin methods/multi_head",
        scores,
        decision,
        found,
        dict(zip(COSTS, costs, strict=True)),
    )


def cell(values: dict[int, float]) -> CellScore:
    mean = sum(values.values()) / len(values)
    variance = sum((value - mean) ** 2 for value in values.values()) / max(1, len(values) - 1)
    return CellScore(mean, variance**0.5 if len(values) > 1 else None, values, len(values))


def pairs_of(rows: list[PageRow], half: float) -> list[Pair]:
    means = [row.scores["mean"].mean or 0.0 for row in rows]
    pairs = []
    for one, two in product(range(len(rows)), repeat=2):
        if one < two:
            found = difference("", "", means[one] - means[two], half)
            pairs.append(Pair(one, two, found.value, found.low, found.high, found.verdict))
    return pairs


def eight_rows(seeds: int = 5) -> PageData:
    """Eight rows, six tasks, five seeds, a failed run and a warning."""
    draw = random.Random(0)
    rows = [
        row_of(name, effect, [seconds, millions * 1e6, passes], TASKS, draw, seeds)
        for name, effect, seconds, millions, passes in ROWS
    ]
    curves = []
    for index, (_, effect, *_) in enumerate(ROWS):
        for seed in range(1, seeds + 1):
            points = [
                (100.0 * k, 76 + effect - 22 * 0.62**k + draw.gauss(0, 0.7)) for k in range(1, 11)
            ]
            curves.append(Curve(index, seed, points))
    lines = ["row,seed,task,score"]
    for row, task in product(rows, [*TASKS, "mean"]):
        lines += [
            f"{row.name},{seed},{task},{value:.4f}"
            for seed, value in row.scores[task].seeds.items()
        ]
    return PageData(
        question="Six small tasks: is one encoder for all of them no worse than six?",
        name="support-mini",
        verdict=[
            "Use “multi-head, round robin”: better than each task alone by 3.4 [1.6, 5.2] points, "
            "at a sixth of the parameters and of the inference cost.",
            "Also better: multi-head, mixed; PALs; PCGrad. Worse: two experts, one gate.",
            "Undecided: per-task LoRA +0.3 [-1.4, 2.0]; about 9 more seeds would detect a "
            "difference of 2 points.",
        ],
        warnings=[
            "spam has a class with 8 training examples.",
            "each task alone is undertrained: its validation score still rises at the last epoch. "
            "Train longer before you compare.",
        ],
        baseline=ROWS[0][0],
        score_name="mean",
        margin=1.0,
        seeds=list(range(1, seeds + 1)),
        columns={task: 150 + 10 * index for index, task in enumerate(TASKS)},
        rows=rows,
        pairs=pairs_of(rows, 1.8),
        cost_names=COSTS,
        curves=curves,
        problems=[
            Problem(
                "PALs, seed 4",
                "failed",
                "the loss is NaN in step 120 of task 'spam'; lower model.lr",
                "runs/PALs-RoundRobin-1c2f3a/run.log",
            ),
            Problem("per-task LoRA, seed 5, spam", "not run"),
        ],
        notes=[
            "size mini: MiniLM, 400 examples per task",
            "budget of every row: 4 passes over each task",
        ],
        downloads=[
            Download(
                "scores.csv",
                "the score of every row, seed and task",
                "text/csv",
                "\n".join(lines).encode(),
            ),
            Download(
                "table.tex",
                "the table for LaTeX",
                "text/x-tex",
                rb"\begin{tabular}{lr}\end{tabular}",
            ),
            Download("support.yaml", "the definition", "application/yaml", b"question: ...\n"),
        ],
        command="mtl compare --tasks+=tickets.yaml --tasks+=urgency.yaml --tasks+=duplicates.yaml",
    )


def crossed_rows(across: int = 10, down: int = 13, seeds: int = 3) -> PageData:
    """130 crossed rows and their baseline."""
    draw = random.Random(1)
    schemes = SCHEMES.split(", ")[:across]
    methods = METHODS.split(", ")[:down]
    costs = [540.0, 136.2e6, 6]
    rows = [row_of(ROWS[0][0], 0.0, costs, TASKS[:3], draw, seeds)]
    indices: list[list[int | None]] = []
    for method in methods:
        indices.append([])
        for scheme in schemes:
            indices[-1].append(len(rows))
            cost = [draw.uniform(200, 1500), draw.uniform(2.2e7, 4e7), 1]
            rows.append(
                row_of(f"{scheme}, {method}", draw.gauss(0.5, 2.4), cost, TASKS[:3], draw, seeds)
            )
    curves = [
        Curve(index, seed, [(50.0 * k, 70 - 20 * 0.6**k + draw.gauss(0, 0.8)) for k in range(1, 7)])
        for index in range(len(rows))
        for seed in range(1, seeds + 1)
    ]
    return PageData(
        question="Which sampling scheme suits which method?",
        name="methods_x_schemes-mini",
        verdict=["Undecided for most rows with 3 seeds (preliminary)."],
        warnings=[],
        baseline=ROWS[0][0],
        score_name="mean",
        margin=1.0,
        seeds=list(range(1, seeds + 1)),
        columns=dict.fromkeys(TASKS[:3], 150),
        rows=rows,
        pairs=pairs_of(rows, 2.5),
        cost_names=COSTS,
        curves=curves,
        crossed=CrossedMap(("schemes", "methods"), schemes, methods, indices),
    )
