import ast
import subprocess
import sys
from pathlib import Path

import pytest

import mtl

PACKAGE = Path(mtl.__file__).parent
# What each part of the house may know of the others; what is not listed is not to be imported.
MAY_IMPORT = {
    "text": set(),
    "tasks": {"text"},
    "batch": set(),
    "randomness": set(),
    "hyperparameters": set(),
    "runs": {"text"},
    "metrics": {"tasks", "batch", "text"},
    "typicality": set(),
    "scores": {"runs", "tasks", "text"},
    "backbone": {"text"},
    "data": {
        "tasks",
        "batch",
        "modes",
        "prompts",
        "text",
        "backbone",
        "hyperparameters",
        "randomness",
        "data",
    },
    "modules": {"tasks", "batch", "routing", "text", "backbone", "modules"},
    "routing": {"batch"},
    "prompts": {"tasks", "text"},
    "modes": set(),
    "regularizers": {"batch", "modes", "text", "regularizers"},
    "balancing": {"text", "batch", "routing", "balancing"},
    "methods": {
        "modules",
        "balancing",
        "prompts",
        "regularizers",
        "metrics",
        "scores",
        "typicality",
        "tasks",
        "batch",
        "text",
        "runs",
        "backbone",
        "methods",
    }
    | {"hyperparameters", "randomness", "routing"},
    "answering": {"batch", "data", "methods", "tasks", "text"},
    "trained": {"answering", "backbone", "data", "exported", "methods", "runs", "tasks", "text"},
    "answers": {"answering", "tasks", "text"},
    "training": {"callbacks", "runs", "text"},
    "usage": set(),
    "exported": {"text"},
    "export": {
        "backbone",
        "batch",
        "cli",
        "data",
        "exported",
        "methods",
        "modules",
        "runs",
        "tasks",
        "text",
        "trained",
        "export",
    },
    "callbacks": {
        "usage",
        "batch",
        "metrics",
        "runs",
        "text",
        "balancing",
        "data",
        "methods",
        "callbacks",
    },
}


def imported(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        names = (
            [node.module]
            if isinstance(node, ast.ImportFrom)
            else [a.name for a in node.names]
            if isinstance(node, ast.Import)
            else []
        )
        found |= {name.split(".")[1] for name in names if name and name.startswith("mtl.")}
    return found


@pytest.mark.parametrize("part", MAY_IMPORT)
def test_imports_go_one_way(part: str) -> None:
    files = list((PACKAGE / part).rglob("*.py")) or [PACKAGE / f"{part}.py"]
    for file in files:
        assert imported(file) <= MAY_IMPORT[part], file


def test_orders_are_plain_numpy() -> None:
    assert imported(PACKAGE / "data/order.py") == set()
    assert "torch" not in (PACKAGE / "data/order.py").read_text().replace("no torch", "")


def test_tasks_and_help_need_no_torch() -> None:
    code = "import sys, mtl.tasks, mtl.__main__; mtl.__main__.main(['--help']); sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
