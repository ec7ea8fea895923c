"""The warning about data that the bundled encoder was trained on."""

import pytest

from mtl.compare.pretraining import pretraining_warning
from mtl.tasks import Task

SEEN = {
    "mnli": "MultiNLI",
    "mnli_fiction": "MultiNLI",
    "snli": "SNLI",
    "qqp": "Quora",
    "cs224n_quora": "Quora",
    "qnli": "SQuAD",
    "stsb": "STS",
    "cs224n_sts": "STS",
    "sick#sick_entailment": "SICK",
    "sick#sick_relatedness": "SICK",
}
UNSEEN = ("sst2", "cola", "mrpc", "rte", "scitail", "cs224n_sst", "atis#atis_intent", "trec")


@pytest.mark.parametrize("file", SEEN)
def test_a_task_is_recognized_by_its_file_and_by_its_name_alone(file: str) -> None:
    task = Task.read(f"tasks/{file}")
    for known in (task, None):
        warning = pretraining_warning("bundled", {task.name: known})
        assert SEEN[file] in warning and f"({task.name})" in warning


@pytest.mark.parametrize("file", UNSEEN)
def test_other_tasks_have_no_warning(file: str) -> None:
    task = Task.read(f"tasks/{file}")
    assert not pretraining_warning("bundled", {task.name: task})


def test_a_task_with_another_name_is_recognized_by_its_source() -> None:
    sources = (
        {"hub": "nyu-mll/multi_nli"},
        {"hub": "nyu-mll/glue", "config": "qqp"},
        {"path": "/data/SNLI"},
        {"hub": "sentence-transformers/stsb"},
    )
    for source in sources:
        fields = {"name": "mine", "texts": ["a", "b"], "classes": ["x", "y"], "source": source}
        assert pretraining_warning("bundled", {"mine": Task.read(fields)}), source


def test_the_warning_names_the_tasks_and_only_concerns_this_encoder() -> None:
    tasks = dict.fromkeys(["sst2", "mnli", "qqp"])
    warning = pretraining_warning("sentence-transformers/all-MiniLM-L6-v2@main", tasks)
    assert "(mnli)" in warning and "(qqp)" in warning and "sst2" not in warning
    assert not pretraining_warning("bert-base-uncased", tasks)
    assert not pretraining_warning("bundled", {"sick_leave": None})
