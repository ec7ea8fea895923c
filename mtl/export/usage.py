"""Code examples for the model cards of exported models."""

from mtl.export.backbone import public_name
from mtl.export.extraction import PROBLEM_TYPES
from mtl.inference.predictor import Predictor
from mtl.modules.multi_label_losses import BinaryCrossEntropy
from mtl.tasks import Task

# How predictions follow from the logits, by transformers' `config.problem_type`.
PREDICTIONS = {
    "single_label_classification": "probabilities = logits.softmax(-1)",
    "multi_label_classification": (
        "scores = logits.sigmoid()\nprobabilities = scores / scores.sum(-1, keepdim=True)"
    ),
    "regression": "values = logits[:, 0]",
}


def native_usage(predictor: Predictor, task: Task) -> str:
    """How to load the native format and predict a task."""
    example = ", ".join(f'"{column}"' for column in task.text_columns)
    examples = f"[({example})]" if len(task.text_columns) > 1 else f"[{example}]"
    return f"""\
```python
import mtl

model = mtl.load("PATH_TO_THIS_DIRECTORY")
model.predict({examples}, task="{task.name}")
```
"""


def classifier_usage(predictor: Predictor, task: Task) -> str:
    """How to load a classifier with transformers and predict."""
    return _usage(
        predictor,
        task,
        "from transformers import AutoModelForSequenceClassification, AutoTokenizer",
        'model = AutoModelForSequenceClassification.from_pretrained("PATH_TO_THIS_DIRECTORY")',
    )


def peft_usage(predictor: Predictor, task: Task) -> str:
    """How to load an adapter with peft and predict."""
    backbone = public_name(predictor.module.backbone_name)
    return _usage(
        predictor,
        task,
        "from peft import PeftModel\nfrom transformers import (\n    AutoConfig, "
        "AutoModelForSequenceClassification, AutoTokenizer\n)",
        'config = AutoConfig.from_pretrained("PATH_TO_THIS_DIRECTORY")\n'
        f'base = AutoModelForSequenceClassification.from_pretrained("{backbone}", config=config)\n'
        'model = PeftModel.from_pretrained(base, "PATH_TO_THIS_DIRECTORY").eval()',
    )


def _usage(predictor: Predictor, task: Task, imports: str, load: str) -> str:
    names = ["first_texts", "second_texts"] if task.pair else ["texts"]
    inputs = ", ".join(names)
    texts = "\n".join(
        f'{name} = ["..."]  # {column}' for name, column in zip(names, task.texts, strict=True)
    )
    loss = type(predictor.module.loss_functions[task.name])
    predictions = PREDICTIONS[PROBLEM_TYPES[loss]]
    if loss is BinaryCrossEntropy:
        predictions = "probabilities = logits.sigmoid()  # a class is predicted from 0.5"
    return f"""\
```python
{imports}

tokenizer = AutoTokenizer.from_pretrained("PATH_TO_THIS_DIRECTORY")
{load}
{texts}
inputs = tokenizer({inputs}, truncation=True, padding=True, return_tensors="pt")
logits = model(**inputs).logits
{predictions}
```
"""


def multiple_choice_usage(predictor: Predictor, task: Task) -> str:
    """How to load a model for multiple choice with transformers and predict."""
    return f"""\
```python
from transformers import AutoModelForMultipleChoice, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("PATH_TO_THIS_DIRECTORY")
model = AutoModelForMultipleChoice.from_pretrained("PATH_TO_THIS_DIRECTORY")
text = "..."  # {", a space, ".join(task.texts)}
candidates = [{", ".join('"..."' for _ in task.choices)}]  # {", ".join(task.choices)}
inputs = tokenizer(
    [text] * len(candidates), candidates, truncation=True, padding=True, return_tensors="pt"
)
logits = model(**{{name: values.unsqueeze(0) for name, values in inputs.items()}}).logits
probabilities = logits.softmax(-1)[0]  # of each candidate
```
"""


def token_classifier_usage(predictor: Predictor, task: Task) -> str:
    """How to load a token classifier with transformers and predict."""
    return """\
```python
from transformers import pipeline

label = pipeline(
    "token-classification", model="PATH_TO_THIS_DIRECTORY", aggregation_strategy="first"
)
label("...")
```
"""


def masked_lm_usage(predictor: Predictor, task: Task) -> str:
    """How to predict with a masked language model."""
    return (
        "Load the model with `AutoModelForMaskedLM` and its tokenizer with `AutoTokenizer`. Fill "
        "the text into the template below, and read the logits of the label words at the position "
        "of the mask token.\n"
    )


def causal_lm_usage(predictor: Predictor, task: Task) -> str:
    """How to predict with a causal language model."""
    return (
        "Load the model with `AutoModelForCausalLM` and its tokenizer with `AutoTokenizer`. Fill "
        "the text into the template below up to the mask, and read the logits of the label words "
        "at the last token.\n"
    )
