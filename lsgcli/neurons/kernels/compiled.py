"""``compiled``: tdBN, neurons and average pooling as one graph over all timesteps, which ``torch.compile`` turns into kernels.

torch's compiler writes Triton for a CUDA device and C++ for a CPU, from the single-step equations, and derives the backward pass. It compiles
each shape of a layer at first use, which takes seconds, and keeps the code between runs (``TORCHINDUCTOR_CACHE_DIR``, by default ``~/.cache/lsg/inductor``).

Tests compare the C++ with ``reference``. **Not run or timed on a GPU**: at first use on a CUDA device, small layers are compared there.
"""

import atexit
import logging
import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from contextlib import nullcontext
from functools import cache

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from lsgcli.errors import ConfigError, StorageError
from lsgcli.neurons.kernels.base import Backend, NormParameters, is_tracing, normalise, one_by_one
from lsgcli.neurons.kernels.reference import autograd, reference
from lsgcli.neurons.kernels.selftest import compare
from lsgcli.neurons.step import LIFParameters
from lsgcli.registry import register
from lsgcli.system import files

log = logging.getLogger("lsg")
SHAPES = 128  # graphs that a process compiles: of each shape, memory layout and type of a layer, with and without gradients
STEPS = 32  # largest T: the graph contains the operations of every timestep


class Compiled(Backend):
    """Kernels by ``torch.compile``. Where it cannot compile, one warning says so, and the layers run on ``reference``."""

    types = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
    compiles = True

    def __init__(self) -> None:
        self.problems: dict[torch.device, str] = {}  # why a device that was used has no kernels; empty if it has

    def check(self, device: torch.device) -> None:
        if device.type not in ("cpu", "cuda"):
            raise _cannot(f"data on the device {device}", "cpu or cuda")
        compiler = os.environ.get("CXX") or {"darwin": "clang++", "win32": "cl"}.get(sys.platform, "g++")
        if device.type == "cpu" and shutil.which(compiler) is None:
            raise _cannot(f"no compiler {compiler}", "a C++ compiler, that of the environment variable CXX")

    def __call__(self, current: Tensor, p: LIFParameters, overwrite: bool = False) -> Tensor:
        return self.normalise_and_fire(current, None, p)

    def normalise_and_fire(
        self, z: Tensor, norm: NormParameters | None, p: LIFParameters, *, residual: Tensor | None = None, pool: int = 1
    ) -> Tensor:
        if is_tracing(z):
            return autograd.normalise_and_fire(z, norm, p, residual=residual, pool=pool)
        self.check(z.device)
        if norm is not None and norm.gather is not None:  # collectives of several processes stay outside of the graph
            z, norm = normalise(z, norm), None
        if _fits(z, norm, pool) and self.works(z.device):
            os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", _folder())  # before torch's compiler sets it on import
            from torch._dynamo import config, exc

            try:
                # A graph has one momentum, which differs between the first batches.
                batch = nullcontext() if norm is None else norm.of_batch()
                with config.patch(recompile_limit=SHAPES, accumulated_recompile_limit=SHAPES), batch as of_batch:
                    return _graph()(z, of_batch, p, residual, pool)
            except exc.FailOnRecompileLimitHit:
                _warn(f"more than {SHAPES} shapes of layers")
            except exc.TorchDynamoException as error:
                self.give_up(z.device, f"{type(error).__name__}: {error}")
        return reference.normalise_and_fire(z, norm, p, residual=residual, pool=pool)

    def works(self, device: torch.device) -> bool:
        """Whether kernels can be used on a device: at first use on a CUDA device, small layers are compared with ``reference``."""
        if device not in self.problems:
            self.problems[device] = ""
            if device.type == "cuda":
                failures = [result.failure for result in compare("compiled", device) if result.failure]
                if failures and not self.problems[device]:
                    self.give_up(device, failures[0])
        return not self.problems[device]

    def give_up(self, device: torch.device, reason: str) -> None:
        """Use ``reference`` on a device from now on."""
        first_paragraph = reason.partition("\n\n")[0]  # torch's advice to its developers follows
        self.problems[device] = " ".join(first_paragraph.split())[:200]
        _warn(f"{self.problems[device]} on {device}")


def _layer(z: Tensor, norm: NormParameters | None, p: LIFParameters, residual: Tensor | None, pool: int) -> Tensor:
    """A layer in operations of torch, in float32 or higher precision between its input and its output.

    As a checkpoint, because the compiler would otherwise keep the potential of each timestep for the backward pass.
    """

    def run(z: Tensor, residual: Tensor | None) -> Tensor:
        wide = torch.promote_types(z.dtype, torch.float32)
        residual = None if residual is None else residual.to(wide)
        return one_by_one(lambda current: autograd(current, p), z.to(wide), norm, residual, pool).to(z.dtype)

    return checkpoint(run, z, residual, use_reentrant=False, preserve_rng_state=False)  # type: ignore[no-any-return]


@cache
def _graph() -> Callable[..., Tensor]:
    """:func:`_layer`, compiled for each shape; made at first use, because it imports torch's compiler."""
    return torch.compile(_layer, fullgraph=True, dynamic=False)


@cache
def _folder() -> str:
    """Where torch's compiler keeps code, which it loads again whoever wrote it: by default in a folder that anybody can create."""
    folder = files.user_cache() / "inductor"
    try:
        files.make_private(folder)
    except StorageError as error:
        log.warning("%s; compiling kernels in every run; set TORCHINDUCTOR_CACHE_DIR to a folder of your own", error.message)
        own = tempfile.mkdtemp(prefix="lsg-inductor-")
        atexit.register(shutil.rmtree, own, ignore_errors=True)
        return own
    return str(folder)


def _fits(z: Tensor, norm: NormParameters | None, pool: int) -> bool:
    """Whether a layer is compiled; ``reference`` raises the errors of sizes that torch's operations refuse."""
    one_value = norm is not None and norm.training and z.numel() == z.shape[2]
    return z.numel() > 0 and len(z) <= STEPS and not one_value and (pool == 1 or pool <= min(z.shape[3:]))


def _cannot(found: str, expected: str) -> ConfigError:
    return ConfigError(f"backend: found compiled with {found}, expected {expected}", hint="Use --backend auto.")


@cache
def _warn(found: str) -> None:
    """Log one warning in a process."""
    log.warning("backend compiled: found %s; these layers run on reference, which is slower", found)


compiled = register("backend", "compiled")(Compiled())
