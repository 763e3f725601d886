"""Restores the state of the process after a function of ``import lsgcli as lsg``, so that calling it has no side effects."""

import functools
import inspect
import logging
import os
import random
import signal
import threading
import warnings
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import numpy as np
import torch

from lsgcli.system import cpus, interpreter

P = ParamSpec("P")
R = TypeVar("R")
SIGNALS = (signal.SIGINT, signal.SIGTERM, *(getattr(signal, name) for name in ("SIGHUP", "SIGUSR1") if hasattr(signal, name)))
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
        items: Any = function(*arguments, **named)
        resume: Callable[[], None] = _begin
        try:
            while True:
                restore = captured()
                try:
                    resume()
                    item = next(items, END)
                    resume = captured()
                finally:
                    restore()
                if item is END:
                    return
                yield item
        finally:
            items.close()

    return generate if inspect.isgeneratorfunction(function) else run


def _begin() -> None:
    cpus.wait_passively()
    interpreter.protect_children()


def captured() -> Callable[[], None]:
    """A function that restores the current state of the process.

    The state includes the random number generators of torch, numpy and Python; threads, determinism and default dtype of torch;
    environment variables; warning filters; levels and handlers of loggers; signal handlers.
    """
    python, legacy, cpu, seed = random.getstate(), np.random.get_state(), torch.get_rng_state(), torch.initial_seed()
    gpus = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else None
    threads, default = torch.get_num_threads(), torch.get_default_dtype()
    strict, warns = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    environment = dict(os.environ)
    known = [logging.root, *(one for one in logging.root.manager.loggerDict.values() if isinstance(one, logging.Logger))]
    loggers = [(one, one.level, one.propagate, one.disabled, one.handlers[:]) for one in known]
    # Only the main thread can set signal handlers.
    handled = SIGNALS if threading.current_thread() is threading.main_thread() else ()
    handlers = {number: signal.getsignal(number) for number in handled}
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
        torch.set_default_dtype(default)
        if torch.are_deterministic_algorithms_enabled() != strict:  # setting it imports torch's compiler
            torch.use_deterministic_algorithms(strict, warn_only=warns)
        for name in os.environ.keys() - environment.keys():
            del os.environ[name]
        os.environ.update(environment)
        for logger, level, propagate, disabled, own in loggers:
            if logger.level != level:
                logger.setLevel(level)
            logger.propagate, logger.disabled, logger.handlers[:] = propagate, disabled, own
        for number, handler in handlers.items():
            if handler is not None and signal.getsignal(number) is not handler:
                signal.signal(number, handler)

    return restore
