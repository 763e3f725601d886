"""``lsg skill``: how a coding assistant uses the installed version."""

from lsgcli.cli import common
from lsgcli.cli.app import COMMANDS
from lsgcli.cli.commands import summary
from lsgcli.errors import exit_statuses
from lsgcli.report.output import print_result
from lsgcli.system.interpreter import __version__

TEXT = """---
name: lsg
description: Train spiking neural networks in torch, find out why one does not learn, compare methods over seeds, export networks. Use it for runs of lsg, and for training scripts of snntorch, spikingjelly, norse, sinabs or plain torch that learn nothing.
---

# lsg {version}

Results go to stdout, everything else to stderr. `lsg COMMAND --help` has common options, `--help-all` all of them. An error is one line
that states what was found and what was expected, and a hint.

## Usual order

    lsg diagnose --json train.py                         # a script of any torch library, unchanged; its options follow it
    run=$(lsg train -q --dataset digits-dvs --epochs 2)  # prints the checkpoint; --dry-run measures cost without training
    lsg eval "$run" --json
    lsg inspect-gradients "$run" --advise --json         # findings, with the settings of remedies
    lsg ablate --grid method=fixed,lsg --seeds 0-4 --format json
    lsg export "$run" -o net.onnx --verify 64

A run that stops with status 75 continues with the same command and --out. Settings: `lsg list settings`; their schema:
`lsg list settings --json-schema`; as a file: `lsg train --print-config > settings.toml`, `lsg train --config settings.toml`.

## Commands

{commands}

## Exit statuses

{statuses}

## Fields of JSON

{shapes}
"""
SHAPES = {
    "train": "a line for each event: `event` is start, epoch (`epoch` from 0, `train_loss`, `val_accuracy`, `lr`), checkpoint, end (`checkpoint`, `accuracy`, `val_accuracy_best`)",
    "eval": "`accuracy` (0 to 1), `accuracy_by_timestep`, `loss`, `samples`, `per_class`, `confusion`, `firing_rate`",
    "predict": "a line for each file: `path`, `class`, `probability`, `probabilities`",
    "inspect-gradients": "`layers` (`name`, `coverage`, `firing_rate`, `grad_ratio`, `verdict`), `findings`; a list for several checkpoints",
    "diagnose": "`findings` (`rule`, `severity`, `cause`, `remedy`, `where`), `layers`, `steps`; with `--try` also `experiments` (`intervention`, `change`, `line`, `loss`, `accuracy`, `learns`, `seconds`), `conclusion`, and `confirmed` of each finding",
    "ablate": "`rows` (`method`, `mean`, `std`, `n`, `difference`, `interval`, `verdict`), `missing`",
    "compare": "`settings` (those that differ), `runs` (`path`, `accuracy`, `val_accuracy_best`, `state`), `groups`",
    "runs": "a line for each run: `path`, `state`, `method`, `seed`, `val_accuracy_best`, `accuracy`",
    "show": "`parameters`, `macs_per_sample`, `input`, `layers`",
    "export": "`format`, `path`, `spikes_different`, `predictions_different`, `max_logit_error`",
    "reproduce": "`runs` (`expected`, `found`, `met`)",
    "doctor": "`ok`, `checks`, `left_out`, `backends`, `versions`",
}


def skill(*, verbosity: common.Verbosity) -> None:
    """Print a skill for coding assistants, for this version: commands, exit statuses, and fields of JSON (`lsg skill > SKILL.md`)."""
    common.messages(verbosity)
    commands = "\n".join(f"- `lsg {name}`: {' '.join(summary(path).split())}" for name, path in COMMANDS.items())
    statuses = "\n".join(f"- {code}: {meaning}" for code, meaning in exit_statuses().items())
    shapes = "\n".join(f"- `lsg {name} --json`: {fields}" for name, fields in SHAPES.items())
    print_result(TEXT.format(version=__version__, commands=commands, statuses=statuses, shapes=shapes).rstrip())
