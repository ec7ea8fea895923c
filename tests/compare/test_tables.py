"""From a definition to the table: runs, their folders, what is shown."""

import csv
import json
from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path

import pytest
import yaml

from experiments import snapshots
from mtl.cli.parsed import run_name_of
from mtl.compare.definition import MEAN, Experiment
from mtl.compare.engine import write_report
from mtl.compare.jobs import Job, run_job
from mtl.compare.notes import provenance
from mtl.compare.pictures import draw_crossed_map
from mtl.compare.plan import Plan, RunSpec
from mtl.compare.rendering import Cell, Grid, latex, markdown
from mtl.compare.report import grids
from mtl.compare.results import Results
from mtl.compare.run_index import RunIndex
from mtl.compare.scheduler import run_graph
from mtl.compare.search import searched_plan, study_name
from mtl.errors import UserError
from mtl.system.hardware import fast_precision
from mtl.system.package_data import CONFIGS, TABLES

NAMES = sorted(file.stem for file in TABLES.glob("*.yaml"))


class SequentialExecutor:
    """Runs jobs one after the other in this process; those with a given option fail."""

    about = "here"

    def __init__(self, failing: str = "-") -> None:
        self.failing, self.done = failing, 0

    def submit(self, jobs: Sequence[Job]) -> list[Future[None]]:
        futures: list[Future[None]] = []
        for job in jobs:
            futures.append(Future())
            try:
                if self.failing in (job.fit or ()):
                    raise RuntimeError("simulated failure")
                run_job(job)
                self.done += 1
                futures[-1].set_result(None)
            except RuntimeError as error:
                futures[-1].set_exception(error)
        return futures

    def close(self) -> None:
        pass


@pytest.fixture(scope="module")
def table(task_files: list[Path], backbone: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Alone, together, and alone from together with one of two rates, on two tasks."""
    folder = tmp_path_factory.mktemp("table")
    (folder / "suite.yaml").write_text(
        yaml.safe_dump({"tasks": [str(file) for file in task_files[:2]]})
    )
    alone = {"of": "task", "options": {"model": "MultiHead"}}
    together = {"configs": ["sampling/sequential", "methods/multi_head"]}
    then = {
        "of": "task",
        "options": {"model": "MultiHead"},
        "uses": {"model.init_from": "together"},
    }
    options = {
        "trainer.accelerator": "cpu",
        "data.max_length": 16,
        "trainer.max_epochs": "{epochs}",
    }
    definition = {
        "question": "Is it better?",
        "suite": str(folder / "suite.yaml"),
        "baseline": "alone",
        "budget": "one pass",
        "columns": ["mood", "same.accuracy", "same.f1"],
        "rows": {
            "alone": alone,
            "together": together,
            "both": then | {"grid": {"model.lr": [1e-4, 1e-2]}},
        },
        "sizes": {
            "mini": {
                "backbone": backbone,
                "options": options | {"data.cache": str(folder / "cache")},
                "values": {"epochs": 1},
                "seeds": [1, 2],
            }
        },
        "published": {"source": "Doe 2020", "rows": {"together": {"mood": 99.9}}},
    }
    (folder / "table.yaml").write_text(yaml.safe_dump(definition, sort_keys=False))
    return folder / "table.yaml"


@pytest.fixture(scope="module")
def finished(table: Path) -> Results:
    """All of its runs, done once."""
    machine = SequentialExecutor()
    results = done(table, machine)
    assert machine.done == 2 * (
        2 + 1 + 2 * 2
    )  # for each seed: two alone, one together, two tasks with two rates
    return results


def done(table: Path, machine: SequentialExecutor, seeds: tuple[int, ...] = ()) -> Results:
    plan = Plan(Experiment.read(str(table)), "mini", seeds)
    runs = RunIndex(plan, table.parent / "runs")
    failed = run_graph(plan.all_runs(), plan.dependencies, runs.job, machine)
    return Results(plan, runs.finished_folders(), failed)


def test_nothing_runs_twice_and_another_seed_runs_alone(table: Path, finished: Results) -> None:
    folders = {str(folder) for folder in finished.folders.values()}
    assert len(folders) == 2 * (2 + 1 + 2)  # of the grid the better one
    again = SequentialExecutor()
    done(table, again)
    assert again.done == 0
    more = SequentialExecutor()
    done(table, more, (1, 2, 3))
    assert more.done == 2 + 1 + 2 * 2
    one = next(folder for run, folder in finished.folders.items() if run.row == "alone")
    (one / "metrics.json").unlink()  # as after an interruption
    repaired = SequentialExecutor()
    done(table, repaired)
    assert repaired.done == 1


def test_scores_are_those_of_the_runs_metrics_files(finished: Results) -> None:
    for run, folder in finished.folders.items():
        tested = json.loads((folder / "metrics.json").read_text())["test"]["tasks"]
        for column in ("mood", "same.accuracy", "same.f1"):
            task, _, metric = column.partition(".")
            if task in tested:
                value = tested[task]["metrics"][metric or "accuracy"]
                assert finished.score(run.row, run.seed, column) == pytest.approx(100 * value)

    def means(row: str) -> list[list[float]]:
        return [
            [finished.score(row, seed, column) or 0.0 for column in ("mood", "same.accuracy")]
            for seed in (1, 2)
        ]

    alone, together = means("alone"), means("together")
    assert finished.mean("alone", 1) == pytest.approx(sum(alone[0]) / 2)
    differences = [
        sum(ours) / 2 - sum(theirs) / 2 for ours, theirs in zip(together, alone, strict=True)
    ]
    assert finished.comparisons["together", MEAN].seeds.mean == pytest.approx(sum(differences) / 2)
    rows = finished.comparisons["together", "mood"].examples  # from the saved predictions
    assert rows is not None and rows.mean == pytest.approx(
        finished.comparisons["together", "mood"].seeds.mean
    )
    rows = finished.comparisons["together", "same.f1"].examples
    assert rows is not None and rows.mean == pytest.approx(
        finished.comparisons["together", "same.f1"].seeds.mean
    )


def test_the_cost_of_a_row_counts_the_runs_that_it_starts_from_once(finished: Results) -> None:
    assert finished.cost("alone").examples == 44 + 44
    assert finished.cost("both").examples == (44 + 44) + 88
    assert finished.cost("both").memory


def test_prototypical_scores_are_computed_first_and_their_time_counts(
    table: Path, tmp_path: Path
) -> None:
    definition = yaml.safe_load(table.read_text()) | {
        "published": None,
        "columns": [],
        "suite": "suite.yaml",
    }
    mood = next(iter(Experiment.read(str(table)).task_files.values()))
    other = yaml.safe_load(mood.read_text()) | {
        "name": "other",
        "source": {"path": str(mood.parent / "mood")},
    }
    (tmp_path / "other.yaml").write_text(yaml.safe_dump(other))
    (tmp_path / "suite.yaml").write_text(yaml.safe_dump({"tasks": [str(mood), "other.yaml"]}))
    alone, size = definition["rows"]["alone"], definition["sizes"]["mini"]
    scores = {
        "command": "score-prototypes",
        "tested": "none",
        "shown": False,
        "seed": 1,
        "options": {"alpha": 1},
    }
    weighted = {
        "configs": ["sampling/sequential", "methods/mft_weights_only"],
        "uses": {"model.scores": "scores"},
    }
    weighted["options"] = {"model.labels": "union", "model.rescale": "minmax"}
    definition["rows"] = {"scores": scores, "alone": alone, "weighted": weighted}
    size["seeds"] = [1]
    (tmp_path / "table.yaml").write_text(yaml.safe_dump(definition, sort_keys=False))
    results = done(tmp_path / "table.yaml", SequentialExecutor())
    assert results.complete and not results.failed
    folders = {run.row: folder for run, folder in results.folders.items()}
    made_by = (folders["scores"] / "scores.json", folders["weighted"] / "metrics.json")
    seconds = [json.loads(file.read_text())["seconds"] for file in made_by]
    assert results.cost("weighted").seconds == pytest.approx(sum(seconds)) and min(seconds) > 0
    assert not [note for note in provenance(results) if "MIXED" in note]


def test_the_best_run_of_a_grid_by_validation_score_is_used(finished: Results) -> None:
    runs = RunIndex(finished.plan, next(iter(finished.folders.values())).parent)
    for seed, task in ((1, "mood"), (2, "same")):
        grid = [run for run in finished.plan.runs("both") if (run.seed, run.task) == (seed, task)]
        scores = {
            run: json.loads((runs.job(run).out / "metrics.json").read_text())["validation"]["mean"]
            for run in grid
        }
        assert len(scores) == 2
        assert [run for run in grid if run in finished.folders] == [
            max(scores, key=scores.__getitem__)
        ]


def test_a_failed_run_is_reported_and_stops_only_its_dependents(
    table: Path, tmp_path: Path
) -> None:
    plan = Plan(Experiment.read(str(table)), "mini", (1,))
    runs, machine = (
        RunIndex(plan, tmp_path),
        SequentialExecutor(failing=str(CONFIGS / "sampling/sequential.yaml")),
    )
    failed = run_graph(plan.all_runs(), plan.dependencies, runs.job, machine)
    assert machine.done == 2  # those alone
    text = markdown(grids(Results(plan, runs.finished_folders(), failed), {}))
    assert "| together | failed | failed | failed | failed |" in text
    assert f"FAILED: together, seed 1: {tmp_path}/MultiHead-Sequential-" in text
    assert "FAILED: both, seed 1, mood, model.lr 0.0001: needs another run that failed" in text


def test_the_report_is_written_in_all_formats(table: Path, finished: Results) -> None:
    out = table.parent / "runs" / "tables" / "t"
    parts = write_report(finished, out)
    text = (out / "table.md").read_text()
    assert "published (unverified) | 99.9 |" in text
    assert "published: Doe 2020, not verified" in text
    assert (
        "trainer.max_epochs 1" in text
    )  # the size's value stands where the definition has a name in braces
    assert "](runs/together)" in text and "](runs/both/mood)" in text  # a cell leads to its runs
    assert (out / "runs/both/mood/seed-2/metrics.json").samefile(
        finished.folders[the_run(finished, "both", 2, "mood")] / "metrics.json"
    )
    lines = (out / "scores.csv").read_text().splitlines()
    assert lines[0] == "row,seed,task,score,folder" and len(lines) == 1 + 3 * 2 * 4
    assert (
        latex(parts[0]).startswith("% Is it better?")
        and r"\bottomrule" in latex(parts[0])
        and r"$\pm$" in latex(parts[0])
    )
    whole = (out / "table.html").read_text()
    assert "<script" not in whole and "http" not in whole  # it needs nothing else
    files = {
        "table.md",
        "table.csv",
        "scores.csv",
        "table.tex",
        "table.html",
        "changes.png",
        "curves.png",
        "runs",
    }
    assert {file.name for file in out.iterdir()} == files
    with (out / "table.csv").open() as file:
        cells = {(line["row"], line["column"]): line for line in csv.DictReader(file)}
    known = finished.comparisons["both", "mood"]
    assert float(cells["both", "mood"]["mean"]) == pytest.approx(
        sum(finished.scores("both", "mood")) / 2
    )
    assert cells["both", "mood"]["n"] == "2" and cells["both", "mood"]["test_examples"] == "15"
    assert float(cells["both", "mood"]["examples_low"]) == pytest.approx(
        known.examples.low if known.examples else None
    )
    assert cells["alone", "mood"]["seeds_p"] == ""


def the_run(results: Results, row: str, seed: int, task: str | None) -> RunSpec:
    return next(run for run in results.folders if run[:3] == (row, seed, task))


def test_the_bootstrap_of_the_mean_resamples_each_task_separately(finished: Results) -> None:
    mean = finished.comparisons["together", MEAN].examples
    parts = [finished.comparisons["together", column].examples for column in finished.main_columns]
    assert mean is not None and all(parts)
    assert mean.mean == pytest.approx(sum(part.mean for part in parts if part) / len(parts))
    assert mean.high - mean.low < max(
        part.high - part.low for part in parts if part
    )  # chances of tasks cancel


def test_snapshots_become_the_readme_section(
    finished: Results, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshots, "SNAPSHOTS", tmp_path)
    path = snapshots.save_snapshot(finished, grids(finished, {}), "t-mini", "make table-t")
    found = snapshots.read_snapshots(tmp_path)
    line = snapshots.readme_section(found).splitlines()[2]
    assert line.startswith("| [Is it better?](experiments/results/README.md#t-mini) | alone ")
    means = {row: sum(finished.scores(row, MEAN)) / 2 for row in ("together", "both")}
    assert all(f"{row} {mean:.1f}" in line for row, mean in means.items())
    cells = {cell["row"]: cell for cell in found["t-mini"]["cells"] if cell["column"] == MEAN}
    cells["together"] |= {"seeds_p": 0.02, "seeds_mean": 3.0}
    cells["both"] |= {"seeds_p": 0.04, "seeds_mean": 2.0}
    assert (
        snapshots.readme_section(found).splitlines()[2].endswith("| together; both | 2 |")
    )  # 0.04 and 0.04
    cells["both"]["seeds_p"] = 0.2
    cells["together"]["seeds_p"] = 0.03
    assert snapshots.readme_section(found).splitlines()[2].endswith("| none | 2 |")  # 0.06
    assert "    make table-t\n" in snapshots.full_report(
        found
    ) and "| together |" in snapshots.full_report(found)
    assert str(tmp_path.parent) not in path.read_text()  # nothing of this machine


def test_the_readme_agrees_with_the_snapshots() -> None:
    readme, found = snapshots.README.read_text(), snapshots.read_snapshots()
    assert snapshots.replace_section(readme, snapshots.readme_section(found)) == readme
    assert (snapshots.SNAPSHOTS / "README.md").read_text() == snapshots.full_report(found)


def test_the_notes_warn_of_mixed_code_and_data(table: Path, finished: Results) -> None:
    assert not [note for note in provenance(finished) if note.startswith("MIXED")]
    folder = next(iter(finished.folders.values()))
    before = (folder / "metrics.json").read_text()
    found = json.loads(before)
    found["code"], found["data"]["mood, test"] = "0" * 12, "1" * 12
    (folder / "metrics.json").write_text(json.dumps(found))
    notes = "\n".join(provenance(done(table, SequentialExecutor())))
    (folder / "metrics.json").write_text(before)
    assert "MIXED code: the runs have 2 different values" in notes
    assert "MIXED data: mood, test has different examples in some runs" in notes


def test_every_row_has_the_same_number_of_trials_and_a_search_resumes(
    table: Path, tmp_path: Path
) -> None:
    definition = yaml.safe_load(table.read_text())
    definition["rows"].pop("both")
    space = {"model.lr": {"low": 1e-5, "high": 1e-2, "log": True}, "data.batch_size": [4, 8]}
    definition["sizes"]["mini"] |= {"seeds": [1], "search": {"trials": 2, "space": space}}
    (tmp_path / "table.yaml").write_text(yaml.safe_dump(definition, sort_keys=False))
    plan = Plan(Experiment.read(str(tmp_path / "table.yaml")), "mini")
    machines: list[SequentialExecutor] = []

    def machine() -> SequentialExecutor:
        machines.append(SequentialExecutor())
        return machines[-1]

    best = searched_plan(plan, tmp_path / "runs", machine, tmp_path / "search.log")
    assert [len(best.experiment.rows[name].grid["model.lr"]) for name in ("alone", "together")] == [
        1,
        1,
    ]
    assert (
        sum(machine.done for machine in machines) == 2 * 2 + 2 * 1
    )  # two trials: of each task alone, and of both together
    other = searched_plan(
        Plan(Experiment.read(str(tmp_path / "table.yaml")), "mini", (2,)),
        tmp_path / "runs",
        None,
        tmp_path / "search.log",
    )
    assert (
        "model.lr" not in other.experiment.rows["alone"].grid
    )  # what was found with seed 1 is not seed 2's
    again = searched_plan(plan, tmp_path / "runs", machine, tmp_path / "search.log")
    assert again.experiment.rows == best.experiment.rows and len(machines) == 1
    runs = RunIndex(best, tmp_path / "runs")
    last = SequentialExecutor()
    assert not run_graph(best.all_runs(), best.dependencies, runs.job, last)
    assert last.done == 0  # the best trial is the row's run with the first seed
    notes = provenance(Results(best, runs.finished_folders(), {}))
    assert any("2 trials per row with seed 1; chosen: alone model.lr" in note for note in notes)


def test_an_invalid_definition_is_refused_with_a_remedy(table: Path, tmp_path: Path) -> None:
    good, table = yaml.safe_load(table.read_text()), tmp_path / "table.yaml"

    def refused(**changed: object) -> str:
        table.write_text(yaml.safe_dump(good | changed, sort_keys=False))
        with pytest.raises(UserError) as error:
            Experiment.read(str(table))
        return str(error.value)

    assert (
        "baseline: unknown row 'alon'. Choose from: alone, together, both. Did you mean 'alone'?"
        in refused(baseline="alon")
    )
    assert (
        "rows: both: unknown row 'togther'. Choose from: alone, together, both. Did you mean"
        in refused(
            rows=good["rows"]
            | {"both": good["rows"]["both"] | {"uses": {"model.init_from": "togther"}}}
        )
    )
    for row in (good["rows"]["together"], good["rows"]["alone"] | {"command": "none"}):
        assert (
            "no row trains each task alone; every comparison needs one with `of: task`"
            in refused(rows={"alone": row}, published=None)
        )
    typed = {"together": good["rows"]["together"] | {"configs": ["sampling/sequental"]}}
    message = refused(rows=good["rows"] | typed)
    assert "Did you mean 'sampling/sequential'?" in message
    assert "Did you mean 'samples'?" in refused(suite="sampels")
    assert "suite: no file 'my/suite.yaml' in" in refused(suite="my/suite.yaml")
    assert "crossed: expected two sets" in refused(crossed={name: {"a": {}} for name in "abc"})
    refused_size = good | {"columns": ["mood.f2"]}
    table.write_text(yaml.safe_dump(refused_size, sort_keys=False))
    with pytest.raises(
        UserError, match="columns: mood.f2: unknown metric 'f2'. Choose from: accuracy"
    ):
        Plan(Experiment.read(str(table)), "mini")
    with pytest.raises(UserError, match="table: unknown table 'amazn'"):
        Experiment.read("amazn")


@pytest.mark.parametrize("name", NAMES)
def test_every_table_of_the_project_can_be_parsed(name: str) -> None:
    table = Experiment.read(name)
    for size in table.sizes:
        plan = Plan(table, size)
        assert plan.all_runs()
        first = {
            run.row: plan.arguments(run, dict.fromkeys(table.rows[run.row].uses, "folder"))
            for run in reversed(plan.all_runs())
        }
        for row, words in first.items() if size == "mini" else ():
            command = "test" if table.rows[row].command == "none" else "fit"
            if table.rows[row].command != "score-prototypes":
                assert run_name_of(
                    [command, *[fast_precision() if word == "fast" else word for word in words]]
                )


def test_a_row_with_invalid_options_fails_alone(
    table: Path, finished: Results, tmp_path: Path
) -> None:
    definition = yaml.safe_load(table.read_text())
    definition["rows"]["together"]["options"] = {"model.lrr": 1}
    (tmp_path / "table.yaml").write_text(yaml.safe_dump(definition, sort_keys=False))
    plan = Plan(Experiment.read(str(tmp_path / "table.yaml")), "mini")
    runs = RunIndex(plan, table.parent / "runs")
    failed = run_graph(plan.all_runs(), plan.dependencies, runs.job, SequentialExecutor())
    assert {run.row for run in failed} == {"together", "both"}
    assert "option 'lrr'. Did you mean 'lr'?" in failed[next(iter(failed))]
    assert len(Results(plan, runs.finished_folders(), failed).scores("alone", "mood")) == 2


def test_testing_another_checkpoint_of_the_same_training_is_another_run(
    table: Path, tmp_path: Path
) -> None:
    definition = yaml.safe_load(table.read_text())
    definition["rows"]["last"] = definition["rows"]["together"] | {"tested": "last"}
    (tmp_path / "table.yaml").write_text(yaml.safe_dump(definition, sort_keys=False))
    plan = Plan(Experiment.read(str(tmp_path / "table.yaml")), "mini", (1,))
    runs = RunIndex(plan, tmp_path)
    folders = {row: runs.job(next(plan.runs(row))).out for row in ("together", "last")}
    assert folders["last"] != folders["together"]


def test_crossed_fragments_become_rows_and_a_map(
    table: Path, finished: Results, tmp_path: Path
) -> None:
    definition = yaml.safe_load(table.read_text())
    written = definition["rows"]["together"]
    definition["rows"] = {
        "alone": definition["rows"]["alone"],
        "b, one": written | {"options": {"model.lr": 0.5}},
    }
    definition["published"] = None
    definition["crossed"] = {
        "scheme": {
            "a": {"configs": written["configs"][:1]},
            "b": {"configs": ["sampling/mixed"]},
            "c": {"sizes": ["paper"]},
        },
        "method": {
            "one": {"configs": written["configs"][1:]},
            "two": {"configs": ["methods/separate"], "options": {"model.lr": 0.1}},
            "large": {"configs": ["methods/pals"], "sizes": ["paper"]},
        },
    }
    definition["sizes"]["paper"] = definition["sizes"]["mini"]
    (tmp_path / "table.yaml").write_text(yaml.safe_dump(definition, sort_keys=False))
    whole = Experiment.read(str(tmp_path / "table.yaml"))
    names = ["a, one", "a, two", "a, large", "b, two", "b, large", "c, one", "c, two", "c, large"]
    assert list(whole.rows) == ["alone", "b, one", *names]
    assert whole.rows["b, two"].configs == ["sampling/mixed", "methods/separate"]
    assert whole.rows["b, one"].options == {"model.lr": 0.5}  # as written out
    plan = Plan(whole, "mini")
    assert list(plan.experiment.rows) == ["alone", "b, one", "a, one", "a, two", "b, two"]

    runs = RunIndex(plan, next(iter(finished.folders.values())).parent)
    results = Results(plan, runs.finished_folders(), {})
    parts = grids(results, {})
    assert parts[0].head == ["", "a", "b", "all"] and [line[0].text for line in parts[0].lines] == [
        "one",
        "two",
        "all",
    ]
    shared = finished.scores("together", MEAN)  # the same run by another name
    assert (
        parts[0].lines[0][1].text
        == f"{sum(shared) / 2:.1f} ± {abs(shared[0] - shared[1]) / 2**0.5:.1f}"
    )
    assert [cell.text for cell in parts[0].lines[1][1:]] == ["", "", ""]  # not run
    assert (
        draw_crossed_map(results, tmp_path / "map.png")
        and draw_crossed_map(finished, tmp_path / "none.png") is None
    )


def test_methods_x_schemes_has_every_method_and_scheme() -> None:
    crossed = Experiment.read("methods_x_schemes").crossed
    for kind, folder, others in (
        ("method", "methods", set()),
        ("scheme", "sampling", {"k_shot", "leave_one_out"}),
    ):
        assert (
            set(crossed[kind]) == {file.stem for file in (CONFIGS / folder).glob("*.yaml")} - others
        )


def test_special_characters_of_a_format_are_escaped() -> None:
    grid = Grid("t", ["", "a_b"], [[Cell("x|y^z~"), Cell("1 %")]])
    assert "| x\\|y^z~ | 1 % |" in markdown([grid])
    assert r"x\textbar{}y\textasciicircum{}z\textasciitilde{} & 1 \%" in latex(grid)


def lacking(finished: Results, *gone: RunSpec) -> Results:
    """The same results without some runs, which failed."""
    folders = {run: folder for run, folder in finished.folders.items() if run not in gone}
    return Results(finished.plan, folders, dict.fromkeys(gone, "log"))


def test_only_common_seeds_are_compared(finished: Results) -> None:
    results = lacking(finished, the_run(finished, "alone", 2, "mood"))
    ours, theirs = (finished.score(row, 1, "mood") or 0.0 for row in ("together", "alone"))
    same = [
        [score or 0.0 for seed in (1, 2) if (score := finished.score(row, seed, "same.accuracy"))]
        for row in ("together", "alone")
    ]
    changes = [(ours - theirs) / theirs, (sum(same[0]) - sum(same[1])) / sum(same[1])]
    assert results.mean_change("together") == pytest.approx(100 * sum(changes) / 2)
    rows = results.comparisons["together", "mood"].examples
    assert rows is not None and rows.mean == pytest.approx(ours - theirs)
    assert results.cost("alone").examples == 44 + 44  # a seed that lacks a run tells no cost


def test_a_suite_may_be_in_the_folder_of_its_table(table: Path) -> None:
    definition = yaml.safe_load(table.read_text())
    copy = table.parent / "copy.yaml"
    copy.write_text(yaml.safe_dump(definition | {"suite": "suite.yaml"}, sort_keys=False))
    assert Experiment.read(str(copy)).task_files == Experiment.read(str(table)).task_files


def test_a_table_inherits_from_another_with_like(table: Path, tmp_path: Path) -> None:
    def written(name: str, **fields: object) -> str:
        (tmp_path / name).write_text(yaml.safe_dump(fields, sort_keys=False))
        return str(tmp_path / name)

    changed = {
        "rows": {"both": {"options": {"model.lr": 0.5}}},
        "sizes": {"mini": {"values": {"epochs": 7}}},
        "published": None,
    }
    mine = Experiment.read(written("mine.yaml", like=str(table), question="Mine?", **changed))
    other = Experiment.read(str(table))
    assert (mine.question, mine.published, other.published is None) == ("Mine?", None, False)
    assert mine.task_files == other.task_files and list(mine.rows) == list(other.rows)
    assert mine.rows["both"].options == {"model": "MultiHead", "model.lr": 0.5}
    assert mine.rows["alone"] == other.rows["alone"]
    assert (
        mine.sizes["mini"].values == {"epochs": 7}
        and mine.sizes["mini"].options == other.sizes["mini"].options
    )
    with pytest.raises(UserError, match="unknown table 'samles'.*Did you mean 'samples'"):
        Experiment.read(written("lost.yaml", like="samles"))
    with pytest.raises(UserError, match=f"itself has `like: {table}`"):
        Experiment.read(written("third.yaml", like=str(tmp_path / "mine.yaml")))


def test_a_size_may_have_some_of_the_suites_tasks(table: Path, tmp_path: Path) -> None:
    definition = yaml.safe_load(table.read_text())
    definition["published"]["rows"] = {
        "together": {"mood": 99.9, "mean": 90},
        "alone": {"same.f1": 80, "mean": 85},
    }
    size = definition["sizes"]["mini"]

    def plan(**fields: object) -> Plan:
        definition["sizes"]["mini"] = size | fields
        (tmp_path / "table.yaml").write_text(yaml.safe_dump(definition, sort_keys=False))
        return Plan(Experiment.read(str(tmp_path / "table.yaml")), "mini")

    whole, some = plan(), plan(tasks=["mood"])
    assert list(whole.experiment.shown_columns) == ["mood", "same.accuracy", "same.f1"] and list(
        some.experiment.shown_columns
    ) == ["mood"]
    together = next(some.runs("together"))
    assert [word for word in some.arguments(together, {}) if word.startswith("--tasks+=")] == [
        f"--tasks+={some.task_files['mood']}"
    ]
    assert {run.task for run in some.runs("alone")} == {"mood"} and {
        run.task for run in whole.runs("alone")
    } == {"mood", "same"}
    # A published mean over other columns than ours is dropped.
    assert (
        whole.experiment.published
        and whole.experiment.published.rows == definition["published"]["rows"]
    )
    assert some.experiment.published and some.experiment.published.rows == {
        "together": {"mood": 99.9}
    }
    with pytest.raises(UserError, match="tasks: unknown task 'moood'"):
        plan(tasks=["moood"])
    (tmp_path / "scored.yaml").write_text(
        yaml.safe_dump(yaml.safe_load(Path(definition["suite"]).read_text()) | {"score": "same.f1"})
    )
    definition["suite"] = str(tmp_path / "scored.yaml")
    with pytest.raises(UserError, match="tasks: the suite's score needs 'same'"):
        plan(tasks=["mood"])


def test_a_failed_run_reports_its_error(finished: Results, tmp_path: Path) -> None:
    (tmp_path / "run.log").write_text(
        "Seed set to 1\nmtl: error: label 'maybe' is not one of the classes\n"
    )
    run = the_run(finished, "both", 2, "mood")
    results = Results(finished.plan, finished.folders, {run: str(tmp_path / "run.log")})
    [line] = results.failures()
    assert line.startswith(
        f"FAILED: both, seed 2, mood, model.lr {run.choice[0][1]}: {tmp_path}/run.log: "
        "label 'maybe' is not one"
    )


def test_results_are_complete_if_no_run_is_missing(finished: Results) -> None:
    assert finished.complete
    assert not lacking(finished, the_run(finished, "alone", 2, "mood")).complete


def test_a_row_shows_its_name_even_if_its_first_task_failed(finished: Results) -> None:
    results = lacking(finished, *(the_run(finished, "both", seed, "mood") for seed in (1, 2)))
    lines = [[cell.text for cell in line] for line in grids(results, {})[1].lines]
    assert next(line for line in lines if line[0].startswith("both - alone"))[1] == "same.accuracy"


def test_two_rows_of_one_seed_each_are_one_pair(
    table: Path, finished: Results, tmp_path: Path
) -> None:
    definition = yaml.safe_load(table.read_text())
    definition["rows"]["fixed"] = definition["rows"]["together"] | {"seed": 2}
    definition["rows"]["other"] = definition["rows"]["together"] | {"seed": 1, "against": "fixed"}
    (tmp_path / "table.yaml").write_text(yaml.safe_dump(definition, sort_keys=False))
    plan = Plan(Experiment.read(str(tmp_path / "table.yaml")), "mini")
    results = Results(
        plan, RunIndex(plan, next(iter(finished.folders.values())).parent).finished_folders(), {}
    )
    assert results.comparisons["other", "mood"].permutation == 1
    one, two = (finished.score("together", seed, "mood") or 0.0 for seed in (1, 2))
    assert results.comparisons["other", "mood"].seeds.mean == pytest.approx(one - two)


def test_nothing_is_bold_without_predictions(
    finished: Results, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = lacking(finished)
    monkeypatch.setattr(results, "scores", lambda row, column: [90.0 if row == "both" else 10.0])
    found = {
        key: known._replace(examples=None, seeds=known.seeds._replace(mean=1.0, p=0.001))
        for key, known in finished.comparisons.items()
    }
    results.__dict__["comparisons"] = found
    assert not any(cell.bold for line in grids(results, {})[0].lines for cell in line)
    interval = next(iter(finished.comparisons.values())).seeds._replace(mean=1.0, low=0.5, p=0.001)
    results.__dict__["comparisons"] = {
        key: known._replace(examples=interval) for key, known in found.items()
    }
    assert any(cell.bold for line in grids(results, {})[0].lines for cell in line)


def test_a_search_with_changed_configs_is_another_study(table: Path, tmp_path: Path) -> None:
    definition = yaml.safe_load(table.read_text())
    definition["sizes"]["mini"] |= {"search": {"trials": 1, "space": {"model.lr": [1e-4]}}}
    (tmp_path / "method.yaml").write_text(
        "model: {class_path: MultiHead, init_args: {dropout: 0.1}}\n"
    )
    definition["rows"]["together"]["configs"] = ["sampling/sequential", str(tmp_path / "method")]
    (tmp_path / "table.yaml").write_text(yaml.safe_dump(definition, sort_keys=False))
    plan = Plan(Experiment.read(str(tmp_path / "table.yaml")), "mini")
    before = {row: study_name(plan, row) for row in ("alone", "together")}
    (tmp_path / "method.yaml").write_text(
        "model: {class_path: MultiHead, init_args: {dropout: 0.2}}\n"
    )
    assert (
        study_name(plan, "together") != before["together"]
        and study_name(plan, "alone") == before["alone"]
    )
