"""Where runs are executed: on this machine, or on a cluster."""

from collections.abc import Callable
from pathlib import Path
from typing import Literal

from mtl.compare.local_executor import LocalExecutor, visible_gpus
from mtl.compare.plan import Plan
from mtl.compare.scheduler import Executor
from mtl.errors import UserError
from mtl.system.hardware import cores

Where = Literal["local", "slurm"]


def executor_maker(
    where: Where, jobs: int | None, resources: Path | None, root: Path
) -> Callable[[], Executor]:
    """Makes executors.

    Args:
        where: This machine, or a SLURM cluster.
        jobs: Number of runs at a time on this machine. Default: one per GPU, or per core.
        resources: YAML file with the resources of a cluster run.
        root: Folder of the runs.
    """

    def make() -> Executor:
        if where == "local":
            return LocalExecutor(jobs)
        from mtl.compare.slurm_executor import SlurmExecutor

        return SlurmExecutor(resources, root / "slurm")

    return make


def runs_at_once(jobs: int | None) -> int:
    """Number of runs at a time on this machine."""
    return jobs or len(visible_gpus()) or cores()


def check_precision(plan: Plan, where: Where) -> None:
    """Rejects `trainer.precision: fast` on a cluster, whose nodes may differ from this machine."""
    fast = plan.size.options.get("trainer.precision") == "fast"
    if where == "slurm" and fast and "--trainer.precision" not in plan.extra_options:
        raise UserError(
            "trainer.precision: the fastest precision of the cluster's nodes is unknown on this "
            "machine; give another one as an option of every run, such as --trainer.precision "
            "bf16-mixed"
        )
