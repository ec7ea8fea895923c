"""Write a demo of an export for a Space of the hub: `space/`."""

import json
from importlib.resources import files
from pathlib import Path

from mtl._version import DISTRIBUTION, __version__
from mtl.tasks import Task

FOLDER = "space"
GRADIO = "gradio>=5,<7"


def write_space(export: Path, tasks: list[Task]) -> str:
    """Writes `space/app.py`, its requirements, and the page that makes it a Space.

    Args:
        export: The folder of a native export.
        tasks: Its tasks.

    Returns:
        A note for the model card.
    """
    folder = export / FOLDER
    folder.mkdir()
    app = files("mtl.export").joinpath("space_app.py").read_text(encoding="utf-8")
    title = ", ".join(task.name for task in tasks)
    header = f"title: {json.dumps(title, ensure_ascii=False)}\nsdk: gradio\napp_file: app.py"
    page = (
        f"---\n{header}\n---\n\nCopy the other files of the export to the folder `model` next to "
        "app.py, then upload this folder as a Space: `hf upload NAME . --repo-type space`.\n"
    )
    contents = {
        "app.py": app,
        "requirements.txt": f"{DISTRIBUTION}=={__version__}\n{GRADIO}\n",
        "README.md": page,
    }
    for name, text in contents.items():
        (folder / name).write_text(text, encoding="utf-8")
    return (
        f"`{FOLDER}/app.py` is a demo with a page for each task. To try it: "
        f"`pip install -r {FOLDER}/requirements.txt`, then `python {FOLDER}/app.py`."
    )
