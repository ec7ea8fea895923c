"""The command `mtl`, answering what it can before the heavy libraries are imported."""

import sys

from mtl._version import __version__

HELP = """\
usage: mtl COMMAND [options]

Train, test and compare multi-task fine-tuning methods: several text tasks, one pretrained encoder.

commands:
  fit         train, and keep the best and the last checkpoint
  validate    score a checkpoint on the validation splits
  test        score a checkpoint on the test splits
  predict     write a checkpoint's predictions, a file for each task; with --input, those of your own texts
  ensemble    let several runs answer together, or average their weights
  export      write a run's model as a directory that transformers loads, or as ONNX
  score-prototypes
              score how typical each training row is: the first stage of meta fine-tuning
  doctor      what this machine has, and whether a training will run on it

options:
  --version                      print the version
  --print_completion=shtab-bash   print a script that completes commands and options with the Tab key
  -h, --help                     print this; `mtl fit --help` lists every option of a command

examples:
  mtl fit --tasks+=configs/tasks/sst2.yaml --backbone bert-base-uncased
  mtl fit -c configs/suites/glue.yaml -c configs/sampling/round_robin.yaml -c configs/methods/multi_head.yaml
  mtl fit -c my.yaml --out runs/mine --ckpt_path last        go on with a run that was cut off
  mtl test --ckpt_path runs/mine                             score its best checkpoint
  mtl predict --ckpt_path runs/mine --input reviews.csv --output answers.csv
  mtl ensemble runs/one runs/two --vote soft --out runs/both
"""


def main(args: list[str] | None = None) -> None:
    """Runs the command.

    Args:
        args: The words after `mtl`; those of the command line where absent.
    """
    words = sys.argv[1:] if args is None else args
    if words == ["--version"]:
        print(f"mtl {__version__}")
    elif not words or words in (["-h"], ["--help"]):
        print(HELP, end="")
    elif words[0] == "ensemble":
        from mtl.cli import ensemble

        ensemble.main(words[1:])
    elif words[0] == "export":
        from mtl.cli import export

        export.main(words[1:])
    elif words[0] == "predict" and (
        words[1:] in (["-h"], ["--help"]) or "--input" in {word.partition("=")[0] for word in words}
    ):
        from mtl.cli import predict

        predict.main(words[1:])
    elif words[0] == "doctor":
        from mtl.cli import doctor

        doctor.main(words[1:])
    elif words[0] == "score-prototypes":
        from mtl.cli import score_prototypes

        score_prototypes.main(words[1:])
    else:
        from mtl.cli.lightning import run

        run(words)


if __name__ == "__main__":
    main()
