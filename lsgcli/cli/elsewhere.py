"""Names that other tools use for options and commands, and what lsg has instead.

To add a name, add it to a line, or a line: ``names = answers``. Answers are separated by ``|``. An answer is given to a command that has all
the options in it, and the first such one is given; an answer without options is given to any command. A test checks that all options exist.
"""

import re

OPTION = re.compile(r"(?<![\w-])-{1,2}[a-zA-Z][\w-]*|\bCKPT\b")


def _table(text: str) -> dict[str, list[str]]:
    """Name -> answers."""
    table: dict[str, list[str]] = {}
    for line in text.strip().splitlines():
        names, _, answers = line.partition(" = ")
        table |= dict.fromkeys(names.split(), answers.split(" | "))
    return table


OPTIONS = _table(
    """
amp fp16 bf16 half use-amp native-amp apex-amp mixed-precision dtype = --precision bf16, or fp16
model net network architecture backbone a = --arch
checkpoint ckpt model-path model-file weights pretrained init load load-from initial-checkpoint finetune = the argument CKPT | --init-from CHECKPOINT, or --resume RUN
resume-from resume-from-checkpoint ckpt-path continue continue-training restart start-epoch c = --resume RUN
wd l2 = --weight-decay
gpus num-gpus n-gpu n-gpus ngpus ngpu nproc nproc-per-node world-size num-devices = --devices | --device cuda:N
gpu cuda use-cuda use-gpu gpu-id accelerator = --device cuda
cpu no-cuda no-gpu = --device cpu
name run-name exp-name experiment experiment-name output output-dir out-dir outdir save save-dir log-dir logdir work-dir workdir dir project o = --out DIRECTORY, the directory of the run | -o FILE
seeds num-seeds n-seeds = --seed; `lsg ablate --seeds 0-4` trains a run for each
random-seed manual-seed rng-seed = --seed
learning-rate base-lr init-lr initial-lr eta learningrate = --lr
epoch max-epochs max-epoch num-epochs n-epochs nepochs num-train-epochs e = --epochs
batch bs batchsize mini-batch-size train-batch-size per-device-train-batch-size global-batch-size b = --batch-size
num-workers n-workers nworkers num-proc dataloader-num-workers jobs j = --workers
data data-path data-root data-folder dataset-dir dataset-path datadir root = --data-dir
dataset-name data-name ds task d = --dataset
time-steps timestep time-step num-steps n-steps num-timesteps simulation-steps = -T
tau tau-m leak beta = --decay, the factor of the potential from one timestep to the next
v-threshold v-th vth thresh thr = --threshold
surrogate-function surrogate-gradient surrogate-fn spike-grad spike-function = --surrogate
opt optim = --optimizer
sched scheduler lr-scheduler lr-schedule lr-policy = --schedule
cos-lr cosine = --schedule cosine
opt-betas opt-eps betas adam-beta1 adam-beta2 = --optimizer sgd or adamw, with the other constants of torch
warmup warmup-steps num-warmup warm-up = --warmup-epochs
warmup-lr warmup-lr-init warmup-bias-lr = --warmup-start, a fraction of --lr
min-lr lr-min eta-min lrf = --lr-floor, a fraction of --lr
grad-clip clip clip-grad-norm clip-norm max-grad-norm gradient-clip-val = --clip-grad
gradient-accumulation-steps accumulate-grad-batches grad-accum accum-steps accum grad-accumulation micro-batch-size = --accumulate
label-smooth smoothing = --label-smoothing
model-ema ema-decay model-ema-decay = --ema
drop drop-rate dropout-rate dropout-p p-drop = --dropout
drop-path drop-block stochastic-depth = no stochastic depth, but --dropout
loss-fn loss-function criterion = --loss
aug augmentation augmentations auto-augment aa transform transforms = --augment
reprob remode random-erasing erasing = --augment erase
close-mosaic mixup-off-epoch = --mix-until, the number of epochs with --mixup and --cutmix
val-split valid-split validation-split val-ratio val-size valid-fraction = --val-fraction
img-size image-size imgsz input-size resolution res = --size
logger report-to wandb use-wandb tensorboard tb track = --log
debug fast-dev-run dry profile profiler = --dry-run
overwrite exist-ok yes y f = --force
silent enable-progress-bar = -q, --quiet
debug-level log-level loglevel = -v, --verbose | -q, --quiet
format output-format = --json
grad-checkpointing gradient-checkpointing activation-checkpointing = --memory
sync-bn syncbn sync-batchnorm = --sync-norm
nthreads num-threads n-threads = --threads
compile torchcompile torchscript channels-last pin-mem pin-memory = no such switch: memory format and compiled kernels are chosen for the device, see --backend
strategy = --devices: DistributedDataParallel is the only strategy
num-nodes nnodes = torchrun, which starts `lsg train` on several machines
check-val-every-n-epoch val-interval eval-interval eval-every = no interval: each epoch ends with an evaluation
save-period save-every save-interval checkpoint-freq save-freq = no interval: last.safetensors is written after each epoch
max-steps limit-train-batches eval-iters = no limit in steps, but --epochs
npz save-probabilities save-softmax = `lsg predict --json`, which prints probabilities
source i = the files as arguments: `lsg predict CKPT PATH...`
early-stopping early-stop early-stopping-patience = --patience
overfit-batches = --overfit
max-hours time-limit = --max-time 3h30m
freeze-layers = --freeze
kfold k-folds cv = --fold I/K, and `lsg ablate --folds K`
V = `lsg --version`
version = `lsg --version`
"""
)
COMMANDS = _table(
    """
fit run pretrain = `lsg train`
finetune fine-tune finetune-lora finetune-full finetune-adapter = `lsg train --init-from CHECKPOINT`
evaluate test val validate score evaluate-folder = `lsg eval`
infer inference classify chat generate = `lsg predict`
serve deploy = `lsg predict --stream`, which classifies data while they arrive, and `lsg export`
sweep search hpo optimize optimise find-best-configuration = `lsg tune`
grid experiment experiments = `lsg ablate`
inspect analyze analyse gradients gradient-flow flow = `lsg inspect-gradients`
diff report = `lsg compare RUN...`
ps status history results log logs = `lsg runs`
summary describe model-summary = `lsg show CKPT`
convert convert-to-litgpt convert-from-litgpt export-model-to-zip onnx save = `lsg export`
upload publish = `lsg push`
benchmark speed perf throughput latency = `lsg bench`
download datasets dataset = `lsg data`, with prepare, info, show and verify
preprocess prepare plan-and-preprocess = `lsg data prepare`
ls models list-models archs architectures networks = `lsg list archs`
methods neurons surrogates losses augmentations = `lsg list`, with their kind
recipes = `lsg list recipes`, and `lsg recipe`
settings config configs = `lsg train --print-config`
check checks env environment info diagnose health = `lsg doctor`
profile = `lsg train --dry-run`, which measures steps
avg-checkpoints average = `lsg train --ema`, an average over the steps
resume continue = `lsg train --resume RUN`
version = `lsg --version`
help = `lsg --help`, and `lsg COMMAND --help`
"""
)
DATA_COMMANDS = _table(
    """
download get fetch preprocess = `lsg data prepare`
summary stats describe = `lsg data info`
plot view preview = `lsg data show`
check validate = `lsg data verify`
simulate generate = `lsg train --dataset digits-dvs`, whose recordings are simulated; others by `python -m benchmarks.simulate` in a clone
list ls = `lsg list datasets`
"""
)


def needed(answer: str) -> set[str]:
    """The options in an answer, and CKPT, outside of commands in backticks."""
    return set(OPTION.findall(re.sub("`.*?`", "", answer)))


def for_option(name: str, own: set[str]) -> str:
    """What lsg has instead of an unknown option; empty if nothing is known.

    Args:
        name: with its dashes.
        own: options of the command, and CKPT if it takes that.
    """
    plain = name.lstrip("-").rpartition(".")[2].replace("_", "-")  # --train.epochs is of the group train
    if f"--{plain}" in own:
        return f"--{plain}"
    for answer in OPTIONS.get(plain, OPTIONS.get(plain.lower() if len(plain) > 1 else "", ())):
        if needed(answer) <= own:
            return answer
    return ""


def for_command(name: str, group: str) -> str:
    """What lsg has instead of an unknown command; empty if nothing is known.

    Args:
        group: ``data``, or that of all commands.
    """
    table = DATA_COMMANDS if group == "data" else COMMANDS
    return "".join(table.get(name.lower().replace("_", "-"), ()))
