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
    answers = [*elsewhere.COMMANDS.values(), *elsewhere.DATA_COMMANDS.values(), *elsewhere.OPTIONS["seeds"]]
    assert all("`lsg " in answer for answer in answers)
    for command in re.findall("`lsg (.+?)`", " ".join(answers)):
        words = [word for word in command.split() if not word.startswith("-")]
        assert words[:1] in ([], ["COMMAND"]) or words[0] in COMMANDS or " ".join(words[:2]) in known
        options = set().union(*(known.get(name, set()) for name in (words[:1] or [""])[:1]))
        assert elsewhere.needed(command) - {"--help", "--version"} <= options, command


@pytest.mark.parametrize(
    ("line", "answer"),
    [
        ("train --amp", "No such option: --amp; lsg has --precision bf16, or fp16."),
        ("train --model resnet19", "No such option: --model; lsg has --arch."),
        ("train --wd 0.1", "No such option: --wd; lsg has --weight-decay."),
        ("train --gpus 2", "No such option: --gpus; lsg has --devices."),
        ("eval net --gpus 2", "No such option: --gpus; lsg has --device cuda:N."),
        ("train --name a", "No such option: --name; lsg has --out DIRECTORY"),
        ("train --early-stopping 3", "No such option: --early-stopping; lsg has --patience."),
        ("train --seeds 0-3", "No such option: --seeds; lsg has --seed; `lsg ablate --seeds 0-4`"),
        ("train --batch_size 3", "No such option: --batch_size; lsg has --batch-size."),
        ("eval net --epochs 3", "No such option: --epochs; lsg has it in `lsg train`, `lsg ablate`, `lsg tune`."),
        ("eval --checkpoint net", "No such option: --checkpoint; lsg has the argument CKPT."),
        ("train -b 3", "No such option: -b; lsg has --batch-size."),
        ("train model=resnet19 epochs=3", "Unexpected argument model=resnet19; lsg has --arch resnet19."),
        ("train epochs=3", "Unexpected argument epochs=3; lsg has --epochs 3."),
        ("train /data/cifar", "Unexpected argument /data/cifar; lsg has --data-dir /data/cifar."),
        ("train 001 3d_fullres 0", "Unexpected argument 001; lsg has options: --dataset NAME, --data-dir DIR."),
        ("eval net other", "Got unexpected extra argument"),
        ("train --trainer.max_epochs 3", "No such option: --trainer.max_epochs; lsg has --epochs."),
        ("train --cos-lr", "No such option: --cos-lr; lsg has --schedule cosine."),
        ("predict net -i images", "No such option: -i; lsg has the files as arguments: `lsg predict CKPT PATH...`."),
        ("list-models", "No such command 'list-models'; lsg has `lsg list archs`."),
        ("plan_and_preprocess", "No such command 'plan_and_preprocess'; lsg has `lsg data prepare`."),
        ("checks", "No such command 'checks'; lsg has `lsg doctor`."),
        ("version", "No such command 'version'; lsg has `lsg --version`."),
        ("data download", "No such command 'download'; lsg has `lsg data prepare`."),
        ("-V", "No such option: -V; lsg has `lsg --version`."),
        ("train --batch-sizes 3", "No such option: --batch-sizes (Possible options: --batch-size"),
        ("trian", "No such command 'trian'. Did you mean 'train'?"),
        ("data shwo", "Did you mean 'show'?"),
    ],
)
def test_answers(lsg, line, answer):
    result = lsg(*line.split(), status=2)
    assert answer in " ".join(result.stderr.split())
