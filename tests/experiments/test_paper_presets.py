"""The script that measures the size `paper` of the tables, at toy size."""

from pathlib import Path

import pytest

from experiments.bench.paper_presets import architecture, measured_run, paper_presets
from mtl.compare.definition import Experiment
from mtl.compare.plan import Plan


def test_a_table_is_measured_once(tmp_path: Path) -> None:
    out = tmp_path / "presets.jsonl"
    (found,) = paper_presets(out, ["samples"], steps=2, toy=True)
    assert (found["table"], found["row"], found["steps"]) == ("samples", "round robin", 2)
    assert found["gib"] > 0 and found["seconds_per_step"] > 0 and found["examples"] == 2 * 4
    assert paper_presets(out, ["samples"], steps=2, toy=True) == []


def test_the_architectures_are_the_published_ones() -> None:
    large = architecture("roberta-large")
    assert (large.num_hidden_layers, large.hidden_size, large.vocab_size) == (24, 1024, 50265)
    base = architecture("bert-base-uncased")
    assert (base.num_hidden_layers, base.hidden_size, base.intermediate_size) == (12, 768, 3072)
    with pytest.raises(ValueError, match="known are bert-base"):
        architecture("gpt2-small")


def test_the_row_that_is_measured_trains_several_tasks_if_one_does() -> None:
    rows = {
        name: measured_run(Plan(Experiment.read(name), "paper")).row
        for name in ("ca_mtl", "prompt_kshot", "mft_g1")
    }
    assert rows == {"ca_mtl": "multi-head", "prompt_kshot": "MT-FT, zero-shot", "mft_g1": "mix"}
