"""An installed wheel is a complete tool: configurations, tables and sample data are in it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the installed package, without its dependencies."""
    wheels, target = tmp_path_factory.mktemp("wheels"), tmp_path_factory.mktemp("installed")
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    source = tmp_path_factory.mktemp("source") / "mtl"
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(source)], check=True)
    build = [*pip, "wheel", "--no-deps", "--no-build-isolation", "-w", str(wheels), str(source)]
    subprocess.run(build, check=True)
    wheel = next(wheels.glob("*.whl"))
    subprocess.run([*pip, "install", "--no-deps", "--target", str(target), str(wheel)], check=True)
    return target


def mtl(installed: Path, cwd: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PYTHONPATH": str(installed)}
    command = [sys.executable, "-m", "mtl", *arguments]
    return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, check=False)


def test_a_training_by_names_in_an_empty_folder(installed: Path, tmp_path: Path) -> None:
    short = ["--trainer.max_steps", "2", "--trainer.limit_val_batches", "1"]
    names = ["-c", "suites/samples", "-c", "methods/pals", "--backbone", "bundled"]
    trained = mtl(installed, tmp_path, "fit", *names, *short, "--out", "run")
    assert trained.returncode == 0, trained.stderr
    assert (tmp_path / "run" / "metrics.json").is_file()
    assert str(ROOT) not in (tmp_path / "run" / "config.yaml").read_text()
