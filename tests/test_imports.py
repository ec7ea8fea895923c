"""Imports go in one direction. Every module is covered: one without a rule fails."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import mtl

PACKAGE = Path(mtl.__file__).parent

# Modules that anything may import: they import nothing of the package but errors and one another.
LEAVES = {
    "_version",
    "errors",
    "parse_errors",
    "bounds",
    "user_files",
    "training.seeding",
    "training.hparams",
    "training.run_folder",
    "training.trainer_checks",
    "training.distributed",
    "training.calibration_file",
    "training.checkpoints",
    "training.stored_config",
    "system.hardware",
    "system.bundled_encoder",
    "system.package_data",
    "system.provenance",
}
DATA = LEAVES | {
    "tasks",
    "batch",
    "training.lifecycle",
    "modules.backbone",
    "modules.backbone_checks",
    "modules.family_table",
    "modules.families",
    "modules.eval_mode",
    "data",
}
MODULES = LEAVES | {"tasks", "batch", "modules"}
STEPS = LEAVES | {
    "batch",
    "training.lifecycle",
    "modules.bypass",
    "modules.eval_mode",
    "modules.families",
    "modules.task_context",
}
METHODS = MODULES | {
    "predictions",
    "metrics",
    "metric_functions",
    "calibration",
    "training.lifecycle",
    "balancing",
    "regularizers",
    "mft.prototypes",
    "mft.score_files",
    "methods",
}
TRAINING = METHODS | DATA | {"loggers", "callbacks", "training", "grouping"}
INFERENCE = METHODS | DATA | {"inference"}
EXPORT = INFERENCE | {"export"}

COMPARE = LEAVES | {
    "tasks",
    "metrics",
    "metric_functions",
    "predictions",
    "system",
    "compare",
}

# For a module the rule of its longest prefix holds.
MAY_IMPORT: dict[str, set[str]] = {
    **dict.fromkeys(LEAVES, LEAVES),
    "__init__": {
        "_version",
        "inference.graph",
        "inference.predictor",
        "compare.api",
        "cli.python",
        "data.saved_task",
    },
    "__main__": {"_version", "errors", "cli"},
    "tasks": {"errors", "parse_errors", "bounds", "user_files", "tasks", "system.package_data"},
    "calibration": set(),
    "batch": LEAVES | {"tasks"},
    "predictions": LEAVES | {"tasks"},
    "metrics": LEAVES | {"tasks", "predictions", "metric_functions"},
    "metric_functions": LEAVES | {"tasks"},
    "data": DATA,
    "data.permutation": set(),
    "data.mixture": {"data.permutation"},
    "data.order": {"data.permutation"},
    "modules": MODULES,
    "balancing": STEPS | {"balancing"},
    "regularizers": STEPS | {"regularizers"},
    # Computes the outputs of trained models, in a function: these are methods.
    "regularizers.distillation": STEPS | {"regularizers", "inference.stored_outputs"},
    "methods": METHODS,
    "loggers": {"errors", "loggers"},
    "callbacks": TRAINING,
    "training": TRAINING,
    "training.lifecycle": {"batch"},
    "system.resource_estimate": METHODS | DATA,
    "system": LEAVES,
    "merging": {"errors", "merging"},
    "grouping": {"errors", "grouping"},
    "mft": METHODS | DATA | {"mft"},
    "mft.prototypes": LEAVES,
    "mft.score_files": LEAVES | {"tasks"},
    "inference": INFERENCE,
    "compare": COMPARE,
    # These start the command line: a run of a comparison is a command.
    "compare.jobs": COMPARE | {"cli", "__main__", "data.data_warnings"},
    "compare.run_index": COMPARE | {"cli"},
    "compare.merge_arguments": COMPARE | {"cli.merge", "cli.class_options"},
    "compare.step_timing": COMPARE | {"cli", "data.data_warnings", "training.trainer"},
    # Reads the options of all runs.
    "compare.default_file": COMPARE | {"cli.class_options", "data"},
    # Reads the tasks' data and creates every row's method before a comparison starts.
    "compare.preflight": COMPARE | EXPORT | {"cli"},
    "export": EXPORT,
    # Resamples the test examples as comparisons do.
    "export.intervals": EXPORT | {"compare.bootstrap", "compare.estimate"},
    "serving": INFERENCE | {"serving"},
    "cli.compare": {"errors", "cli", "compare"},
    "cli.compare_words": {"errors", "cli", "compare"},
    "cli.python": LEAVES | {"cli", "inference"},
    "cli": EXPORT | TRAINING | {"system", "mft", "merging", "grouping", "serving", "cli"},
}


def modules() -> list[str]:
    paths = (path.relative_to(PACKAGE).with_suffix("") for path in PACKAGE.rglob("*.py"))
    return sorted(".".join(path.parts) for path in paths)


def path_of(module: str) -> Path:
    return PACKAGE / (module.replace(".", "/") + ".py")


def imported(path: Path) -> set[str]:
    """The package's modules and packages that a file imports, without the leading `mtl.`."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {name.removeprefix("mtl.") for name in names if name.startswith("mtl.")}


def longest_prefix(name: str, prefixes: set[str]) -> str | None:
    fitting = [prefix for prefix in prefixes if f"{name}.".startswith(f"{prefix}.")]
    return max(fitting, key=len, default=None)


@pytest.mark.parametrize("module", modules())
def test_a_module_imports_only_what_its_layer_may(module: str) -> None:
    rule = longest_prefix(module, set(MAY_IMPORT))
    assert rule is not None, f"{module} has no rule"
    allowed = MAY_IMPORT[rule]
    too_high = {name for name in imported(path_of(module)) if not longest_prefix(name, allowed)}
    assert not too_high, f"{module} imports {sorted(too_high)}"


def test_rules_name_modules_that_exist() -> None:
    known = set(modules()) | {module.rpartition(".")[0] for module in modules()}
    assert set(MAY_IMPORT) <= known
    assert set().union(*MAY_IMPORT.values()) <= known


@pytest.mark.parametrize("module", ["data.order", "data.permutation", "data.mixture"])
def test_orders_are_plain_numpy(module: str) -> None:
    assert "import torch" not in path_of(module).read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "code", ["import mtl.tasks", "import mtl.__main__ as m; m.main(['--help'])"]
)
def test_tasks_and_help_need_no_torch(code: str) -> None:
    check = f"import sys; {code}; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", check], check=True, capture_output=True)
