"""What the size `paper` of each table takes: memory and seconds per step, with random weights.

Time and memory do not depend on the weights, so an encoder of the published architecture with
random ones needs no download. Of each table one row is trained for some steps: the first one that
trains several tasks and starts from no other run.

    python -m experiments.bench.paper_presets --data-root data

Every table is one line of the results file; a table that is in the file is not measured again.
"""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jsonargparse import auto_cli
from transformers import (
    AutoModelForMaskedLM,
    AutoTokenizer,
    BertConfig,
    DebertaV2Config,
    PretrainedConfig,
    RobertaConfig,
)

from mtl.compare.definition import Experiment
from mtl.compare.plan import Plan
from mtl.compare.run_arguments import run_arguments
from mtl.compare.run_spec import RunSpec
from mtl.system.bundled_encoder import bundled_encoder
from mtl.system.package_data import TABLES
from mtl.training.run_folder import read_metrics

LARGE: dict[str, Any] = {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16}
# The positions of RoBERTa begin after that of padding, as published.
ROBERTA: dict[str, Any] = {
    "vocab_size": 50265,
    "max_position_embeddings": 514,
    "type_vocab_size": 1,
}
# As the published configuration of DeBERTa-v3 base.
DEBERTA: dict[str, Any] = {
    "vocab_size": 128100,
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "type_vocab_size": 0,
    "relative_attention": True,
    "position_buckets": 256,
    "pos_att_type": ["p2c", "c2p"],
    "share_att_key": True,
    "norm_rel_ebd": "layer_norm",
    "position_biased_input": False,
}
TOY: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 32,
}


def architecture(backbone: str, toy: bool = False) -> PretrainedConfig:
    """The configuration of a published encoder; the defaults of transformers are the base sizes.

    Args:
        backbone: `bert-base-*`, `roberta-base`, `roberta-large` or `deberta-v3-base`.
        toy: Whether to make it tiny.

    Raises:
        ValueError: If it is another one.
    """
    name = backbone.rpartition("/")[2]
    if name == "deberta-v3-base":
        return DebertaV2Config(**DEBERTA | (TOY if toy else {}))
    family, size = name.split("-")[:2]
    if family not in ("bert", "roberta") or size not in ("base", "large"):
        known = "bert-base, roberta-base, roberta-large and deberta-v3-base"
        raise ValueError(f"{backbone}: known are {known}")
    scale: dict[str, Any] = LARGE | {"intermediate_size": 4096} if size == "large" else {}
    scale = scale | (TOY if toy else {})
    return RobertaConfig(**ROBERTA | scale) if family == "roberta" else BertConfig(**scale)


def save_random(backbone: str, folder: Path, toy: bool = False) -> Path:
    """Saves a published encoder with random weights, and the bundled encoder's tokenizer.

    Args:
        backbone: The encoder.
        folder: Folder of all encoders.
        toy: Whether to make it tiny.
    """
    name = backbone.rpartition("/")[2]
    out = folder / (f"{name}-toy" if toy else name)
    if not (out / "config.json").is_file():
        AutoTokenizer.from_pretrained(bundled_encoder()).save_pretrained(out)
        config = architecture(backbone, toy)
        # The tokenizer is BERT's, whose padding token is the first one.
        config.pad_token_id = 0
        AutoModelForMaskedLM.from_config(config).save_pretrained(out)
    return out


def measured_run(plan: Plan) -> RunSpec:
    """The first run that trains several tasks, or the first one that trains."""
    rows = [
        name
        for name, row in plan.experiment.rows.items()
        if row.command == "fit" and not row.uses and row.shown
    ]
    several = [name for name in rows if plan.experiment.rows[name].of != "task"]
    return next(iter(plan.runs((several or rows)[0])))


def measure(
    table: str, folder: Path, batch_size: int | None, steps: int, toy: bool, options: Sequence[str]
) -> dict[str, Any]:
    """Trains one row of a table for some steps, in a process of its own.

    Args:
        table: The table.
        folder: Folder of the encoders and the run.
        batch_size: Examples in a batch. None: as the table says.
        steps: Number of steps.
        toy: Whether the encoder is tiny.
        options: Extra options of the run.

    Returns:
        Row, encoder, peak memory in GiB, and seconds per step.
    """
    plan = Plan(Experiment.read(table), "paper")
    run = measured_run(plan)
    arguments = run_arguments(plan, run, {})
    size = ["--data.batch_size", str(batch_size)] if batch_size else []
    arguments += [*size, "--backbone", str(save_random(plan.size.backbone, folder, toy))]
    arguments += ["--trainer.max_steps", str(steps), "--trainer.max_epochs", "-1"]
    arguments += ["--trainer.limit_val_batches", "0", "--trainer.enable_progress_bar", "false"]
    arguments += ["--save_every", "100000", *options]
    out = folder / "runs" / table
    command = [sys.executable, "-m", "mtl", "fit", *arguments, "--out", str(out)]
    found = {"table": table, "row": run.row, "backbone": plan.size.backbone, "batch": batch_size}
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    results = read_metrics(out)
    if done.returncode or not results:
        return found | {"error": (done.stderr or done.stdout).strip().splitlines()[-1:]}
    return found | {
        "steps": results["steps"],
        "gib": round(results["memory"] / 2**30, 2),
        "seconds_per_step": round(results["seconds"] / results["steps"], 3),
        "examples": sum(results["examples_drawn"].values()),
        "device": results["device"],
    }


def paper_presets(
    out: Path = Path("runs/bench/paper_presets.jsonl"),
    tables: list[str] | None = None,
    data_root: Path | None = None,
    batch_size: int | None = 4,
    steps: int = 20,
    toy: bool = False,
) -> list[dict[str, Any]]:
    """Measures the tables that are not in the results file.

    Args:
        out: The results file; the encoders and runs are in a folder next to it.
        tables: The tables. Default: all with a size `paper`.
        data_root: Folder of local data sets.
        batch_size: Examples in a batch. null: those of the table.
        steps: Number of steps.
        toy: Whether to use tiny encoders.
    """
    names = tables or [
        path.stem
        for path in sorted(TABLES.glob("*.yaml"))
        if "paper" in Experiment.read(path.stem).sizes
    ]
    known = [json.loads(line) for line in out.read_text().splitlines()] if out.is_file() else []
    options = ["--data.root", str(data_root)] if data_root else []
    folder = out.parent / "paper_presets"
    folder.mkdir(parents=True, exist_ok=True)
    measured = []
    for name in names:
        if name in [each["table"] for each in known]:
            continue
        measured.append(measure(name, folder, batch_size, steps, toy, options))
        print(json.dumps(measured[-1]), flush=True)
        with out.open("a", encoding="utf-8") as file:
            file.write(json.dumps(measured[-1]) + "\n")
    return measured


if __name__ == "__main__":
    auto_cli(paper_presets, as_positional=False)
