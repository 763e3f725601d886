"""Restores the state of the process after a function of ``import lsgcli as lsg``, so that calling it has no side effects."""

import functools
import inspect
import logging
import os
import random
import signal
import threading
import warnings
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from typing import Any, ParamSpec, TypeVar

import numpy as np
import torch

from lsgcli.system import cpus, interpreter

P = ParamSpec("P")
R = TypeVar("R")
SIGNALS = (signal.SIGINT, signal.SIGTERM, *(getattr(signal, name) for name in ("SIGHUP", "SIGUSR1") if hasattr(signal, name)))


def undisturbed(function: Callable[P, R]) -> Callable[P, R]:
    """Decorator of a function or generator function, after which the state of the process, see :func:`captured`, is as before."""

    @functools.wraps(function)
    def run(*arguments: P.args, **named: P.kwargs) -> R:
        with restoring():
            _begin()
            return function(*arguments, **named)

    @functools.wraps(function)
    def generate(*arguments: P.args, **named: P.kwargs) -> Any:
        return _continued(function(*arguments, **named))  # type: ignore[arg-type]

    return generate if inspect.isgeneratorfunction(function) else run


def _begin() -> None:
    cpus.wait_passively()
    interpreter.protect_children()


def _continued(items: Generator[Any]) -> Generator[Any]:
    """The items of a generator. Between items the process has the state of the caller; the generator resumes with its own."""
    own: Callable[..., None] = _begin
    try:
        while True:
            with restoring():
                own()
                try:
                    item = next(items)
                except StopIteration:
                    return
                own = captured()
            yield item
    finally:
        items.close()


@contextmanager
def restoring() -> Iterator[None]:
    """Context after which the process is as before."""
    restore = captured()
    try:
        yield
    finally:
        restore()


def captured() -> Callable[[], None]:
    """A function that restores the current state of the process.

    The state includes the random number generators of torch, numpy and Python; threads, determinism and default dtype of torch;
    environment variables; warning filters; levels and handlers of loggers; signal handlers.
    """
    parts = (_random, _torch, _environment, _warnings, _logging, _signals)
    restores = [capture() for capture in parts]

    def restore() -> None:
        for restore_part in restores:
            restore_part()

    return restore


def _random() -> Callable[[], None]:
    python, legacy, cpu, seed = random.getstate(), np.random.get_state(), torch.get_rng_state(), torch.initial_seed()
    gpus = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else None

    def restore() -> None:
        random.setstate(python)
        np.random.set_state(legacy)
        if gpus is not None:
            torch.cuda.set_rng_state_all(gpus)
        elif torch.cuda.is_available():
            torch.cuda.manual_seed_all(seed)  # with which a GPU is initialised
        torch.set_rng_state(cpu)

    return restore


def _torch() -> Callable[[], None]:
    threads, default = torch.get_num_threads(), torch.get_default_dtype()
    strict, warns = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()

    def restore() -> None:
        torch.set_num_threads(threads)
        torch.set_default_dtype(default)
        if torch.are_deterministic_algorithms_enabled() != strict:  # setting it imports torch's compiler
            torch.use_deterministic_algorithms(strict, warn_only=warns)

    return restore


def _environment() -> Callable[[], None]:
    before = dict(os.environ)

    def restore() -> None:
        for name in os.environ.keys() - before.keys():
            del os.environ[name]
        os.environ.update(before)

    return restore


def _warnings() -> Callable[[], None]:
    context = warnings.catch_warnings()
    context.__enter__()
    return lambda: context.__exit__(None, None, None)


def _logging() -> Callable[[], None]:
    loggers = [
        logging.root,
        *(logger for logger in logging.root.manager.loggerDict.values() if isinstance(logger, logging.Logger)),
    ]
    before = [(logger, logger.level, logger.propagate, logger.disabled, logger.handlers[:]) for logger in loggers]

    def restore() -> None:
        for logger, level, propagate, disabled, handlers in before:
            if logger.level != level:
                logger.setLevel(level)
            logger.propagate, logger.disabled, logger.handlers[:] = propagate, disabled, handlers

    return restore


def _signals() -> Callable[[], None]:
    if threading.current_thread() is not threading.main_thread():
        return lambda: None  # only the main thread can set signal handlers
    before = {number: signal.getsignal(number) for number in SIGNALS}

    def restore() -> None:
        for number, handler in before.items():
            if handler is not None and signal.getsignal(number) is not handler:
                signal.signal(number, handler)

    return restore
