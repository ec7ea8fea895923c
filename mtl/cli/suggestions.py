"""What a user may have meant: the nearest options, classes and shipped configurations."""

import difflib
from collections.abc import Iterable, Sequence

from mtl.system.package_data import CONFIGS

MAX_SUGGESTIONS = 3

# Names that other libraries give to an option.
SYNONYMS = {
    "--backbone": "bert bert_model encoder model_name "
    "model_name_or_path pretrained pretrained_model",
    "--ckpt_path": "checkpoint ckpt resume resume_from resume_from_checkpoint load",
    "--data.batch_size": "bs per_device_train_batch_size train_batch_size",
    "--data.cache": "cache_dir",
    "--data.eval_batch_size": "per_device_eval_batch_size",
    "--data.max_length": "max_len max_seq_len max_seq_length seq_len seq_length",
    "--data.num_workers": "workers dataloader_num_workers",
    "--data.root": "data_dir data_path data_root",
    "--model.lr": "learningrate learning_rate max_lr peak_lr rate",
    "--model.schedule": "lr_scheduler lr_scheduler_type scheduler",
    "--model.warmup": "warmup_proportion warmup_ratio warmup_steps num_warmup_steps",
    "--model.weight_decay": "wd decay",
    "--model.optimizer": "optim opt",
    "--out": "o output output_dir out_dir save_dir default_root_dir logdir log_dir",
    "--save_every": "save_steps",
    "--score": "metric_for_best_model monitor",
    "--seed_everything": "seed random_seed random_state",
    "--tasks": "task dataset datasets dataset_name train_file",
    "--trainer.accelerator": "cpu cuda device gpu no_cuda tpu",
    "--trainer.accumulate_grad_batches": "accumulation accumulation_steps grad_accum "
    "grad_accumulation gradient_accumulation gradient_accumulation_steps",
    "--trainer.devices": "gpus num_gpus n_gpu num_devices ngpus",
    "--trainer.gradient_clip_val": "clip clip_grad_norm grad_clip gradient_clip max_grad_norm",
    "--trainer.log_every_n_steps": "logging_steps log_steps",
    "--trainer.max_epochs": "epoch epochs n_epochs num_epochs num_train_epochs",
    "--trainer.max_steps": "steps num_steps train_steps num_training_steps",
    "--trainer.precision": "amp bf16 fp16 fp32 half mixed_precision",
    "--trainer.val_check_interval": "eval_steps",
}
_MEANT = {word: option for option, words in SYNONYMS.items() for word in words.split()}
# The folder of configurations that set an option.
FOLDERS = {
    "--model": "methods",
    "--data": "sampling",
    "--model.balancer": "balancing",
    "--model.regularizer": "regularizers",
}


def suggest_options(option: str, valid: Sequence[str]) -> str:
    """A sentence with the nearest options; empty if there are none.

    Args:
        option: The option that does not exist.
        valid: The options that exist at its position.

    >>> suggest_options("--lr", ["--model.lr", "--model.warmup"])
    ' Did you mean --model.lr?'
    """
    name = _leaf(option)
    by_leaf: dict[str, list[str]] = {}
    for each in valid:
        by_leaf.setdefault(_leaf(each), []).append(each)
    exact = [*by_leaf.get(name, ()), *([_MEANT[name]] if _MEANT.get(name) in valid else [])]
    if exact:
        return _sentence(list(dict.fromkeys(exact)))
    found = nearest(option, valid, 0.85)
    for key in (*nearest(name, by_leaf, 0.75), *(w for w in name.split("_") if len(w) > 1)):
        found += by_leaf.get(key, ())
    found = list(dict.fromkeys(found))
    section = option.rpartition(".")[0]
    in_section = [each for each in found if section and each.rpartition(".")[0] == section]
    return _sentence(in_section or found)


def suggest_classes(option: str, value: str, known: Iterable[str]) -> str:
    """A sentence with the nearest configurations and classes; empty if there are none.

    Args:
        option: The option, such as `--data`.
        value: The class that does not exist.
        known: The classes that exist.
    """
    folder = FOLDERS.get(option)
    configs = {file.stem: f"-c {folder}/{file.stem}" for file in CONFIGS.glob(f"{folder}/*.yaml")}
    classes = {_short(name): name for name in known}
    name = _short(value.removesuffix(".yaml").rpartition("/")[2])
    if name in configs:
        return _sentence([configs[name], *([classes[name]] if name in classes else [])])
    if name in classes:
        return _sentence([classes[name]])
    near = [each for each in classes if len(name) > 3 and each.startswith(name)]
    near = near or nearest(name, classes, 0.65)
    return _sentence(
        [classes[each] for each in near] or [configs[each] for each in nearest(name, configs, 0.65)]
    )


def nearest(name: str, known: Iterable[str], cutoff: float) -> list[str]:
    """The names that are nearest to a name, the nearest first; those about as near are included.

    Args:
        name: The name.
        known: The names to choose from.
        cutoff: Lowest similarity, from 0 to 1.
    """
    close = difflib.get_close_matches(name, known, MAX_SUGGESTIONS, cutoff)
    ratios = [difflib.SequenceMatcher(None, each, name).ratio() for each in close]
    return [each for each, ratio in zip(close, ratios, strict=True) if ratio > ratios[0] - 0.05]


def _sentence(names: Sequence[str]) -> str:
    return f" Did you mean {' or '.join(names[:MAX_SUGGESTIONS])}?" if names else ""


def _leaf(option: str) -> str:
    """The last part of an option, in lower case and with underscores."""
    return option.lstrip("-").rpartition(".")[2].replace("-", "_").lower()


def _short(name: str) -> str:
    """The name of a class without its module and the suffix of its kind, in lower case."""
    short = name.rpartition(".")[2].lower()
    return short.removesuffix("datamodule") or short
