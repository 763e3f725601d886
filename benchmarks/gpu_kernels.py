"""Registers, spills, shared memory and occupancy of the Triton kernels, compiled ahead of time for GPUs that need not be present.

    pip install -e '.[triton]'
    python -m benchmarks.gpu_kernels                             # all variants for all architectures: minutes on one core
    python -m benchmarks.gpu_kernels --check --architecture sm_90 --type bfloat16

Layers run on CPU tensors with a stand-in for Triton's driver, and each launch only compiles, so that kernels are compiled for the
arguments that they really get. ``--check`` writes nothing; its status is 1 if a kernel spills registers or needs more shared memory than
a block can have. The record, ``benchmarks/results/gpu-kernels.json``, holds the variants of lsg's networks, a summary of all others, and
the effect of other tile sizes.
"""

import argparse
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from benchmarks.measuring import machine, write
from benchmarks.tables import Table, show
from lsgcli import registry
from lsgcli.neurons import LIFParameters
from lsgcli.neurons.kernels.base import NormParameters
from lsgcli.neurons.kernels.gpu import sequence


class Architecture(NamedTuple):
    """What limits the number of resident warps of a multiprocessor; all have 4 schedulers with 512 registers per lane.

    Sources: NVIDIA, "CUDA C++ Programming Guide", compute capabilities; AMD, "CDNA 3 Instruction Set Architecture".

    Attributes:
        cards: well-known products.
        warps: resident warps, or wavefronts.
        blocks: resident blocks.
        shared: bytes of shared memory.
        block_shared: bytes that one block can use.
        lanes: threads per warp.
    """

    cards: str
    warps: int
    blocks: int
    shared: int
    block_shared: int
    lanes: int = 32

    def occupancy(self, registers: int, shared: int, warps: int) -> float:
        """Resident warps relative to the maximum, for a kernel with ``warps`` warps per block."""
        by_registers = 4 * (512 // (8 * -(-registers // 8)))
        reserved = self.shared - self.block_shared  # by the driver, for each block
        blocks = min(self.blocks, self.warps // warps, by_registers // warps, self.shared // max(1, shared + reserved))
        return blocks * warps / self.warps


KIB = 1024
ARCHITECTURES = {
    "sm_80": Architecture("A100", 64, 32, 164 * KIB, 163 * KIB),
    "sm_86": Architecture("RTX 3090, A40", 48, 16, 100 * KIB, 99 * KIB),
    "sm_89": Architecture("RTX 4090, L40", 48, 24, 100 * KIB, 99 * KIB),
    "sm_90": Architecture("H100", 64, 32, 228 * KIB, 227 * KIB),
    "sm_100": Architecture("B200", 64, 32, 228 * KIB, 227 * KIB),
    "gfx942": Architecture("MI300X", 32, 32, 64 * KIB, 64 * KIB, lanes=64),
}
TYPES = ("bfloat16", "float32", "float16", "float64")
RESETS = (("hard", True, False), ("soft", False, True), ("soft", True, False), ("none", False, True), ("hard", False, True))
TILES = ((512, 4), (512, 8), (1024, 4), (1024, 8), (2048, 8), (2048, 16))  # neurons, and warps of the backward pass


class Driver:
    """What Triton asks its driver for before a launch; the device is the number of an architecture."""

    def __init__(self) -> None:
        self.device = 0

    def use(self, name: str) -> None:
        """Compile for an architecture from now on."""
        self.device = list(ARCHITECTURES).index(name)

    def get_current_target(self) -> Any:
        from triton.backends.compiler import GPUTarget

        name, architecture = list(ARCHITECTURES.items())[self.device]
        kind, number = ("cuda", int(name.removeprefix("sm_"))) if name.startswith("sm_") else ("hip", name)
        return GPUTarget(kind, number, architecture.lanes)

    def get_current_device(self) -> int:
        return self.device

    def get_current_stream(self, device: int) -> int:
        return 0

    def get_active_torch_device(self) -> torch.device:
        return torch.device("cpu")


def compiled(names: Sequence[str], types: Sequence[str], every: bool = True) -> list[dict[str, Any]]:
    """Compile the kernels for architectures and types.

    Args:
        names: of :data:`ARCHITECTURES`.
        types: of the convolutions' outputs.
        every: compile all variants, not only those of the documentation's table.

    Returns:
        A record of each variant: ``kernel``, ``type``, ``options``, ``threads`` relative to a warp, and ``usage`` by architecture.

    Raises:
        AssertionError: other numbers of timesteps, images or pixels need other variants.
    """
    from triton.runtime.driver import driver
    from triton.runtime.jit import JITFunction

    stand_in = Driver()
    driver.set_active(stand_in)
    found: dict[str, dict[str, Any]] = {}
    launch, backend = JITFunction.run, registry.get("backend", "triton")
    check = type(backend).check

    def compile_only(self: Any, *arguments: Any, grid: Any, warmup: bool, **options: Any) -> Any:
        variant: dict[str, Any] = {}
        for name in names:
            stand_in.use(name)
            known = {
                k: v for k, v in options.items() if k != "maxnreg" or name.startswith("sm_")
            }  # AMD's compiler has no limit
            kernel = launch(self, *arguments, grid=grid, warmup=True, **known)
            variant = variant or found.setdefault(kernel.hash, described(self.__name__, arguments[0].dtype, options))
            if name not in variant["usage"]:
                variant["usage"][name] = usage(kernel, name)

    JITFunction.run, type(backend).check = compile_only, lambda self, device: None  # type: ignore[method-assign]
    try:
        for type_ in types:
            for case in layers(getattr(torch, type_), every):
                run(backend, *case)
        count = len(found)
        for sizes in ((1, 1, 16), (2, 3, 10), (16, 16, 8), (17, 1, 9)):
            run(backend, images(getattr(torch, types[0]), *sizes), parameters(), {"pool": 2})
        assert len(found) == count, "other sizes need other variants"
    finally:
        JITFunction.run, type(backend).check = launch, check  # type: ignore[method-assign]
    return list(found.values())


Layer = tuple[Tensor, LIFParameters, dict[str, Any] | None]  # z, parameters, and the arguments of normalise_and_fire


def layers(dtype: torch.dtype, every: bool) -> Iterator[Layer]:
    """Layers that need the variants of the kernels; None for neurons without tdBN and pooling."""
    z = images(dtype)
    usual: list[dict[str, Any]] = [{}, {"pool": 2}, {"residual": z}]
    folded: list[dict[str, Any]] = [{"norm": None}, {"norm": None, "pool": 2}, {"norm": None, "residual": z}]
    for given in usual:
        yield z, parameters(), given
    if not every:
        return
    for given in [*folded, {"pool": 3}, {"pool": 4}, {"pool": 8}]:
        yield z, parameters(), given
    for given in [*usual, *folded]:
        yield z, parameters()._replace(measured=torch.zeros(3, dtype=torch.float64)), given
    learned = torch.tensor(0.5, requires_grad=True)
    for reset, detach, threshold in RESETS:
        p = parameters()._replace(reset=reset, detach=detach, threshold=learned if threshold else 0.5)
        for given in ({}, {"residual": z}, {"norm": None, "pool": 2}):
            yield z, p, given
    narrow = torch.zeros(3, 2, 5, 4, 4, dtype=dtype)
    for beta in (torch.tensor(0.3), torch.rand(5, 1, 1), torch.rand(2, 5, 4, 4)):
        yield narrow, parameters()._replace(beta=beta, alpha=torch.ones(3, 1, 1, 1, 1)), None
    for surrogate in registry.names("surrogate") if dtype in (torch.bfloat16, torch.float32) else ():
        for given in usual:
            yield z, parameters(surrogate), given
        yield narrow, parameters(surrogate), None


def images(dtype: torch.dtype, T: int = 3, B: int = 2, side: int = 16) -> Tensor:
    """(T, B, 64, side, side), channels-last."""
    return torch.zeros(T * B, 64, side, side, dtype=dtype).contiguous(memory_format=torch.channels_last).unflatten(0, (T, B))


def parameters(surrogate: str = "rectangular") -> LIFParameters:
    """Parameters of neurons."""
    return LIFParameters(torch.tensor(0.3), torch.tensor(1.0), 0.5, registry.get("surrogate", surrogate))


def run(backend: Any, z: Tensor, p: LIFParameters, given: dict[str, Any] | None) -> None:
    """Forward and backward."""
    leaf = z.clone().requires_grad_()
    if given is None:
        backend(leaf, p).float().sum().backward()
        return
    vectors = (torch.ones(64), torch.zeros(64), torch.zeros(64), torch.ones(64))
    given = {"norm": NormParameters(*vectors, True, 0.1, 1e-5, 0.5), **given}
    backend.normalise_and_fire(leaf, given.pop("norm"), p, **given).float().sum().backward()


def described(kernel: str, dtype: torch.dtype, options: dict[str, Any]) -> dict[str, Any]:
    """What tells a variant from the others."""
    parts = [name.lower() for name in ("NORM", "RESIDUAL", "MEASURE", "LEARNED") if options.get(name)]
    parts += [f"reset {options['RESET']}"] if options.get("RESET", "hard") != "hard" else []
    parts += ["detached"] if options.get("THROUGH") == "none" and options["RESET"] != "none" else []
    parts += [f"pool {options['POOL']}"] if options.get("POOL", 1) > 1 else []
    surrogate = options["SHAPE"].__name__ if "SHAPE" in options else ""
    tile = options["BLOCK_R"] * options.get("WINDOW", 1), options["BLOCK_C"]
    return {
        "kernel": kernel,
        "type": str(dtype).removeprefix("torch."),
        "options": parts,
        "surrogate": surrogate,
        "tile": tile,
        "warps": options.get("num_warps", 4),
        "usage": {},
    }


def usage(kernel: Any, name: str) -> dict[str, Any]:
    """Registers per thread, bytes spilled per thread, bytes of shared memory per block, and occupancy of a compiled kernel."""
    if name.startswith("gfx"):
        count = lambda key: int(re.search(rf"\.{key}:\s+(\d+)", kernel.asm["amdgcn"])[1])  # type: ignore[index]  # noqa: E731
        registers, spilled = count("vgpr_count"), 4 * (count("vgpr_spill_count") + count("sgpr_spill_count"))
        spilled = max(spilled, count("private_segment_fixed_size"))
    else:
        import triton

        tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
        with tempfile.NamedTemporaryFile(suffix=".cubin") as binary:
            Path(binary.name).write_bytes(kernel.asm["cubin"])
            done = subprocess.run([tool, "-res-usage", binary.name], capture_output=True, text=True, check=True)
        values = dict(re.findall(r"(REG|STACK|LOCAL):(\d+)", done.stdout + done.stderr))
        registers, spilled = int(values["REG"]), int(values["STACK"]) + int(values["LOCAL"])
    shared, warps = kernel.metadata.shared, kernel.metadata.num_warps
    return {
        "registers": registers,
        "spilled": spilled,
        "shared": shared,
        "occupancy": ARCHITECTURES[name].occupancy(registers, shared, warps),
    }


def excess(variants: Sequence[dict[str, Any]]) -> list[str]:
    """Descriptions of variants that spill registers or need more shared memory than a block can use."""
    wrong = []
    for variant in variants:
        for name, used in variant["usage"].items():
            if used["spilled"] or used["shared"] > ARCHITECTURES[name].block_shared:
                wrong.append(f"{name}: {title(variant)}: {used['spilled']} bytes spilled, {used['shared']} bytes shared")
    return wrong


def title(variant: dict[str, Any]) -> str:
    """A variant in words."""
    return ", ".join([variant["kernel"], variant["type"], *variant["options"], *filter(None, [variant["surrogate"]])])


def summary(variants: Sequence[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Architecture -> number of variants, and the extremes of their usage."""
    found = {}
    for name in variants[0]["usage"]:
        used = [variant["usage"][name] for variant in variants]
        most = {key: max(one[key] for one in used) for key in ("registers", "spilled", "shared")}
        found[name] = {"variants": len(used), **most, "occupancy": min(one["occupancy"] for one in used)}
    return found


def tiles(names: Sequence[str]) -> list[dict[str, Any]]:
    """Forward and backward pass of the variants of lsg's networks with other tile sizes."""
    found = []
    kept = sequence.TILE, sequence.BACKWARD_TILE, sequence.BACKWARD_WARPS
    for tile, sequence.BACKWARD_WARPS in TILES:
        sequence.TILE = sequence.BACKWARD_TILE = tile
        variants = compiled(names, TYPES[:2], every=False)
        for kernel in ("forward", "backward"):
            of_kernel = [variant for variant in variants if variant["kernel"] == kernel]
            warps = of_kernel[0]["warps"]
            if not any(one["kernel"] == kernel and (one["tile"], one["warps"]) == (tile, warps) for one in found):
                found.append({"kernel": kernel, "tile": tile, "warps": warps, "usage": summary(of_kernel)})
    sequence.TILE, sequence.BACKWARD_TILE, sequence.BACKWARD_WARPS = kept
    return sorted(found, key=lambda one: (one["kernel"] != "forward", one["tile"], one["warps"]))


def tables(record: dict[str, Any]) -> list[Table]:
    """Variants of lsg's networks, all variants, and tile sizes; occupancy in percent."""
    names = list(record["variants"][0]["usage"])
    heads = [f"{name} ({ARCHITECTURES[name].cards.split(',')[0]})" for name in names]
    shown = Table(
        "Kernels of VGGSNN and ResNet-19: registers per thread, occupancy",
        ("kernel", "type", "with", "tile", "warps", "shared, bytes", *heads),
    )
    for one in record["variants"]:
        cells = [f"{used['registers']}, {used['occupancy']:.0%}" for used in one["usage"].values()]
        shared = max(used["shared"] for used in one["usage"].values())
        tile, parts = " x ".join(map(str, one["tile"])), ", ".join(one["options"])
        shown.rows.append((one["kernel"], one["type"], parts, tile, one["warps"], shared, *cells))
    every = Table(
        "All variants", ("", "variants", "most registers", "spilled, bytes", "shared, bytes", "of", "least occupancy")
    )
    for name, used in record["every"].items():
        limit = ARCHITECTURES[name].block_shared
        counts = (used["variants"], used["registers"], used["spilled"], used["shared"], limit)
        every.rows.append((name, *counts, f"{used['occupancy']:.0%}"))
    sizes = Table(
        "Tile sizes: most registers, spilled bytes, least occupancy, neurons resident on a multiprocessor",
        ("kernel", "neurons per tile", "warps", *record["tiles"][0]["usage"]),
    )
    for one in record["tiles"]:
        cells = []
        for name, used in one["usage"].items():
            resident = used["occupancy"] * ARCHITECTURES[name].warps / one["warps"] * one["tile"]
            cells.append(f"{used['registers']}, {used['spilled']}, {used['occupancy']:.0%}, {resident:,.0f}")
        sizes.rows.append((one["kernel"], one["tile"], one["warps"], *cells))
    return [shown, every, sizes]


def main() -> int:
    """Compile, and write the record or check only."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--architecture", choices=ARCHITECTURES, action="append", help="default: all; can be repeated")
    parser.add_argument("--type", choices=TYPES, action="append", help="default: all; can be repeated")
    parser.add_argument("--check", action="store_true", help="write nothing; status 1 if a kernel does not fit")
    parser.add_argument("--few", action="store_true", help="only the variants of lsg's networks")
    options = parser.parse_args()
    names, types = options.architecture or list(ARCHITECTURES), options.type or TYPES
    if not options.check:
        usual = [{k: v for k, v in one.items() if k != "surrogate"} for one in compiled(names, TYPES[:2], every=False)]
        record: dict[str, Any] = {
            "machine": machine("triton"),
            "variants": usual,
            "tiles": tiles(("sm_80", "sm_90")),
            "every": {},
        }
    found = 0
    for name in names:
        variants = compiled([name], types, every=not options.few)
        wrong = excess(variants)
        found += len(wrong)
        print("\n".join(wrong or [f"{name}: {len(variants)} variants fit"]), file=sys.stderr)
        if not options.check:
            record["every"] |= summary(variants)
    if not options.check:
        write("gpu-kernels", record)
        show(tables(record))
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
