"""A comparison in Python and on the command line: plans, looks, budgets, what to ship."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

import mtl
from mtl.__main__ import main
from mtl.compare.api import Comparison
from mtl.compare.budget import plan_within
from mtl.compare.decision import Verdict
from mtl.compare.default_file import save_default
from mtl.compare.definition import Experiment
from mtl.compare.forecast import Forecast, expected_test_variance
from mtl.compare.plan import Plan
from mtl.compare.planning import Noise
from mtl.compare.results import Results
from mtl.compare.run_index import RunIndex
from mtl.compare.run_spec import RunSpec
from mtl.compare.sequential import plan_at_look
from mtl.compare.shipping import shipping_lines
from mtl.errors import UserError
from mtl.system.package_data import editor_line
from tests.compare.helpers import SequentialExecutor


@pytest.fixture
def small(table: Path, tmp_path: Path) -> dict[str, Any]:
    definition: dict[str, Any] = yaml.safe_load(table.read_text())
    definition["rows"].pop("both")
    return definition | {"published": None, "suite": str(table.parent / "suite.yaml")}


def written(definition: dict[str, Any], folder: Path, **fields: object) -> str:
    path = folder / "mine.yaml"
    path.write_text(yaml.safe_dump(definition | fields, sort_keys=False))
    return str(path)


def test_a_comparison_has_verdicts_scores_and_a_run_to_ship(
    small: dict[str, Any], tmp_path: Path
) -> None:
    name = written(small, tmp_path)
    plan = Plan(Experiment.read(name), "mini")
    comparison = Comparison(name, plan, tmp_path, make_executor=SequentialExecutor)
    with pytest.raises(UserError, match="has not run yet"):
        _ = comparison.verdicts
    assert "runs  difference" in str(comparison.plan(estimate=False))
    outcome = comparison.run()
    assert list(comparison.verdicts) == ["together"]
    records = comparison.scores.to_dict("records")
    assert {(one["row"], one["seed"]) for one in records} == {
        (row, seed) for row in ("alone", "together") for seed in (1, 2)
    }
    assert "together" in comparison._repr_html_()
    assert "measured" in str(comparison.plan()) and "not measured" not in str(comparison.plan())
    truncated = "of the examples are truncated to 16 tokens"  # a warning before the training
    assert truncated in (outcome.out / "table.md").read_text()
    assert all(
        "Run to ship: " in (outcome.out / name).read_text() for name in ("table.md", "table.html")
    )
    # The commands name the run with the best validation score.
    lines = list(shipping_lines(outcome.results, "together", for_transformers=True))
    best = max((1, 2), key=lambda seed: validation(outcome.results, "together", seed))
    assert f"seed {best}, the best on validation data" in lines[0]
    words = lines[1].split()
    assert words[:3] == ["mtl", "export", "--ckpt_path"] and words[4:7] == [
        "--task",
        "mood",
        "--out",
    ]
    main([*words[1:-1], str(tmp_path / "exported")])
    assert lines[-1] == "  (texts.csv has the columns of the tasks' texts: text, first, second)"
    alone = list(shipping_lines(outcome.results, "alone", for_transformers=False))
    assert [line.split()[-1] for line in alone if "predict " in line] == [
        "predictions_mood.csv",
        "predictions_same.csv",
    ]
    assert (outcome.out / "logs" / "alone_seed_1_mood.log").read_text()


def test_an_edited_definition_is_not_overwritten(
    task_files: list[Path], backbone: str, tmp_path: Path
) -> None:
    tasks, settings = task_files[:2], {"backbone": backbone}
    written_to = save_default(tasks, (), tmp_path, settings).path
    assert written_to.read_text(encoding="utf-8").startswith(editor_line("comparison"))
    save_default(tasks, (), tmp_path, settings | {"epochs": 2})  # unedited: replaced
    assert "trainer.max_epochs: 2" in written_to.read_text()
    edited = written_to.read_text().replace("margin: 1.0", "margin: 2.0")
    written_to.write_text(edited)
    with pytest.raises(UserError, match=f"To use it: mtl compare {re.escape(str(written_to))}"):
        save_default(tasks, (), tmp_path, settings)
    assert written_to.read_text() == edited


def test_a_saved_definition_contains_the_options_of_its_command(
    task_files: list[Path], backbone: str, tmp_path: Path
) -> None:
    options = ["--data.max_examples=9", "--trainer.precision", "fast", "-c", "methods/pals"]
    options += ["--data.batch_size", "8", "--data.rounds", "2"]
    settings = {"backbone": backbone, "trials": 1}
    saved = save_default(task_files[:2], options, tmp_path, settings)
    assert saved.options == ("-c", "methods/pals")
    assert f"run it again with: mtl compare {saved.path} -c methods/pals" in saved.path.read_text()
    plan = Plan(Experiment.read(str(saved.path)), "default", options=saved.options)
    assert plan.size.options == {
        "trainer.max_epochs": 5,
        "data.batch_size": 8,
        "data.max_examples": 9,
        "trainer.precision": "fast",
        "data.rounds": 2,
        "model.lr": 1.4e-4,
    }
    assert plan.experiment.paired and plan.limits_examples and plan.size.search is None
    rows = plan.experiment.rows
    assert rows["multi-head, mixed"].options == {"data.batch_size": 4}
    assert rows["LoRA per task"].options == {"model.lr": 7.1e-4}
    given = save_default(task_files[:2], ["--model.lr", "3e-5"], tmp_path, {"backbone": backbone})
    plan = Plan(Experiment.read(str(given.path)), "default")
    assert plan.size.search is None and plan.size.options["model.lr"] == 3e-5


def validation(results: Results, row: str, seed: int) -> float:
    run = next(run for run in results.folders if (run.row, run.seed) == (row, seed))
    return float(results.records[run]["validation"]["mean"])


def test_looks_add_seeds_to_undecided_rows_only(
    small: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small["rows"]["other"] = small["rows"]["together"] | {"options": {"model.lr": 1e-3}}
    plan = Plan(Experiment.read(written(small, tmp_path, looks=[2, 3, 4])), "mini")
    assert plan.seeds == (1, 2, 3, 4)
    finished: set[int] = set()
    monkeypatch.setattr(RunIndex, "is_complete", lambda self, run: run.seed in finished)
    monkeypatch.setattr(RunIndex, "finished_folders", lambda self: {})
    decided = {"together": Verdict.BETTER}
    monkeypatch.setattr(
        Results,
        "decisions",
        property(
            lambda self: {
                row: type("Decision", (), {"verdict": decided.get(row)})()
                for row in ("together", "other")
            }
        ),
    )

    def seeds(advance: bool) -> dict[str, int]:
        current = plan_at_look(plan, tmp_path, advance)
        return {row: len(current.row_seeds(row)) for row in ("alone", "together", "other")}

    first = {"alone": 2, "together": 2, "other": 2}
    assert seeds(advance=True) == seeds(advance=False) == first
    finished |= {1, 2}
    assert seeds(advance=False) == first
    assert seeds(advance=True) == {"alone": 3, "together": 2, "other": 3}
    finished |= {3}
    assert seeds(advance=False) == {"alone": 3, "together": 2, "other": 3}
    assert seeds(advance=True) == {"alone": 4, "together": 2, "other": 4}
    decided["other"] = Verdict.WORSE
    finished -= {3}
    assert seeds(advance=True) == first  # nothing is undecided


def test_a_budget_chooses_seeds_or_is_refused_before_training(
    small: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = Plan(Experiment.read(written(small, tmp_path)), "mini")
    machine = SequentialExecutor()
    options: dict[str, Any] = {
        "make_executor": lambda: machine,
        "test_sizes": {"mood": 15, "same": 15},
        "at_once": 1,
    }
    chosen, found = plan_within(plan, tmp_path, 10_000, **options)
    assert machine.done == 3 and found.run_seconds  # the pilot: each task alone, and both together
    assert len(chosen.seeds) == min(50, int(10_000 / found.run_seconds))
    # The same command keeps the number, whatever later runs took.
    monkeypatch.setattr(Forecast, "seeds_within", lambda *_: 3)
    again, _ = plan_within(plan, tmp_path, 10_000, **options)
    assert again.seeds == chosen.seeds
    monkeypatch.undo()
    with pytest.raises(UserError, match="too little: the trials and 2 seeds of every row take"):
        plan_within(plan, tmp_path, 0.01, **options)
    assert machine.done == 3
    # Without finished runs an estimate refuses it before the pilot.

    def hours(runs: Sequence[RunSpec]) -> dict[RunSpec, float]:
        return dict.fromkeys(runs, 3600.0)

    with pytest.raises(UserError, match="2 seeds of every row take about 6.0 h"):
        plan_within(plan, tmp_path / "new", 60, **options, estimator=hours)
    assert machine.done == 3


def test_the_plan_reproduces_the_table_of_the_specification() -> None:
    noise = Noise(seed_deviation=2.0, test_variance=0.5**2, test_examples=1000)
    plan = Forecast(
        noise,
        rows=5,
        run_seconds=60.0,
        trial_seconds=120.0,
        at_once=2,
        source="",
        runs=7,
        trials=20,
    )
    assert [round(plan.detectable(seeds), 1) for seeds in (5, 10, 20, 50)] == [5.4, 3.7, 2.8, 2.2]
    assert plan.seconds(10) == (120 + 600) / 2
    lines = str(plan).splitlines()
    assert lines[0] == "6 rows, 7 runs of each seed, 20 trials of the search before them"
    assert lines[2].split()[:3] == ["5", "55", "5.4"]
    assert plan.seeds_within(360) == 10
    assert expected_test_variance([300, 300]) == expected_test_variance([300]) / 2


def test_the_default_definition_can_be_edited_and_run(
    task_files: list[Path], backbone: str, in_tmp: Path
) -> None:
    settings = {"methods": ["methods/pals", "balancing/pcgrad"], "backbone": backbone, "seeds": [7]}
    path, *_ = save_default(task_files[:2], (), in_tmp / "runs", settings)
    experiment = Experiment.read(str(path))
    plan = Plan(experiment, "default")
    assert list(experiment.rows) == [
        "one model per task",
        "multi-head, round robin",
        "multi-head, mixed",
        "LoRA per task",
        "pals",
        "pcgrad",
    ]
    trials = {len(plan.search_space(row)["model.lr"]) for row in experiment.rows}
    assert trials == {4} and plan.size.search and plan.size.search.seed not in plan.seeds
    warnings = Comparison(str(path), plan, in_tmp).warnings
    assert any("transformers cannot load exports of 'pals'" in warning for warning in warnings)
    with pytest.raises(UserError, match="unknown method 'methods/pal'.*Did you mean"):
        save_default(task_files[:2], (), in_tmp, {"methods": ["methods/pal"]})
    with pytest.raises(UserError, match="two tasks or more"):
        save_default(task_files[:1], (), in_tmp, {})


def test_a_file_with_several_tasks_is_named_from_any_folder(
    in_tmp: Path, task_files: list[Path]
) -> None:
    mood = yaml.safe_load(task_files[0].read_text())
    source = {"path": str(task_files[0].parent / mood["source"]["path"])}
    tasks = {name: {"label": mood.get("label", "label")} for name in ("one", "two")}
    fields = {"texts": mood["texts"], "classes": mood["classes"], "source": source, "tasks": tasks}
    (in_tmp / "both.yaml").write_text(yaml.safe_dump(fields))
    path, *_ = save_default(["both.yaml#one", "both.yaml#two"], (), in_tmp / "runs", {})
    named = yaml.safe_load(path.read_text())["tasks"]
    assert named == [f"{in_tmp.resolve() / 'both.yaml'}#{name}" for name in ("one", "two")]
    assert list(Experiment.read(str(path)).task_files) == ["one", "two"]


def test_tasks_with_the_same_classes_get_a_joint_row(in_tmp: Path) -> None:
    for name in ("kettles", "lamps"):
        (in_tmp / name).mkdir()
        for split in ("train", "validation", "test"):
            rows = [f"text {number},{number % 2}" for number in range(8 if name == "lamps" else 24)]
            (in_tmp / name / f"{split}.csv").write_text("\n".join(["text,label", *rows]))
        task = {"name": name, "texts": ["text"], "classes": ["no", "yes"], "source": {"path": name}}
        (in_tmp / f"{name}.yaml").write_text(yaml.safe_dump(task))
    path, *_ = save_default(["kettles.yaml", "lamps.yaml"], (), in_tmp, {"backbone": "bundled"})
    experiment = Experiment.read(str(path))
    assert experiment.rows["joint"].configs == ["sampling/round_robin", "methods/joint"]
    # 32 examples in all: a round is 2 batches of 16, or a step with 8 of each.
    assert experiment.rows["multi-head, round robin"].options == {"data.rounds": 1}
    assert experiment.rows["multi-head, mixed"].options == {"data.batch_size": 8, "data.rounds": 2}
    # Limited training sets are drawn by the seed, and rounds count what is drawn.
    limited = ("--data.max_examples", "8")
    path_limited, *_ = save_default(["kettles.yaml", "lamps.yaml"], limited, in_tmp / "limited", {})
    experiment = Experiment.read(str(path_limited))
    assert experiment.paired and not Experiment.read(str(path)).paired
    assert experiment.rows["multi-head, mixed"].options == {"data.batch_size": 8}
    warnings = mtl.compare(path, run=False).warnings
    train = (in_tmp / "lamps" / "train.csv").resolve()
    expected = f"train ({train}): fewer than 9 training examples of class 'no' (4), 'yes' (4)"
    assert sum(warning.startswith(f"task 'lamps', {expected}") for warning in warnings) == 1


def test_a_file_with_several_tasks_stands_for_all_of_them(in_tmp: Path) -> None:
    (in_tmp / "data").mkdir()
    for split in ("train", "validation", "test"):
        rows = [f"text {number},{number % 2},{number % 3}" for number in range(24)]
        (in_tmp / "data" / f"{split}.csv").write_text("\n".join(["text,a,b", *rows]))
    classes = {"a": ["no", "yes"], "b": ["no", "yes", "maybe"]}
    tasks = {name: {"label": name, "classes": classes[name]} for name in classes}
    group = {"texts": ["text"], "source": {"path": "data"}, "tasks": tasks}
    (in_tmp / "group.yaml").write_text(yaml.safe_dump(group))
    path, *_ = save_default(["group.yaml"], (), in_tmp, {"backbone": "bundled"})
    experiment = Experiment.read(str(path))
    assert experiment.tasks == [f"{in_tmp.resolve()}/group.yaml#{name}" for name in classes]
    assert list(experiment.task_files) == ["a", "b"]
    # The texts of the group are one stream: an epoch draws each of them once, for both tasks.
    assert experiment.rows["multi-head, round robin"].options == {}
    assert experiment.rows["multi-head, mixed"].options == {"data.batch_size": 16}
    separately = ("--data.label_groups", "false")
    path, *_ = save_default(["group.yaml#a", "group.yaml#b"], separately, in_tmp / "apart", {})
    experiment = Experiment.read(str(path))
    assert experiment.rows["multi-head, mixed"].options == {"data.batch_size": 8}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give a definition, or tasks"),
        (["mine.yaml", "--trials", "3"], "--trials is for a comparison without FILE"),
        (["mine.yaml", "--tasks+=a.yaml"], "--tasks is for a comparison without FILE"),
        (["mine.yaml", "--jobs", "0"], "--jobs 0: give 1 or more"),
        (["mine.yaml", "--plann"], "unknown option --plann. Did you mean --plan?"),
        (["lost.yaml"], "no file 'lost.yaml'"),
        (["samples", "--budget", "2"], "--budget 2: give a time such as 90min"),
        (["samples", "--budget", "-2h"], "--budget -2h: give a time such as 90min"),
        (["--tasks+=tasks/rte", "--budget", "soon"], "--budget soon: give a time such as 90min"),
        (["--tasks+=tasks/rte", "--budget", ""], "--budget: the value is empty"),
        (["--tasks+=tasks/rte", "--look", "next"], "--look next is for a definition with `looks`"),
        (["samples", "--seeds", "1", "1"], "--seeds 1 1: give each seed once, 0 or more"),
        (["samples", "--look", "next"], "--look next: samples has no `looks`"),
        (["samples", "--model.lrr", "1"], "unknown option --model.lrr. Did you mean --model.lr"),
        (["samples", "--size", "large"], "unknown size 'large'"),
    ],
)
def test_a_comparison_that_cannot_run_is_refused_first(
    in_tmp: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    with pytest.raises(SystemExit) as refused:
        main(["compare", *arguments])
    assert refused.value.code == 2 and re.search(message, capsys.readouterr().err)
    assert not (in_tmp / "runs").exists()
