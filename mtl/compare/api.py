"""A comparison in Python: `mtl.compare(tasks=[...])`, which `mtl compare` uses as well."""

import html
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from mtl.compare.budget import plan_within
from mtl.compare.decision import Decision
from mtl.compare.default_file import save_default
from mtl.compare.definition import MEAN, Experiment
from mtl.compare.durations import parse_budget
from mtl.compare.engine import Outcome, run_comparison
from mtl.compare.executors import executor_maker, runs_at_once
from mtl.compare.forecast import Estimator, Forecast, forecast
from mtl.compare.plan import Plan, default_size
from mtl.compare.preflight import DataFacts, check_rows, read_data
from mtl.compare.scheduler import Executor
from mtl.compare.search import unused_trials
from mtl.compare.step_timing import estimate_runs
from mtl.errors import UserError
from mtl.tasks import Task


class Comparison:
    """A comparison: what it could tell before it runs, and what it says afterwards.

    Args:
        name: The name of its folder in `ROOT/tables`, or its file.
        plan: The runs.
        root: Folder of the runs and reports.
        jobs: Number of runs at a time. Default: one per GPU, or per core.
        make_executor: Makes an executor. Default: for this machine.
        facts: What the data consist of. Default: they are read.

    Attributes:
        definition: The file of the definition, or the name of a table.
        runs: The runs.
        outcome: The results; None before `run`.
        warnings: What limits what the runs can tell, known before they start.

    Raises:
        UserError: If data or the options of a row cannot be used.
    """

    def __init__(
        self,
        name: str,
        plan: Plan,
        root: Path = Path("runs"),
        jobs: int | None = None,
        make_executor: Callable[[], Executor] | None = None,
        facts: DataFacts | None = None,
    ) -> None:
        self.definition, self.runs, self.root = name, plan, root
        self.outcome: Outcome | None = None
        self._at_once = runs_at_once(jobs)
        self._make_executor = make_executor or executor_maker("local", jobs, None, root)
        tasks = {name: Task.read(file) for name, file in plan.task_files.items()}
        self._facts = facts or read_data(tasks, plan.extra_options)
        warnings, unloadable = check_rows(plan, root, self._facts.memory)
        self.warnings = [
            *unused_trials(plan),
            *warnings,
            *(f"transformers cannot load exports of {row!r}; mtl.load can" for row in unloadable),
        ]
        self._unloadable = unloadable
        if plan.limits_examples and not plan.experiment.paired:
            self.warnings.append(
                "data.max_examples: all seeds train on one subset, so the verdict is about this "
                "subset; with `paired: true` the seed draws it"
            )

    def plan(self, estimate: bool = True) -> Forecast:
        """What 5, 10, 20 and 50 seeds could tell, and how long they take.

        Args:
            estimate: Whether to train a few steps of the rows without a finished run, for the
                time that they take on this machine; nothing is kept.
        """
        return forecast(
            self.runs,
            self.root,
            self._facts.test,
            self._at_once,
            self._estimator() if estimate else None,
        )

    def _estimator(self) -> Estimator:
        return partial(estimate_runs, self.runs, self.root, at_once=self._at_once)

    def fit_into(self, budget: str, estimate: bool = True) -> Forecast:
        """Chooses the number of seeds that fits into a time, such as `2h`.

        A pilot measures the time of a run first.

        Args:
            budget: The time.
            estimate: As for `plan`; a budget that is much too small is then refused at once.

        Raises:
            UserError: If two seeds do not fit.
        """
        self.runs, found = plan_within(
            self.runs,
            self.root,
            parse_budget(budget),
            make_executor=self._make_executor,
            test_sizes=self._facts.test,
            at_once=self._at_once,
            estimator=self._estimator() if estimate else None,
        )
        return found

    def run(
        self, look: bool | None = None, render_only: bool = False, command: str = ""
    ) -> Outcome:
        """Trains the missing runs, and writes the report.

        Args:
            look: Whether to go to the next look if the current one is finished. None: all seeds.
            render_only: Train nothing; report the finished runs.
            command: The command that makes the comparison, for its page.
        """
        self.outcome = run_comparison(
            self.definition,
            self.runs,
            root=self.root,
            make_executor=self._make_executor,
            render_only=render_only,
            command=command,
            look=look,
            unloadable=self._unloadable,
            known=self.warnings,
        )
        return self.outcome

    @property
    def verdicts(self) -> dict[str, Decision]:
        """The decision about each row that is compared with another one."""
        return self._results().results.decisions

    @property
    def scores(self) -> Any:
        """The scores in hundredths, a data frame with one line per row, seed and column."""
        import pandas as pd  # here: slow to import, and only needed in Python

        results = self._results().results
        records = [
            {"row": row, "seed": seed, "column": column, "score": score}
            for row in results.rows
            for seed in results.seeds(row)
            for column in (*results.columns, MEAN)
            if (score := results.score(row, seed, column)) is not None
        ]
        return pd.DataFrame.from_records(records)

    def _results(self) -> Outcome:
        if self.outcome is None:
            raise UserError("the comparison has not run yet: call run()")
        return self.outcome

    def _repr_html_(self) -> str:
        if self.outcome is None:
            return f"<pre>{html.escape(str(self.plan(estimate=False)))}</pre>"
        items = (
            f"<li><b>{html.escape(row)}</b>: {html.escape(decision.sentence())}</li>"
            for row, decision in self.verdicts.items()
        )
        page = html.escape(str(self.outcome.out / "table.html"))
        return f'<ul>{"".join(items)}</ul><a href="{page}">report</a>'


def compare(
    definition: str | Path | None = None,
    *,
    tasks: Sequence[str | Path] = (),
    methods: Sequence[str] = (),
    seeds: Sequence[int] = (),
    size: str | None = None,
    options: Sequence[str] = (),
    root: str | Path = "runs",
    jobs: int | None = None,
    run: bool = True,
    **settings: Any,
) -> Comparison:
    """Compares training procedures.

    Args:
        definition: A comparison's file, or the name of a table. Default: the comparison of `tasks`
            that `mtl compare` makes.
        tasks: Task files, or names such as `tasks/sst2`.
        methods: More rows, such as `methods/pals` or `balancing/pcgrad`.
        seeds: Seeds. Default: those of the definition; without one, 1 to 5.
        size: Name of the definition's size. Default: `mini`, or the only one.
        options: Options of `mtl fit` for every run, such as `["--trainer.precision", "fast"]`.
        root: Folder of the runs and reports.
        jobs: Number of runs at a time. Default: one per GPU, or per core.
        run: Whether to run the comparison; otherwise call `run` of the result.
        settings: Arguments of `mtl.compare.defaults.default_definition`: `backbone`, `epochs`,
            `batch_size`, `trials`.

    Returns:
        An object with `verdicts`, `scores`, `plan()` and `run()`.

    Raises:
        UserError: If the definition, the tasks or the options cannot be used.
    """
    if bool(definition) == bool(tasks):
        raise UserError("give either a definition or tasks")
    if definition and (methods or settings):
        named = ", ".join([*(["methods"] if methods else []), *settings])
        raise UserError(f"{named}: only for a comparison without a definition; edit {definition}")
    options, root, facts = tuple(options), Path(root), None
    if definition is None:
        settings |= {"methods": methods} | ({"seeds": seeds} if seeds else {})
        definition, facts, options = save_default(tasks, options, root, settings)
    experiment = Experiment.read(str(definition))
    plan = Plan(experiment, size or default_size(experiment), tuple(seeds), options)
    comparison = Comparison(str(definition), plan, root, jobs, facts=facts)
    if run:
        comparison.run(look=None if seeds else False)
    return comparison
