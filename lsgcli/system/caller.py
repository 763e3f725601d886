"""Restores the state of the process after a function of ``import lsgcli as lsg``, so that calling it has no side effects."""

import contextlib
import functools
import inspect
import os
import random
import warnings
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import numpy as np
import torch

from lsgcli.system import cpus, interpreter

P = ParamSpec("P")
R = TypeVar("R")
END: Any = object()  # of a generator


def undisturbed(function: Callable[P, R]) -> Callable[P, R]:
    """Decorator of a function or generator function, after which the state of the process, see :func:`captured`, is as before.

    Between the items of a generator the process has the state of the caller; the generator resumes with its own.
    """

    @functools.wraps(function)
    def run(*arguments: P.args, **named: P.kwargs) -> R:
        restore = captured()
        try:
            _begin()
            return function(*arguments, **named)
        finally:
            restore()

    @functools.wraps(function)
    def generate(*arguments: P.args, **named: P.kwargs) -> Any:
        resume = _begin
        with contextlib.closing(function(*arguments, **named)) as items:  # type: ignore[type-var]
            while True:
                restore = captured()
                try:
                    resume()
                    item = next(items, END)  # type: ignore[call-overload]
                    resume = captured()
                finally:
                    restore()
                if item is END:
                    return
                yield item

    return generate if inspect.isgeneratorfunction(function) else run


def _begin() -> None:
    cpus.wait_passively()
    interpreter.protect_children()


def captured() -> Callable[[], None]:
    """A function that restores the current state of the process: the random number generators of torch, numpy and Python, threads and
    determinism of torch, environment variables and warning filters."""
    python = random.getstate()
    legacy = np.random.get_state()
    cpu = torch.get_rng_state()
    seed = torch.initial_seed()
    gpus = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else None
    threads = torch.get_num_threads()
    environment = dict(os.environ)
    strict = torch.are_deterministic_algorithms_enabled()
    warns = torch.is_deterministic_algorithms_warn_only_enabled()
    filters = warnings.catch_warnings()
    filters.__enter__()

    def restore() -> None:
        filters.__exit__(None, None, None)
        random.setstate(python)
        np.random.set_state(legacy)
        if gpus is not None:
            torch.cuda.set_rng_state_all(gpus)
        elif torch.cuda.is_available():
            torch.cuda.manual_seed_all(seed)  # with which a GPU is initialised
        torch.set_rng_state(cpu)
        torch.set_num_threads(threads)
        if torch.are_deterministic_algorithms_enabled() != strict:  # setting it imports torch's compiler
            torch.use_deterministic_algorithms(strict, warn_only=warns)
        for name in os.environ.keys() - environment.keys():
            del os.environ[name]
        os.environ.update(environment)

    return restore
