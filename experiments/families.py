"""The tables of `docs/families.md`, generated from the table of model families.

`python -m experiments.families` (`make families`) writes them.
"""

from collections.abc import Callable
from pathlib import Path

from transformers import AutoConfig
from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES

import mtl.methods
from mtl.modules.backbone_checks import has_bounded_logits, is_causal
from mtl.modules.families import supports
from mtl.modules.family_table import FAMILIES, ClassifierLayout, Family
from mtl.training.run_folder import write_atomic

PAGE = Path(__file__).parents[1] / "docs" / "families.md"
START, END = "<!-- tables: written by `make families` -->", "<!-- end of tables -->"
METHODS = [name for name in mtl.methods.__all__ if name != "MultiTaskModule"]


def tables() -> str:
    """Both tables in Markdown."""
    return f"{_table(_method_cells())}\n\n{_table(_property_cells())}\n"


def write_page() -> None:
    """Replaces the tables of the page."""
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(START)
    _, _, after = rest.partition(END)
    write_atomic(PAGE, f"{before}{START}\n\n{tables()}\n{END}{after}")


def _method_cells() -> list[list[str]]:
    rows = [["family", *METHODS]]
    for name, family in FAMILIES.items():
        cells = ["yes" if _works(method, name, family) else "no" for method in METHODS]
        rows.append([f"`{name}`", *cells])
    return rows


def _works(method: str, name: str, family: Family) -> bool:
    if method == "PromptBasedFineTuning":
        config = AutoConfig.for_model(name)
        has_head = is_causal(config) or name in MODEL_FOR_MASKED_LM_MAPPING_NAMES
        return has_head and not has_bounded_logits(config)
    return supports(method, family)


def _property_cells() -> list[list[str]]:
    columns: dict[str, Callable[[str, Family], str]] = {
        "family": lambda name, family: f"`{name}`",
        "models": lambda name, family: family.examples,
        "pooling": lambda name, family: _poolings(name, family),
        "LoRA's default targets": lambda name, family: ", ".join(family.query_and_value),
        "gradient surgery": lambda name, family: (
            "one backward pass" if family.one_pass else "one per task"
        ),
        "export": lambda name, family: _export(family, family.classifier),
        "export of multiple choice": lambda name, family: _export(family, family.choice),
    }
    rows = [[make(name, family) for make in columns.values()] for name, family in FAMILIES.items()]
    return [list(columns), *rows]


def _poolings(name: str, family: Family) -> str:
    if is_causal(AutoConfig.for_model(name)):
        return "last, mean"
    return "cls, mean, last" + (", pooler" if family.pooler else "")


def _export(family: Family, layout: ClassifierLayout | None) -> str:
    if layout is None:
        return "no"
    return ", ".join([*layout.reads, *(["pooler"] if family.pooler else [])])


def _table(rows: list[list[str]]) -> str:
    lines = [f"| {' | '.join(cells)} |" for cells in rows]
    return "\n".join([lines[0], "|" + "---|" * len(rows[0]), *lines[1:]])


if __name__ == "__main__":
    write_page()
