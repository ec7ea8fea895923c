"""The demo of an export answers as the exported model does."""

import runpy
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

import mtl
from mtl.errors import UserError
from mtl.methods import MultiHead
from mtl.tasks import Task
from tests.export.runs import export, save_run
from tests.export.test_token_classifier import make_tasks


class Gradio(SimpleNamespace):
    """What the demo uses of gradio; notes the pages that it shows."""

    def __init__(self) -> None:
        super().__init__()
        self.pages: list[Any] = []
        self.launched: list[str] = []

    def __getattr__(self, name: str) -> Any:
        return lambda *args, **options: SimpleNamespace(name=name, args=args, **options)

    def Interface(self, function: Any, inputs: list[Any], output: Any, **_: Any) -> Any:
        self.pages.append((function, [each.label for each in inputs], output.name))
        return self.pages[-1]

    def TabbedInterface(self, interfaces: list[Any], names: list[str]) -> Any:
        assert interfaces == self.pages
        return SimpleNamespace(launch=lambda: self.launched.extend(names))


def test_the_demo_has_a_page_for_each_task_and_answers_as_the_model(
    tasks: list[Task], backbone: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = save_run(tmp_path / "run", MultiHead, [*tasks, make_tasks()[1]], backbone)
    folder = export(run, tmp_path / "out", "--format", "mtl", "--space")
    gradio = Gradio()
    monkeypatch.setitem(sys.modules, "gradio", gradio)
    runpy.run_path(str(folder / "space/app.py"), run_name="__main__")
    assert gradio.launched == ["mood", "same", "near", "tags"]
    model = mtl.load(run, "cpu")
    mood, same, near, tags = gradio.pages
    assert [page[1] for page in (mood, same)] == [list(each.texts) for each in tasks[:2]]
    assert [page[2] for page in gradio.pages] == ["Label", "Label", "Label", "JSON"]
    pair = ("a cat", "a dog")
    assert mood[0]("good film") == pytest.approx(
        model.predict(["good film"], "mood")[0].probabilities
    )
    assert same[0](*pair) == pytest.approx(model.predict([pair], "same")[0].probabilities)
    assert near[0](*pair) == pytest.approx(model.predict([pair], "near")[0].value)
    assert [span["text"] for span in tags[0]("the red cat")] == [
        span["text"] for span in model.predict(["the red cat"], "tags")[0].value
    ]
    assert mood[0]("  ") is None

    page = (folder / "space/README.md").read_text().split("---")[1]
    assert yaml.safe_load(page) == {
        "title": "mood, same, near, tags",
        "sdk": "gradio",
        "app_file": "app.py",
    }
    requirements = (folder / "space/requirements.txt").read_text().splitlines()
    assert requirements == [f"mtl-text=={mtl.__version__}", "gradio>=5,<7"]


def test_a_demo_needs_an_export_with_all_tasks(
    tasks: list[Task], backbone: str, tmp_path: Path
) -> None:
    run = save_run(tmp_path / "run", MultiHead, tasks, backbone)
    with pytest.raises(UserError, match="--space is for exports with all tasks: add --format mtl"):
        export(run, tmp_path / "out", "--task", "mood", "--space")
