"""Settings of the machine that a run uses."""

import re
from dataclasses import dataclass

from lsgcli.config.fields import Settings, setting

INT8 = "int8"  # precision of evaluation and prediction on CPUs; training does not support it
TIME = re.compile(r"(?=\d)(?:(\d{1,5})h)?(?:(\d{1,5})m)?(?:(\d{1,6})s)?")


def seconds_of(text: str) -> int:
    """Seconds of a time such as 3h30m, 90m or 20s; 0 for any other text."""
    match = TIME.fullmatch(text)
    return sum(int(number or 0) * unit for number, unit in zip(match.groups(), (3600, 60, 1), strict=True)) if match else 0


@dataclass(frozen=True)
class MachineConfig(Settings):
    """Hardware, precision, directories and loggers, which hardly affect results."""

    device: str = setting("auto", "Device: auto (a CUDA GPU if available, otherwise the CPU), cpu, cuda, or cuda:1.")
    precision: str = setting(
        "fp32",
        "Precision of convolutions and linear layers; membrane potentials and statistics are always fp32. auto selects bf16 if "
        "the CPU or GPU computes it faster than fp32, and fp16, with a gradient scaler, on GPUs of capability 7.x: results then "
        "depend on the machine.",
        choices=f"auto fp32 bf16 fp16 {INT8}",
    )
    synapses: str = setting(
        "dense",
        "On CPUs, how convolutions of spikes, and the linear layers of mlp, are computed: dense; spikes, adding a row of weights for each "
        "spike; or auto, the faster of both for each layer and its density of spikes, measured once. Same result up to rounding.",
        choices="auto dense spikes",
    )
    memory: str | int = setting(  # a number in earlier settings
        "none",
        "Less memory of activations in training, for more time and with the same result. bits: each convolution with its neurons keeps "
        "only its input, spikes in bits, and the backward pass computes the rest again. The earlier levels 1 to 4 are bits.",
        choices="none bits",
        earlier={"0": "none", "1": "bits", "2": "bits", "3": "bits", "4": "bits", "layers": "bits"},
    )
    sync_norm: bool = setting(
        True,
        "With several devices: statistics of tdBN and of measured widths over the whole batch. Without, each device uses those of "
        "its own share, which is faster and computes something else.",
    )
    deterministic: bool = setting(False, "Use only deterministic operations, and raise an error for any other.")
    threads: int | None = setting(
        None,
        "CPU threads, at most the usable CPUs (CPU affinity and cgroup quota of the process). Default: the usable CPUs, limited by "
        "OMP_NUM_THREADS, or SLURM_CPUS_PER_TASK, and by torch's own number, usually one per physical core.",
        at_least=1,
        at_most=1024,
    )
    max_time: str | None = setting(
        None,
        "Time after which the run saves its state and ends with status 75, such as 3h30m, 90m or 20s, from the start of the process; the "
        "same command continues it. In a SLURM job, a run also stops so before the job ends, with or without this setting.",
        check=lambda text: None if seconds_of(text) else "a time above 0, such as 3h30m, 90m or 20s",
    )
    workers: int = setting(
        2,
        "Worker processes that prepare recordings, and number of prefetched batches, at most the usable CPUs.",
        at_least=0,
        at_most=1024,
    )
    cache_dir: str | None = setting(
        None, "Directory of prepared data. Default: $XDG_CACHE_HOME/lsg, or ~/.cache/lsg.", path="folder"
    )
    log: str = setting("none", "Programs that also record the run, comma-separated, or none.", kind="logger", several=True)
