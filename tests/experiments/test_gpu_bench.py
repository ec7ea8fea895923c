"""The script for GPUs runs on a CPU at toy size, and continues where it stopped."""

import json
from pathlib import Path

import pytest

from experiments.bench.gpu import gpu
from experiments.bench.gpu_parts import METHODS


@pytest.mark.filterwarnings("ignore:.*has no pooling layer")
def test_every_case_is_measured_once(masked_backbone: str, tmp_path: Path) -> None:
    out = tmp_path / "gpu.jsonl"
    assert gpu(out, "toy", minutes=-1, backbone=masked_backbone) == []
    results = {each["case"]: each for each in gpu(out, "toy", backbone=masked_backbone)}
    assert [json.loads(line)["case"] for line in out.read_text().splitlines()] == list(results)
    assert not [each for each in results.values() if "error" in each]
    for name in METHODS:
        for scheme in ("round_robin", "mixed"):
            answers = results[f"answers {name} {scheme}"]
            assert answers["difference_fp32"] < 1e-5
            assert 0 < answers["difference_bf16"] < 0.05 * max(1, answers["largest_logit"])
            assert answers["finite_losses"]
    assert results["surgery toy 2 tasks"]["ratio"] > 0
    assert results["speed toy 4 padded"]["host_seconds"] > 0
    assert {"peak", "pass toy"} < results.keys()
    lines = out.read_text().splitlines(keepends=True)
    out.write_text("".join(lines[1:]))
    assert [each["case"] for each in gpu(out, "toy", backbone=masked_backbone)] == [
        "answers multi_head round_robin"
    ]
