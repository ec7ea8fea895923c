"""A plan's runs as jobs, and where they are."""

import contextlib
import io
from pathlib import Path

from experiments.jobs import Job, metrics
from experiments.plan import Plan, Run
from experiments.quickstart import bundled_encoder
from mtl.errors import UserError
from mtl.system.hardware import fast_precision


class Runs:
    """A plan's runs as jobs, and their folders.

    Args:
        plan: The plan.
        root: Folder of the runs.
    """

    def __init__(self, plan: Plan, root: Path) -> None:
        self.plan, self.root = plan, root
        self._jobs: dict[Run, Job] = {}

    def job(self, run: Run) -> Job:
        """A run as a job; those that it uses are finished.

        Raises:
            UserError: If its options cannot be read.
        """
        if run not in self._jobs:
            said = io.StringIO()
            try:
                with contextlib.redirect_stderr(said):
                    self._jobs[run] = self._job(run)
            except SystemExit as error:
                raise UserError(said.getvalue().strip().removeprefix("mtl: error: ")) from error
        return self._jobs[run]

    def finished(self) -> dict[Run, Path]:
        """Folders of the runs that are whole, of a grid the one that validates best."""
        found: dict[Run, Path] = {}
        for row in self.plan.table.rows:
            groups: dict[tuple[int, str | None], list[Run]] = {}
            for run in self.plan.runs(row):
                groups.setdefault((run.seed, run.task), []).append(run)
            for runs in groups.values():
                if all(
                    need in found or self._whole(need)
                    for run in runs
                    for need in self.plan.needs(run)
                ):
                    whole = [run for run in runs if self._finished(run)]
                    if len(whole) == len(runs):  # a grid is chosen from when all of it is there
                        best = self._best(whole)
                        found[best] = self.job(best).out
        return found

    def _start(self, used: list[Run]) -> str:
        """What a run that uses another is given: its folder, or its last checkpoint where that is the one that counts."""
        best = self._best(used)
        last = self.plan.table.rows[best.row].tested == "last"
        return str(self.job(best).out / "checkpoints" / "last.ckpt" if last else self.job(best).out)

    def _whole(self, run: Run) -> bool:
        return all(map(self._whole, self.plan.needs(run))) and self._finished(run)

    def _finished(self, run: Run) -> bool:
        try:
            return self.job(run).finished
        except UserError:  # its options cannot be read
            return False

    def _best(self, runs: list[Run]) -> Run:
        return (
            max(runs, key=lambda run: metrics(self.job(run).out)["validation"]["mean"])
            if len(runs) > 1
            else runs[0]
        )

    def name(self, run: Run, folders: dict[str, str]) -> tuple[str, list[str]]:
        """The name of a run's resolved configuration, and its options, given the folders of the runs that it uses."""
        # Heavy, and needed only where there is something to run or to find.
        from mtl.cli import lightning, score_prototypes

        words = [
            fast_precision() if word == "fast" else word for word in self.plan.words(run, folders)
        ]
        words = [bundled_encoder() if word == "bundled" else word for word in words]
        command = self.plan.table.rows[run.row].command
        if command == "score-prototypes":
            return score_prototypes.name_of(words), words
        return lightning.name_of(["test" if command == "none" else "fit", *words]), words

    def _job(self, run: Run) -> Job:
        name, words = self.name(
            run, {option: self._start(used) for option, used in self.plan.used(run).items()}
        )
        spec = self.plan.table.rows[run.row]
        if spec.command == "score-prototypes":
            return Job(
                self.root / name,
                tuple(words),
                tested=False,
                command=spec.command,
                resources=spec.resources,
            )
        if spec.command == "none":
            return Job(self.root / name, None, tuple(words), resources=spec.resources)
        # The same training tested otherwise is another run: a folder has one test.
        out = self.root / (name + ("-last" if spec.tested == "last" else ""))
        last = (
            ("--ckpt_path", str(out / "checkpoints" / "last.ckpt"))
            if spec.tested == "last"
            else None
        )
        return Job(out, tuple(words), last, tested=spec.tested != "none", resources=spec.resources)
