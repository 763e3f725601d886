"""Compile the Triton kernels for a GPU that is not there: ``python compile_kernels.py CAPABILITY [TYPE...]``, as 80 or 90.

Layers run with CPU tensors on a stand-in for Triton's CUDA driver, and every launch is made into one that compiles only, so that
kernels are compiled for the arguments that they really get. Prints type, registers and stack, in bytes, of each.
"""

import re
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.runtime.driver import driver
from triton.runtime.jit import JITFunction

from lsgcli import registry
from lsgcli.neurons import LIFParameters
from lsgcli.neurons.kernels import NormParameters

DUMP = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"


class NoDriver:
    """What Triton asks its driver for before a launch."""

    def __init__(self, capability):
        self.target = GPUTarget("cuda", capability, 32)

    def get_current_target(self):
        return self.target

    def get_current_device(self):
        return 0

    def get_current_stream(self, device):
        return 0

    def get_active_torch_device(self):
        return torch.device("cpu")


def collect(kernels):
    """Make launches compile only, and put what they give into ``kernels``."""
    launch = JITFunction.run

    def compile_only(self, *arguments, grid, warmup, **options):
        kernel = launch(self, *arguments, grid=grid, warmup=True, **options)
        kernels.setdefault(kernel.hash, (self.__name__, kernel))
        return kernel

    JITFunction.run = compile_only


def layers(backend, types):
    """Forward and backward of layers that need every variant of the kernels."""
    T, B, C = 3, 2, 64
    for dtype in types:
        z = torch.zeros(T * B, C, 8, 8, dtype=dtype).contiguous(memory_format=torch.channels_last).unflatten(0, (T, B))
        vectors = (torch.ones(C), torch.zeros(C), torch.zeros(C), torch.ones(C))
        norm = NormParameters(*vectors, True, 0.1, 1e-5, 0.5)
        for surrogate in registry.names("surrogate") if dtype == torch.float32 else ["rectangular"]:
            p = LIFParameters(torch.tensor(0.3), torch.tensor(1.0), 0.5, registry.get("surrogate", surrogate))
            for pool, residual, by in ((1, None, norm), (2, None, norm), (3, z, norm), (1, z, None)):
                leaf = z.clone().requires_grad_()
                backend.normalise_and_fire(leaf, by, p, residual=residual, pool=pool).float().sum().backward()
                if surrogate != "rectangular":
                    break
        current = torch.zeros(3, 2, 5, 4, 4, dtype=dtype, requires_grad=True)
        for beta in (torch.tensor(0.3), torch.rand(5, 1, 1), torch.rand(2, 5, 4, 4)):
            backend(current, p._replace(beta=beta, alpha=torch.ones(3, 1, 1, 1, 1))).float().sum().backward()
        measuring = p._replace(measured=torch.zeros(3, dtype=torch.float64))
        for pool in (1, 2):
            backend.normalise_and_fire(z, norm, measuring, pool=pool)


def other_sizes(backend, dtype):
    """A layer for other T, batches and images than :func:`layers` has, one of them 1."""
    p = LIFParameters(torch.tensor(0.3), torch.tensor(1.0), 0.5, registry.get("surrogate", "rectangular"))
    for T, B, side in ((1, 1, 16), (2, 3, 10), (16, 16, 8), (17, 1, 9)):
        z = torch.zeros(T * B, 64, side, side, dtype=dtype).contiguous(memory_format=torch.channels_last).unflatten(0, (T, B))
        vectors = (torch.ones(64), torch.zeros(64), torch.zeros(64), torch.ones(64))
        norm = NormParameters(*vectors, True, 0.1, 1e-5, 0.5)
        backend.normalise_and_fire(z.requires_grad_(), norm, p, pool=2).sum().backward()


def main():
    """Compile and print."""
    driver.set_active(NoDriver(int(sys.argv[1])))
    kernels = {}
    collect(kernels)
    backend = registry.get("backend", "triton")
    type(backend).check = lambda self, device: None
    types = [getattr(torch, name) for name in sys.argv[2:] or ("float32", "bfloat16", "float64")]
    layers(backend, types)
    names = sorted({name for name, _ in kernels.values()})
    assert names == ["backward", "forward", "input_gradient", "moments"], names
    compiled = len(kernels)
    other_sizes(backend, types[0])
    assert len(kernels) == compiled, "other sizes were compiled for once more"
    with tempfile.TemporaryDirectory() as folder:
        for name, kernel in kernels.values():
            binary = Path(folder, "kernel.cubin")
            binary.write_bytes(kernel.asm["cubin"])
            usage = subprocess.run([DUMP, "-res-usage", binary], capture_output=True, text=True, check=True)
            registers, stack = re.search(r"REG:(\d+) STACK:(\d+)", usage.stdout + usage.stderr).groups()
            print(name, "float64" if ".f64" in kernel.asm["ptx"] and name != "moments" else "float32", registers, stack)


if __name__ == "__main__":
    main()
