"""The notebooks: outputs are kept and complete, the first cell works in Colab, the code runs."""

import json
import re
from pathlib import Path
from typing import Any

import matplotlib
import pytest

FOLDER = Path(__file__).parents[2] / "docs" / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
INSTALL = '%pip install --quiet "mtl-text[quickstart]"'


def code_cells(notebook: Path) -> list[dict[str, Any]]:
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    return [cell for cell in cells if cell["cell_type"] == "code"]


def test_there_is_a_notebook_for_each_story() -> None:
    assert [path.stem for path in NOTEBOOKS] == ["compare", "gradients", "own-tasks"]


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_executed_and_installs_mtl_in_colab(notebook: Path) -> None:
    first, *cells = code_cells(notebook)
    assert INSTALL in "".join(first["source"])
    assert [cell["execution_count"] for cell in cells] == list(range(2, len(cells) + 2))
    outputs = [output for cell in cells for output in cell["outputs"]]
    assert len(outputs) >= 3
    assert all(output.get("name") != "stderr" for output in outputs)
    assert not any(output["output_type"] == "error" for output in outputs)
    shown = [output.get("text") or output["data"].get("text/plain") for output in outputs]
    folders = re.findall(r"(?<![\w./~:])/(?!home/me\b)[a-z]\w+/\w[\w/]*", json.dumps(shown))
    assert not folders, "paths of the machine that executed it"


@pytest.mark.slow
@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_code_of_a_notebook_runs(notebook: Path, in_tmp: Path) -> None:
    matplotlib.use("Agg")
    namespace: dict[str, Any] = {"__name__": "__main__"}
    for cell in code_cells(notebook):
        source = "".join(cell["source"])
        # Commands of the shell and of IPython are covered by the tests of the commands.
        exec(re.sub(r"^(\s*)[!%].*$", r"\1pass", source, flags=re.MULTILINE), namespace)
