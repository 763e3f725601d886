"""Command lines that every command refuses before it computes or writes anything: the exit status, and what the message names."""

import shlex
import shutil

import pytest

from tests.exports import exported
from tests.networks import saved
from tests.unit.data.conftest import aedat2_bytes, blob

# Status | command line | parts of the message, separated by blanks. {run} is a finished run, {best} its checkpoint, {images} its data;
# {alone} is this checkpoint outside of the run, {folded}, {whole} and {nir} are exports of it, {begun} is a run without a checkpoint;
# {tiny} are settings of another network; {net} is a checkpoint of recordings, {file} a recording.
LINES = """
2 | ablate --seeds a | --seeds
2 | ablate --seeds 0-100000000 | --seeds 10,000
2 | ablate --table 9 | --table
2 | ablate --table 1 --method fixed | --method
2 | ablate --table 1 --grid T=1 | --table --grid
2 | ablate --margin 0 | --margin
2 | ablate --print-commands --margin 1 | --margin --print-commands
2 | ablate --print-commands --plot p | --plot --print-commands
2 | ablate --grid methods=fixed | 'methods' method
2 | ablate --grid T=two | T 'two' integer
2 | ablate --grid T=2-4 | T '2-4' integer
2 | ablate --grid T=2 T=4 | T twice
2 | ablate --grid seed=0,1 | --seeds
2 | ablate --grid init_from=a/b.safetensors,a_b.safetensors | directories
2 | ablate --grid deterministic=maybe | true false
2 | ablate --grid size=16,20 arch=vggsnn | 16
2 | ablate --grid workers=0,2 | workers
2 | ablate --grid convolution=dense,sparse | synapses 'sparse'
2 | ablate --grid residual=add,sew | --residual 'sew'
2 | ablate --format word | --format
2 | ablate --overfit 1 | --overfit
2 | ablate --collect . | --collect
2 | ablate --collect . --table 1 --lr 0.1 | --table --lr --collect
2 | ablate --collect . --print-commands | --print-commands
2 | ablate --jobs 2 | --jobs --launcher
2 | ablate --json --format csv | --json --format
2 | ablate --launcher local --devices x | --devices
2 | ablate --cancel | --cancel --launcher
2 | ablate --launcher local --cancel --json | --json --cancel
2 | ablate --launcher local --slurm time=1 | --slurm
2 | ablate --launcher slrum | 'slrum' slurm
2 | ablate --print-commands --grid method=lsg --arch vggsnn --size 4 | --size
2 | ablate --print-commands --precision int8 | --precision
2 | ablate --print-commands --config /dev/null | /dev/null device
2 | bench --mode run | --mode 'run'
2 | bench --arch nir | nir
2 | bench --precision fp16 --device cpu | fp16 cpu
2 | compare {run} absent | absent
2 | compare {images} | {images}
2 | data info |
2 | data info {images} --dataset cifar-dvs | PATH --dataset
3 | data info nowhere | nowhere
3 | data info --dataset n-mnist --data-dir nowhere | nowhere
2 | data info --dataset event-folder | train/<class>/
2 | data show --dataset digits-dvs -o a.gif | .png
3 | data verify {file} | {file} folder
3 | data verify {file} --write | {file} folder
2 | data show --dataset digits-dvs -o a.png -T 0 | -T
2 | data show --dataset digits -o a.png --samples 0 | --samples
2 | data show nowhere -o a.png --split last | PATH --split
3 | data show nowhere -o a.png | nowhere
2 | data verify |
2 | data verify {images} --dataset cifar-dvs | PATH --dataset
3 | data verify nowhere | nowhere
3 | data verify --dataset n-mnist --data-dir nowhere | nowhere
2 | diagnose missing.py --json | missing.py --json
2 | diagnose --jobs 2 {file} | --jobs --try
2 | diagnose --try --try-for soon {file} | --try-for 'soon' 5m
4 | eval nothing.nir | nothing.nir
2 | eval {best} --data-dir {images} --csv - --json | --json --csv
2 | eval {best} --data-dir {images} --csv {best} --force | .csv
2 | eval {best} --data-dir {images} --convolution sparse | --synapses 'sparse'
2 | eval {best} --data-dir {images} --time-test | --time-test
2 | eval {best} --data-dir {images} --split valid | --split 'valid' val
2 | eval {best} --data-dir {images} --refresh-norm 4 --out new.safetensors --split train | --split --refresh-norm
2 | eval {best} --data-dir {images} --refresh-norm 4 | --out
2 | eval {best} --data-dir {images} --out new.safetensors | --refresh-norm
2 | eval {best} --data-dir {images} --refresh-norm 4 --out new.safetensors -T 3 | -T --refresh-norm
2 | eval {best} --data-dir {images} --refresh-norm 4 --out new.nir | .safetensors
2 | eval {best} --data-dir {images} --refresh-norm 4 --out {best} --force | {best}
2 | eval {alone} --data-dir {images} --refresh-norm 4 --out {alone} --force | {alone}
4 | eval {folded} --data-dir {images} --refresh-norm 4 --out new.safetensors | {folded}
4 | eval {whole} --data-dir {images} --refresh-norm 4 --out new.safetensors | {whole}
4 | eval {nir} --data-dir {images} --refresh-norm 4 --out new.safetensors | {nir}
2 | eval {nir} --data-dir {images} --device cuda | CPU
2 | eval {nir} --data-dir {images} --precision bf16 | CPU
2 | eval {nir} --data-dir {images} -T 4 | -T
2 | eval {best} --data-dir {images} --synops --precision int8 | --precision
2 | eval https://example.org/net.safetensors | https://example.org/net.safetensors
2 | export ftp://127.0.0.1/a -o a.onnx | ftp://127.0.0.1/a
2 | predict https://example.org/net.safetensors a.png | https://example.org/net.safetensors
2 | export {best} -o out --format safetensors --mode step | --mode safetensors
2 | export {best} -o out --format onnx --mode scan | unroll step
2 | export {best} -o out --format onnx --dt 0.001 | --dt onnx
2 | export {best} -o out --format nir --dt 0 | --dt
2 | export {best} -o out --format nir --dt nan | --dt
2 | export {best} -o out --format nir --no-fold-bn | --no-fold-bn
2 | export {best} -o out --format nir --verify 0 | --verify
2 | export {folded} -o new.safetensors --no-fold-bn | --no-fold-bn
2 | export {best} -o out --format onxx | onnx?
2 | export {best} -o out --format onnx --quantize int4 | 'int4' int8
2 | export {best} -o out --format onnx --quantize int8 --no-fold-bn | --no-fold-bn
2 | export {best} -o out --format onnx -T 0 | --timesteps
2 | export net.safetensors -o net | net .nir .onnx
2 | export net.safetensors -o x.onnx --format nir | x.onnx
2 | export net.safetensors -o x.onnx --cache-dir c | --cache-dir --verify
2 | inspect-gradients {best} --csv --json | --csv --json
2 | inspect-gradients {best} --fail-on sleepy | 'sleepy'
2 | inspect-gradients {best} --fail-on '' | --fail-on
2 | inspect-gradients {best} --fail-on ok | 'ok'
2 | inspect-gradients {best} --data-dir {images} --advise --fail-on sleepy | potential-scale
2 | inspect-gradients {best} --data-dir {images} --try 1 | --advise
2 | inspect-gradients {best} --data-dir {images} --advise --jobs 2 | --try
2 | inspect-gradients {best} --data-dir {images} --advise --limit potential-scale=x | NAME=NUMBER
2 | inspect-gradients {best} --data-dir {images} --limit tired=1 | NAME=NUMBER
2 | inspect-gradients {best} --data-dir {images} --mismatch 2 --mismatch-step 0 | --mismatch-step
2 | inspect-gradients {best} --data-dir {images} --mismatch 9 --mismatch-step 1e-9 | 1e-09 --mismatch-step
2 | inspect-gradients {best} --data-dir {images} --precision int8 | --precision
2 | inspect-gradients net.safetensors --mismatch-step 0.1 | --mismatch
4 | inspect-gradients {begun} --advise | {begun}
4 | inspect-gradients {folded} --data-dir {images} | {folded}
2 | inspect-gradients {alone} --data-dir {images} --batches 1 --advise --try 1 | --try {alone}
2 | list archx | archs?
2 | list archs --json-schema | --json-schema
2 | predict {net} |
2 | predict {net} {file} --logits | --logits --json
2 | predict {net} {file} --idle 1 | --idle --stream
2 | predict {net} {file} --stream --by-step | --by-step --stream
2 | predict {net} {file} {file} --stream | 2
2 | predict {net} - --stream --idle 1 | --idle
2 | predict {net} {file} -T 3 | -T
3 | predict {net} - | stdin
3 | predict {net} absent.aedat | absent.aedat
4 | predict {file} {file} | {file}
2 | recipe tett | tet?
2 | recipe tet --dataset cifar10 | cifar10
2 | reproduce figrue |
2 | runs nowhere | nowhere
2 | runs {file} | {file} file,
2 | runs {run} --sort foo | foo
2 | runs {run} --where foo=1 | foo
2 | runs {run} --where lr=much | lr 'much'
2 | runs {run} --where 'lr > x' | x
2 | runs {run} --where path==mlp | '==' <=
2 | runs {run} --where 'state=<x' | '=<' <=
2 | runs {run} --where 'state=>x' | '=>' >=
2 | runs {run} --where 'state != finished' | '!=' <=
2 | runs {run} --where 'arch<>mlp' | '<>' <=
2 | show | CKPT --arch
2 | show --arch mlp --depth 9 | --depth
2 | show --arch resnet19 --depth 7 | depth 7
2 | show --arch resnet19 --depth 18 | depth 18
2 | show net.safetensors --classes 3 | CKPT
2 | show net.safetensors --arch mlp | CKPT
3 | show --dataset torchvision:MNIST | --classes
2 | train --config /dev/null | /dev/null device
3 | train --dataset tonic:NMNIST --dry-run | prepare
3 | train --dataset image-folder --data-dir {images} --fold 1/5 --arch mlp | train/ test/ --fold
3 | train --dataset image-folder --data-dir {images} --split stratified --arch mlp | train/ test/ --split
3 | data info --dataset image-folder --data-dir {images} --split stratified | train/ test/ --split
2 | train --data-dir D | --data-dir 'D' event-folder image-folder
2 | train --lr abc | 'abc' --lr
2 | train --memory 5 | --memory '5'
2 | train --recipe qkformer --epochs 20 | epochs 20
2 | train --recipe tet --dataset digits | tet digits images
2 | train --recipe tett | 'tett'
2 | train {tiny} --freeze layer1.* | 'layer1.*' hidden1
2 | train {tiny} --freeze '*' | '*' every
2 | train --seed 99999999999999999999999 | --seed
2 | train --synapses auto --convolution auto | --synapses convolution
2 | train --width-multiplier 1e9 | --width-multiplier 64
2 | train --threshold 1e300 --width 1e300 | --threshold --width
2 | train --size 20 --augment autoaugment --device cuda:7 --out run | 16 autoaugment cuda:7
2 | train --dataset tonic:nmist | NMNIST
2 | train --dataset torchvision:FashonMNIST | FashionMNIST
2 | train --dataset tonic:DSEC | 'DSEC'
2 | train --dataset tonic: | tonic:NAME
2 | train --log tensorbord,csv | 'tensorbord,csv'
2 | train --resume {run} --threads -3 | --threads
2 | train --resume {run} --device tpu | --device
2 | train --resume {run} --out other | --out
2 | train --resume {run}/last.safetensors | --resume {run}
2 | train {tiny} --precision int8 | --precision
2 | train {tiny} --method matched-width --out other | --width-from
4 | train {tiny} --method matched-width --width-from absent.safetensors --out other | absent.safetensors
4 | train {tiny} --method matched-width --width-from {folded} | {folded}
4 | train {tiny} --init-from absent.safetensors | absent.safetensors
4 | train {tiny} --init-from {best} | {best} vggsnn mlp
4 | train {tiny} --arch vggsnn --init-from {folded} | {folded}
4 | train {tiny} --arch vggsnn --init-from {best} --width-multiplier 0.0625 | {best} features.0.current.norm.weight
2 | tune --search lr=0.001-0.1 | lr '0.001-0.1' number
2 | tune --search lr=0.1,abc | --lr 'abc'
2 | tune --search method=lgs,none | 'lgs' lsg
2 | tune {tiny} --search lr=0.1,0.2 --val-fraction 0 | --val-fraction
2 | tune {tiny} --search lr=0.1,0.2 lr=0.1:0.2 | lr twice
2 | tune {tiny} --search lr=0.1,0.2 --trials 0 | --trials
2 | tune {tiny} --search method=lsg,fixed --method fixed | --method
2 | tune {tiny} --search lr=0.1,0.2 --jobs 2 | --jobs --launcher
2 | tune {tiny} --search lr=0.1,0.2 --launcher slrum | 'slrum' slurm
2 | tune {tiny} --search lr=0.1,0.2 --cancel | --cancel --launcher
"""


@pytest.fixture(scope="module")
def places(tiny, trained, images, tmp_path_factory):
    folder = tmp_path_factory.mktemp("places")
    (folder / "a.aedat").write_bytes(aedat2_bytes(blob(0)))
    saved(folder / "net.safetensors", medians=(40, 1))
    best = trained / "best.safetensors"
    shutil.copy(best, folder / "alone.safetensors")
    exported(best, "safetensors", folder / "folded.safetensors")
    exported(best, "safetensors", folder / "whole.safetensors", fold_bn=False)
    exported(best, "nir", folder / "net.nir")
    (folder / "begun").mkdir()
    shutil.copy(trained / "config.json", folder / "begun")
    made = {name: folder / f"{name}.safetensors" for name in ("net", "alone", "folded", "whole")}
    made |= {"file": folder / "a.aedat", "nir": folder / "net.nir", "begun": folder / "begun"}
    return {"tiny": shlex.join(tiny), "run": trained, "best": best, "images": images, **made}


@pytest.mark.parametrize("line", LINES.strip().splitlines())
def test_refused(lsg, places, tmp_path, line):
    status, words, named = (part.strip() for part in line.format(**places).split("|"))
    result = lsg(*shlex.split(words), status=int(status))
    assert result.stdout == ""
    assert [part for part in named.split() if part not in result.stderr] == []
    assert {path.name for path in tmp_path.iterdir()} <= {"cache"}
