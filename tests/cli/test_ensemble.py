import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score

from mtl.__main__ import main
from mtl.inference.voting import combine_votes

CPU = ["--trainer.accelerator", "cpu", "--trainer.enable_progress_bar", "false"]


@given(st.integers(2, 7), st.integers(2, 4), st.integers(0, 2**20))
def test_the_hard_vote_is_the_mode_and_ties_go_to_the_first_class(
    members: int, classes: int, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    outputs = torch.rand(members, 9, classes, generator=generator)
    expected = scipy.stats.mode(outputs.argmax(-1).numpy(), axis=0).mode
    assert np.array_equal(
        combine_votes(list(outputs), "hard", [1.0] * members).argmax(-1).numpy(), expected
    )


def test_soft_and_weighted_votes_are_means() -> None:
    outputs = torch.rand(3, 5, 4)
    torch.testing.assert_close(
        combine_votes(list(outputs), "soft", [0.1, 0.2, 0.7]), outputs.double().mean(0)
    )
    expected = np.average(outputs.double().numpy(), axis=0, weights=[0.2, 0.0, 0.6])
    torch.testing.assert_close(
        combine_votes(list(outputs), "weighted", [0.2, 0.0, 0.6]), torch.from_numpy(expected)
    )
    torch.testing.assert_close(
        combine_votes(list(outputs), "weighted", [0.0, 0.0, 0.0]), outputs.double().mean(0)
    )


def test_a_hard_vote_averages_values() -> None:
    outputs = torch.tensor([[[1.0]], [[2.0]], [[6.0]]])
    assert combine_votes(list(outputs), "hard", [1.0] * 3).item() == pytest.approx(3.0)


@pytest.mark.parametrize(
    ("runs", "message"),
    [
        (["a"], "at least two runs, but only a is named"),
        (["a", "b", "a"], "a is named twice"),
        (["a", "b/../a"], "a and b/../a are one folder"),
        (["a", "link"], "a and link are one folder"),
    ],
    ids=str,
)
def test_an_ensemble_has_two_runs_or_more_each_once(
    runs: list[str], message: str, in_tmp: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a", "b"):
        Path(name).mkdir()
    Path("link").symlink_to("a")
    with pytest.raises(SystemExit):
        main(["ensemble", *runs, "--out", "both"])
    assert message in capsys.readouterr().err


@pytest.fixture
def runs(task_files: list[Path], backbone: str, in_tmp: Path) -> list[str]:
    folders = []
    for name, seed, method in (("a", 1, "MultiHead"), ("b", 2, "MultiHead"), ("c", 3, "CAMTL")):
        arguments = [
            "fit",
            *[f"--tasks+={file}" for file in task_files],
            "--backbone",
            backbone,
            "--out",
            name,
            *CPU,
        ]
        main(
            [
                *arguments,
                "--model",
                method,
                "--seed_everything",
                str(seed),
                "--trainer.max_epochs",
                "1",
                "--model.lr",
                "1e-3",
            ]
        )
        folders.append(name)
    return folders


def lines(path: str, task: str) -> list[dict[str, Any]]:
    return [
        json.loads(line)
        for line in (Path(path) / f"predictions/test/{task}.jsonl").read_text().splitlines()
    ]


def metrics(path: str) -> dict[str, Any]:
    return json.loads((Path(path) / "metrics.json").read_text())


def test_runs_of_different_methods_are_combined(
    runs: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    main(["ensemble", *runs, "--out", "both", *CPU])
    members = [lines(f"both/members/{number}", "same") for number in (1, 2, 3)]
    combined = lines("both", "same")
    for index, line in enumerate(combined):
        for name, probability in line["probabilities"].items():
            assert probability == pytest.approx(
                sum(member[index]["probabilities"][name] for member in members) / 3
            )
    results = metrics("both")
    accuracy = accuracy_score(
        [line["label"] for line in combined], [line["prediction"] for line in combined]
    )
    assert results["test"]["tasks"]["same"]["metrics"]["accuracy"] == pytest.approx(accuracy)
    assert [member["run"] for member in results["ensemble"]["members"]] == runs
    assert "soft vote of 3" in capsys.readouterr().out


def test_a_soup_can_be_tested_like_any_other_run(runs: list[str]) -> None:
    main(["ensemble", *runs[:2], "--vote", "soup", "--out", "soup", *CPU])
    results = metrics("soup")
    assert results["ensemble"]["vote"] == "soup"
    main(["test", "--ckpt_path", "soup", "--out", "again", *CPU])
    assert metrics("again")["test"]["mean"] == results["test"]["mean"]
    one, two, mean = (
        torch.load(f"{name}/checkpoints/best.ckpt", weights_only=True)["state_dict"]
        for name in (*runs[:2], "soup")
    )
    for name, value in mean.items():
        torch.testing.assert_close(value, (one[name] + two[name]) / 2)


def test_runs_that_do_not_fit_together_are_refused(
    runs: list[str], task_files: list[Path], backbone: str
) -> None:
    def refused(*arguments: str) -> int | str | None:
        with pytest.raises(SystemExit) as done:
            main(["ensemble", *arguments, *CPU])
        return done.value.code

    arguments = [
        "fit",
        f"--tasks+={task_files[0]}",
        "--backbone",
        backbone,
        "--out",
        "one",
        *CPU,
        "--trainer.max_epochs",
        "1",
    ]
    main(arguments)
    assert refused(runs[0], "one", "--out", "x") == 2  # other tasks
    assert refused(runs[0], runs[2], "--vote", "soup", "--out", "x") == 2  # another architecture
    assert refused(*runs, "--min_score", "2", "--out", "x") == 2  # no runs remain
    assert refused(runs[0], "nowhere", "--out", "x") == 2
    assert not (Path("x") / "metrics.json").exists()


def test_test_data_does_not_weight_members(
    task_files: list[Path], backbone: str, in_tmp: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = {"path": str(task_files[0].parent / "mood")}
    fields = {
        "name": "glue",
        "texts": ["text"],
        "classes": ["bad", "good"],
        "splits": {"test": ["validation"]},
    }
    task = json.dumps(fields | {"source": source})
    for seed, options in (
        (1, []),
        (2, []),
        (3, ["--data.holdout", "0.2"]),
        (4, ["--data.holdout", "0.2"]),
    ):
        arguments = [
            "fit",
            f"--tasks+={task}",
            "--backbone",
            backbone,
            "--seed_everything",
            str(seed),
            "--out",
            f"run{seed}",
            *options,
        ]
        main([*arguments, *CPU, "--trainer.max_epochs", "1", "--data.max_length", "16"])
    with pytest.raises(SystemExit):
        main(["ensemble", "run1", "run2", "--vote", "weighted", "--out", "both", *CPU])
    assert "task 'glue' has the same examples for validation and test" in capsys.readouterr().err
    main(["ensemble", "run1", "run2", "--vote", "soft", "--out", "both", *CPU])
    main(["ensemble", "run3", "run4", "--vote", "weighted", "--out", "others", *CPU])
