"""Names of other tools in command lines."""

import re

import pytest
import typer.main

from lsgcli.cli import elsewhere
from lsgcli.cli.app import COMMANDS, app
from lsgcli.cli.commands import commands_of, flags


@pytest.fixture(scope="module")
def known():
    """Command -> its options."""
    group = typer.main.get_command(app)
    with group.make_context("lsg", ["train"]) as context:
        return {name: flags(command, context) for name, command in commands_of(group)}


def test_options_in_an_answer_belong_to_a_command(known):
    for answer in (answer for answers in elsewhere.OPTIONS.values() for answer in answers):
        assert any(elsewhere.needed(answer) <= options for options in known.values()), answer


def test_commands_in_an_answer_exist(known):
    tables = elsewhere.COMMANDS, elsewhere.DATA_COMMANDS, {"seeds": elsewhere.OPTIONS["seeds"]}
    answers = [answer for table in tables for found in table.values() for answer in found]
    assert all("`lsg " in answer for answer in answers)
    for command in re.findall("`lsg (.+?)`", " ".join(answers)):
        words = [word for word in command.split() if not word.startswith("-")]
        assert words[:1] in ([], ["COMMAND"]) or words[0] in COMMANDS or " ".join(words[:2]) in known
        options = set().union(*(known.get(name, set()) for name in (words[:1] or [""])[:1]))
        assert elsewhere.needed(command) - {"--help", "--version"} <= options, command


# What people type who come from other tools: ultralytics, timm, litgpt, nnU-Net, Lightning, then of none in particular | the answer.
LINES = """
train --imgsz 48 | lsg has --size.
train --batch 16 | lsg has --batch-size.
train --cos-lr | lsg has --schedule cosine.
val model.pt | lsg has `lsg eval`.
predict net --source images | lsg has the files as arguments: `lsg predict CKPT PATH...`.
checks | lsg has `lsg doctor`.
benchmark | lsg has `lsg bench`.
train --model resnet19 | lsg has --arch.
train -b 64 | lsg has --batch-size.
train --amp | lsg has --precision bf16, or fp16.
train --opt adamw | lsg has --optimizer.
train --initial-checkpoint net | lsg has --init-from CHECKPOINT, or --resume RUN.
list-models | lsg has `lsg list archs`.
validate /data --checkpoint net | lsg has `lsg eval`.
finetune net | lsg has `lsg train --init-from CHECKPOINT`.
pretrain vggsnn | lsg has `lsg train`.
train --train.epochs 3 | lsg has --epochs.
train --train.micro_batch_size 4 | lsg has --accumulate.
train --out_dir runs/a | lsg has --out DIRECTORY
download cifar10 | lsg has `lsg data`
evaluate net | lsg has `lsg eval`.
serve net | lsg has `lsg predict --stream`
plan_and_preprocess -d 1 | lsg has `lsg data prepare`.
train --c | lsg has --resume RUN.
train --npz | lsg has `lsg predict --json`
predict -i images -o out | lsg has the files as arguments: `lsg predict CKPT PATH...`.
find_best_configuration 1 | lsg has `lsg tune`.
export_model_to_zip | lsg has `lsg export`.
fit --config a.yaml | lsg has `lsg train`.
train --trainer.max_epochs 3 | lsg has --epochs.
train --trainer.accelerator gpu | lsg has --device cuda.
train --trainer.fast_dev_run true | lsg has --dry-run.
train --ckpt_path last.ckpt | lsg has --resume RUN.
train --trainer.gradient_clip_val 1 | lsg has --clip-grad.
train --trainer.overfit_batches 2 | lsg has --overfit.
test net | lsg has `lsg eval`.
train --gpus 2 | lsg has --devices.
train --name a | lsg has --out DIRECTORY
train --wd 0.1 | lsg has --weight-decay.
eval net --gpus 2 | lsg has --device cuda:N.
train --early-stopping 3 | lsg has --patience.
train --seeds 0-3 | lsg has --seed; `lsg ablate --seeds 0-4`
train --batch_size 3 | lsg has --batch-size.
eval --checkpoint net | lsg has the argument CKPT.
eval net other | Got unexpected extra argument
version | lsg has `lsg --version`.
data download | lsg has `lsg data prepare`.
-V | lsg has `lsg --version`.
train --batch-sizes 3 | No such option: --batch-sizes (Possible options: --batch-size
trian | Did you mean 'train'?
data shwo | Did you mean 'show'?
"""


@pytest.mark.parametrize("line", LINES.strip().splitlines())
def test_answers(lsg, line):
    typed, answer = line.split(" | ")
    result = lsg(*typed.split(), status=2)
    assert answer in " ".join(result.stderr.split())
