"""The jobs and folders of a plan's runs."""

import contextlib
import io
from pathlib import Path

from mtl.compare.jobs import Job, read_results
from mtl.compare.merge_arguments import merge_arguments
from mtl.compare.plan import Plan
from mtl.compare.run_arguments import run_arguments
from mtl.compare.run_spec import RunSpec
from mtl.errors import UserError
from mtl.training.run_folder import config_digest


class RunIndex:
    """The jobs and folders of a plan's runs. A run's folder is named by its resolved configuration.

    Args:
        plan: The plan.
        root: Folder of the runs.
    """

    def __init__(self, plan: Plan, root: Path) -> None:
        self.plan, self.root = plan, root
        self._jobs: dict[RunSpec, Job] = {}

    def job(self, run: RunSpec) -> Job:
        """The job of a run; the runs that it uses are finished.

        Raises:
            UserError: If its options are invalid.
        """
        if run not in self._jobs:
            stderr = io.StringIO()
            try:
                with contextlib.redirect_stderr(stderr):
                    self._jobs[run] = self._make_job(run)
            except SystemExit as error:
                message = stderr.getvalue().strip().removeprefix("mtl: error: ")
                raise UserError(message) from error
        return self._jobs[run]

    def finished_folders(self) -> dict[RunSpec, Path]:
        """Folders of the finished runs.

        Of a grid the run with the best validation score, once the grid is complete.
        """
        folders: dict[RunSpec, Path] = {}
        for row in self.plan.experiment.rows:
            grids: dict[tuple[int, str | None], list[RunSpec]] = {}
            for run in self.plan.runs(row):
                grids.setdefault((run.seed, run.task), []).append(run)
            for grid in grids.values():
                needs = [other for run in grid for other in self.plan.dependencies(run)]
                available = all(other in folders or self.is_complete(other) for other in needs)
                if available and all(self.is_finished(run) for run in grid):
                    best = self._best(grid)
                    folders[best] = self.job(best).out
        return folders

    def tuning_folders(self) -> dict[RunSpec, Path]:
        """Folders of the finished runs that only served to choose options.

        The trials of a search and the runs that they start from, and the runs of grids that were
        not chosen.
        """
        chosen = self.finished_folders()
        runs = [run for run in self.plan.all_runs() if self.plan.experiment.rows[run.row].grid]
        for trial in self.plan.trials():
            runs += [*self.plan.all_dependencies(trial), trial]
        return {
            run: self.job(run).out for run in runs if run not in chosen and self.is_finished(run)
        }

    def name_and_arguments(self, run: RunSpec, folders: dict[str, str]) -> tuple[str, list[str]]:
        """The name of a run's resolved configuration, and the arguments of its command.

        Args:
            run: The run.
            folders: For each option that names another run that run's folder.
        """
        # Slow to import, and not needed to read a table.
        from mtl.cli import parsed, score_prototypes

        command = self.plan.experiment.rows[run.row].command
        if command == "merge":
            arguments = merge_arguments(self.plan, run, list(folders.values()))
            return f"merged-{config_digest({'arguments': arguments})}", arguments
        arguments = run_arguments(self.plan, run, folders)
        if command == "score-prototypes":
            return score_prototypes.scores_folder_name(arguments), arguments
        return parsed.run_name_of(["test" if command == "none" else "fit", *arguments]), arguments

    def _make_job(self, run: RunSpec) -> Job:
        used = self.plan.used_runs(run)
        folders = {option: self._start_from(runs) for option, runs in used.items()}
        name, arguments = self.name_and_arguments(run, folders)
        row, out, options = self.plan.experiment.rows[run.row], self.root / name, tuple(arguments)
        if row.command == "score-prototypes":
            return Job(out, options, None, False, row.command, row.resources)
        if row.command == "merge":
            return Job(out, options, command=row.command, resources=row.resources)
        if row.command == "none":
            return Job(out, None, options, resources=row.resources)
        if row.tested == "last":
            # A folder holds one test, so testing the last checkpoint of the same training is
            # another run.
            out = self.root / f"{name}-last"
            last = ("--ckpt_path", str(out / "checkpoints" / "last.ckpt"))
            return Job(out, options, last, resources=row.resources)
        return Job(out, options, tested=row.tested == "best", resources=row.resources)

    def _start_from(self, candidates: list[RunSpec]) -> str:
        """What a run that uses another gets.

        Its folder, or its last checkpoint if that is the one that is tested.
        """
        best = self._best(candidates)
        out = self.job(best).out
        tests_last = self.plan.experiment.rows[best.row].tested == "last"
        return str(out / "checkpoints" / "last.ckpt" if tests_last else out)

    def is_complete(self, run: RunSpec) -> bool:
        """Whether a run and all runs that it uses are finished."""
        return all(map(self.is_complete, self.plan.dependencies(run))) and self.is_finished(run)

    def is_finished(self, run: RunSpec) -> bool:
        """Whether a run has all its results."""
        try:
            return self.job(run).finished
        except UserError:  # invalid options: the run can't have been started
            return False

    def _best(self, grid: list[RunSpec]) -> RunSpec:
        """The run with the best validation score."""
        if len(grid) == 1:
            return grid[0]
        return max(grid, key=lambda run: read_results(self.job(run).out)["validation"]["mean"])
