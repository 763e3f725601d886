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


# What people type who come from other tools, some lines from each, and answers to names of no tool in particular.
OF_TOOLS = {
    "ultralytics": {
        "train --imgsz 48": "No such option: --imgsz; lsg has --size.",
        "train --batch 16": "No such option: --batch; lsg has --batch-size.",
        "train --cos-lr": "No such option: --cos-lr; lsg has --schedule cosine.",
        "val model.pt": "No such command 'val'; lsg has `lsg eval`.",
        "predict net --source images": "No such option: --source; lsg has the files as arguments: `lsg predict CKPT PATH...`.",
        "checks": "No such command 'checks'; lsg has `lsg doctor`.",
        "benchmark": "No such command 'benchmark'; lsg has `lsg bench`.",
    },
    "timm": {
        "train --model resnet19": "No such option: --model; lsg has --arch.",
        "train -b 64": "No such option: -b; lsg has --batch-size.",
        "train --amp": "No such option: --amp; lsg has --precision bf16, or fp16.",
        "train --opt adamw": "No such option: --opt; lsg has --optimizer.",
        "train --initial-checkpoint net": "No such option: --initial-checkpoint; lsg has --init-from CHECKPOINT, or --resume RUN.",
        "list-models": "No such command 'list-models'; lsg has `lsg list archs`.",
        "validate /data --checkpoint net": "No such command 'validate'; lsg has `lsg eval`.",
    },
    "litgpt": {
        "finetune net": "No such command 'finetune'; lsg has `lsg train --init-from CHECKPOINT`.",
        "pretrain vggsnn": "No such command 'pretrain'; lsg has `lsg train`.",
        "train --train.epochs 3": "No such option: --train.epochs; lsg has --epochs.",
        "train --train.micro_batch_size 4": "No such option: --train.micro_batch_size; lsg has --accumulate.",
        "train --out_dir runs/a": "No such option: --out_dir; lsg has --out DIRECTORY",
        "download cifar10": "No such command 'download'; lsg has `lsg data`",
        "evaluate net": "No such command 'evaluate'; lsg has `lsg eval`.",
        "serve net": "No such command 'serve'; lsg has `lsg predict --stream`",
    },
    "nnU-Net": {
        "plan_and_preprocess -d 1": "No such command 'plan_and_preprocess'; lsg has `lsg data prepare`.",
        "train --c": "No such option: --c; lsg has --resume RUN.",
        "train --npz": "No such option: --npz; lsg has `lsg predict --json`",
        "predict -i images -o out": "No such option: -i; lsg has the files as arguments: `lsg predict CKPT PATH...`.",
        "find_best_configuration 1": "No such command 'find_best_configuration'; lsg has `lsg tune`.",
        "export_model_to_zip": "No such command 'export_model_to_zip'; lsg has `lsg export`.",
    },
    "Lightning": {
        "fit --config a.yaml": "No such command 'fit'; lsg has `lsg train`.",
        "train --trainer.max_epochs 3": "No such option: --trainer.max_epochs; lsg has --epochs.",
        "train --trainer.accelerator gpu": "No such option: --trainer.accelerator; lsg has --device cuda.",
        "train --trainer.fast_dev_run true": "No such option: --trainer.fast_dev_run; lsg has --dry-run.",
        "train --ckpt_path last.ckpt": "No such option: --ckpt_path; lsg has --resume RUN.",
        "train --trainer.gradient_clip_val 1": "No such option: --trainer.gradient_clip_val; lsg has --clip-grad.",
        "train --trainer.overfit_batches 2": "No such option: --trainer.overfit_batches; lsg has --overfit.",
        "test net": "No such command 'test'; lsg has `lsg eval`.",
    },
    "others": {
        "train --gpus 2": "No such option: --gpus; lsg has --devices.",
        "train --name a": "No such option: --name; lsg has --out DIRECTORY",
        "train --wd 0.1": "No such option: --wd; lsg has --weight-decay.",
        "eval net --gpus 2": "No such option: --gpus; lsg has --device cuda:N.",
        "train --early-stopping 3": "No such option: --early-stopping; lsg has --patience.",
        "train --seeds 0-3": "No such option: --seeds; lsg has --seed; `lsg ablate --seeds 0-4`",
        "train --batch_size 3": "No such option: --batch_size; lsg has --batch-size.",
        "eval --checkpoint net": "No such option: --checkpoint; lsg has the argument CKPT.",
        "eval net other": "Got unexpected extra argument",
        "version": "No such command 'version'; lsg has `lsg --version`.",
        "data download": "No such command 'download'; lsg has `lsg data prepare`.",
        "-V": "No such option: -V; lsg has `lsg --version`.",
        "train --batch-sizes 3": "No such option: --batch-sizes (Possible options: --batch-size",
        "trian": "No such command 'trian'. Did you mean 'train'?",
        "data shwo": "Did you mean 'show'?",
    },
}


@pytest.mark.parametrize(("line", "answer"), [line for lines in OF_TOOLS.values() for line in lines.items()])
def test_answers(lsg, line, answer):
    result = lsg(*line.split(), status=2)
    assert answer in " ".join(result.stderr.split())
