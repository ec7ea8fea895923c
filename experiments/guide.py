"""The decision guide of `docs/which-method.md`, derived from the verdicts of the stored results.

Each line names an option, its alternative, and the rows of tables that compare them. What the line
says follows from the verdicts of these rows; if none is decided, it says so.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from experiments.snapshot_facts import (
    Finding,
    Snapshot,
    findings,
    question_link,
    size_text,
    table_and_size,
)
from experiments.telling import current_names

DOMAIN_TABLES = ("mft_mnli", "mft_g1", "mft_g2", "mft_g3", "mft_amazon")

# The rows of the table `balancers` that choose weights while they train.
BALANCERS = (
    *("uncertainty weighting", "DWA", "random weights", "IMTL-L", "FAMO", "geometric mean"),
    *("smooth Chebyshev", "loss / log(classes)", "by size", "PCGrad", "GradVac", "CAGrad", "MGDA"),
    *("IMTL-G", "Nash-MTL", "Aligned-MTL", "FairGrad", "UPGrad"),
)


class Line(NamedTuple):
    """A question of the guide.

    Attributes:
        have: What the reader has.
        option: What the rows do.
        alternative: What the rows that they are compared with do.
        rows: For each table the rows that bear on it; none: all rows of the table.
    """

    have: str
    option: str
    alternative: str
    rows: Mapping[str, tuple[str, ...]]


GUIDE = (
    Line(
        "the same question in several domains",
        "one model for all domains (`joint`, or `multi_head`)",
        "one model per domain",
        {
            "quickstart": ("one model for all tasks",),
            **dict.fromkeys(DOMAIN_TABLES, ("mix", "multi-head")),
        },
    ),
    Line(
        "different tasks, and room for one model",
        "one encoder with a head per task (`multi_head`)",
        "one model per task",
        {
            "single_vs_multi": ("MT-BERT, linear heads",),
            "ca_mtl": ("multi-head",),
            "samples": ("round robin",),
            "cs224n_sensitivity": ("mixed batches", "round robin"),
            "entities_and_sentences": ("one model, mixed batches", "one model, round robin"),
            "merging": ("trained on all",),
        },
    ),
    Line(
        "several labels of the same texts",
        "one model with one encoder pass for all labels",
        "one model per label",
        {"atis": (), "snips": (), "sick": ()},
    ),
    Line(
        "different tasks, and parts of the encoder that depend on the task",
        "CA-MTL or projected attention (`ca_mtl`, `pals`)",
        "one model per task",
        {
            "ca_mtl": ("CA-MTL", "CA-MTL, uncertainty"),
            "cs224n": ("PALs, shared and per task",),
            "cs224n_sensitivity": ("PALs",),
        },
    ),
    Line(
        "little storage per task",
        "adapters in a frozen encoder (`adapters`)",
        "one model per task",
        {"cs224n": ("adapters, frozen encoder",)},
    ),
    Line(
        "a frozen encoder, and one low-rank update for all tasks",
        "aligned or unconflicted training of the update (`align_lora`, `ortho_lora`)",
        "plain training (`lora`)",
        {"lora": ("Align-LoRA (KL)", "Align-LoRA (MMD)", "Ortho-LoRA")},
    ),
    Line(
        "a frozen encoder, and low-rank updates",
        "an update per task (`lora_per_task`, `mtl_lora`)",
        "one update for all tasks (`lora`)",
        {"lora": ("LoRA per task", "MTL-LoRA")},
    ),
    Line(
        "losses of unlike size, and no wish to tune their weights",
        "a rule that balances losses or gradients (`configs/balancing/`)",
        "fixed weights that are tuned as long",
        {"balancers": BALANCERS},
    ),
    Line(
        "losses of tasks with unlike numbers of classes",
        "weights by classes or slopes, surgery by matrix (`log_classes`, `coba`, `ortho_lora`)",
        "equal weights",
        {"loss_weights": ("log classes (Muppet)", "CoBa", "PCGrad by matrix")},
    ),
    Line(
        "suspected conflicts of gradients, and room for one model",
        "one encoder with gradient surgery (`pcgrad`, `gradvac`)",
        "one model per task",
        {
            "cs224n_sensitivity": ("surgery (PCGrad)", "surgery (GradVac)"),
            "samples": ("mixed, PCGrad",),
        },
    ),
    Line(
        "domains, and time for several stages",
        "meta fine-tuning (`mft`)",
        "one model per domain",
        dict.fromkeys(DOMAIN_TABLES, ("MFT", "MFT (DC)", "MFT (TW)")),
    ),
    Line(
        "trained single-task models",
        "merging them without training (`mtl merge`)",
        "keeping them",
        {"merging": ("mean", "task arithmetic", "TIES", "DARE")},
    ),
    Line(
        "trained single-task models, and time to train one more",
        "distillation (`regularizers/distillation`)",
        "the same model without it",
        {"distillation": ("distilled, teacher annealing", "distilled, constant weights")},
    ),
    Line(
        "16 examples per class, and a masked language model",
        "prompts after multi-task training with prompts (`leave_one_out`)",
        "prompts alone (`prompt`)",
        {"prompt_kshot": ("MT-FT, PB-FT",), "prompt_kshot_same_draw": ("MT-FT, PB-FT",)},
    ),
    Line(
        "16 examples per class, and any encoder",
        "a head (`multi_head`)",
        "prompts (`prompt`)",
        {"prompt_kshot": ("fine-tuning",), "prompt_kshot_same_draw": ("fine-tuning",)},
    ),
    Line(
        "many classes of unequal frequency",
        "class weights (`class_weights: balanced`)",
        "plain cross-entropy",
        {"go_emotions": ()},
    ),
)


def guide_table(snapshots: Mapping[str, Snapshot], link: str) -> str:
    """The guide as Markdown.

    Args:
        snapshots: The snapshots by name.
        link: The page of the results.
    """
    lines = [
        "| you have | what the results say | decided | undecided or not kept |",
        "|---|---|---|---|",
    ]
    for line in GUIDE:
        found, missing = evidence(line, snapshots)
        decided = [one for one in found if one.verdict not in ("", "undecided")]
        undecided = [one for one in found if one.verdict == "undecided"]
        absent = [f"`{table}`: not kept" for table in missing]
        cells = [
            line.have,
            conclusion(line, found),
            "; ".join(_by_table(decided, link)),
            "; ".join([*_by_table(undecided, link), *absent]),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def evidence(line: Line, snapshots: Mapping[str, Snapshot]) -> tuple[list[Finding], list[str]]:
    """The verdicts that a line rests on, and its tables of which nothing is kept.

    Args:
        line: The line.
        snapshots: The snapshots by name.
    """
    names = {table_and_size(name)[0]: name for name in current_names(snapshots)}
    found = [
        one
        for table, rows in line.rows.items()
        if table in names
        for one in findings(names[table], snapshots[names[table]])
        if not rows or one.row in rows
    ]
    return found, [table for table in line.rows if table not in names]


def conclusion(line: Line, found: Iterable[Finding]) -> str:
    """What the verdicts of a line say together.

    Preliminary verdicts count only if there are no others.

    Args:
        line: The line.
        found: The verdicts that it rests on.
    """
    decided = [one for one in found if one.verdict not in ("", "undecided")]
    final = [one for one in decided if not one.preliminary]
    verdicts = {one.verdict for one in final or decided}
    if not verdicts:
        return "undecided so far"
    if verdicts == {"worse"}:
        text = line.alternative
    elif "worse" in verdicts:
        text = f"it depends: compare {line.option} with {line.alternative}"
    elif "better" in verdicts:
        text = line.option
    else:
        text = f"either: {line.option} is no worse than {line.alternative}"
    return text if final else f"{text} (preliminary)"


def _by_table(found: Sequence[Finding], link: str) -> list[str]:
    """The verdicts of each table, in one line per table."""
    rows: dict[str, list[str]] = {}
    for one in found:
        verdict = "" if one.verdict == "undecided" else f" {one.verdict}"
        rows.setdefault(one.name, []).append(f"{one.row}{verdict} {one.numbers}")
    few = {one.name for one in found if one.preliminary}
    return [
        f"[{name}]({link}#{name}): {', '.join(each)}" + (" (preliminary)" if name in few else "")
        for name, each in rows.items()
    ]


def verdict_table(snapshots: Mapping[str, Snapshot], link: str) -> str:
    """A line per table: question, verdict, size and seeds, as Markdown.

    Args:
        snapshots: The snapshots by name.
        link: The page of the results.
    """
    lines = ["| question | verdict | size | seeds |", "|---|---|---|---:|"]
    for name in current_names(snapshots):
        snapshot = snapshots[name]
        cells = [
            question_link(name, snapshot, link),
            snapshot["verdict"][0],
            size_text(snapshot),
            str(len(snapshot["seeds"])),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)
