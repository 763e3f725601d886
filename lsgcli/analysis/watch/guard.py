"""Let an observer run inside a script without harm: open this file to observe one thing more.

An observing function never raises into the script, never runs where torch is being compiled, traced or transformed, and does not change gradient
mode, function modes or random numbers.
"""

import functools
import os
import sys
import sysconfig
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy
import torch
from torch.autograd import forward_ad

Function = Callable[..., Any]
PACKAGE = str(Path(__file__).parents[2]) + os.sep  # the folder lsgcli
# Folders of the code that observing functions call, and names of code without a file.
OBSERVING = (
    PACKAGE,
    *(str(Path(str(package.__file__)).parent) + os.sep for package in (torch, numpy)),
    *{sysconfig.get_path(kind) + os.sep for kind in ("stdlib", "platstdlib")},
    "<",
)
_frames = torch._C._dynamo.eval_frame
callback_of_compiler = _frames.get_eval_frame_callback  # called without a frame of Python, which would be compiled


def is_transformed() -> bool:
    """Whether tensors may be no plain ones, or calls are recorded or counted.

    So it is in compilers and tracers, transforms of torch.func, dispatch modes, forward-mode derivatives and profilers.
    """
    return bool(
        torch.compiler.is_compiling()
        or torch._C._is_tracing()
        or torch._C._functorch.peek_interpreter_stack() is not None
        or torch._C._len_torch_dispatch_stack()
        or forward_ad._current_level >= 0
        or torch._C._autograd._profiler_enabled()
    )


class Guard:
    """Calls observing functions where they cannot disturb the script.

    Attributes:
        failed: what could not be observed, and the error; it is not tried again.
        grads: whether the script has gradients enabled, in an observing function.
        applying: number of functions with a gradient of their own that run now.
    """

    def __init__(self) -> None:
        self.thread = threading.get_ident()
        self.process = os.getpid()
        self.failed: dict[str, str] = {}
        self.grads = True
        self.applying = 0
        self._is_busy = False
        self._patches = ExitStack()

    def is_open(self) -> bool:
        """Whether the script's own thread runs forward code that may be observed.

        It does not inside of observing functions, of functions with a gradient of their own, and of backward passes, in which checkpoints compute
        activations again.
        """
        return (
            not (self._is_busy or self.applying)
            and threading.get_ident() == self.thread
            and os.getpid() == self.process
            and torch._C._current_graph_task_id() == -1
            and not is_transformed()
        )

    @contextmanager
    def unseen(self) -> Iterator[None]:
        """Context for code of an observer: without gradients, function modes and observation."""
        before = self._is_busy, self.grads
        grads = torch.is_grad_enabled()
        with torch._C.DisableTorchFunction():
            self._is_busy, self.grads = True, grads
            torch._C._set_grad_enabled(False)
            try:
                yield
            finally:
                torch._C._set_grad_enabled(grads)
                self._is_busy, self.grads = before

    def observe(self, what: str, function: Function, *arguments: Any) -> None:
        """Call an observing function. An error of it is kept under ``what``, which is not observed again."""
        if what in self.failed:
            return
        try:
            with self.unseen():
                function(*arguments)
        except Exception as error:
            if _is_of_script(error):
                raise
            self.failed[what] = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"

    def hook(self, what: str, function: Function, *given: Any) -> Function:
        """A hook of a node of autograd's graph that calls an observing function after ``given`` ones with what torch gives the hook."""

        def observe_gradient(*arguments: Any) -> None:
            if not (self._is_busy or is_transformed()):
                self.observe(what, function, *given, *arguments)

        return observe_gradient

    def patch(
        self, owner: Any, name: str, *, before: Function | None = None, after: Function | None = None, counts: bool = False
    ) -> None:
        """Observe the calls of a function or method for which torch has no hook.

        The replacement has the original's name, module and signature, and can be pickled by its name.

        Args:
            owner: class or module that has it.
            name: of the attribute.
            before: called with the positional arguments, before the original.
            after: called with the result and the positional arguments.
            counts: whether nothing is observed inside of the original.
        """
        stored = vars(owner).get(name)
        original = stored.__func__ if isinstance(stored, classmethod) else getattr(owner, name)

        def patched(*arguments: Any, **options: Any) -> Any:
            # Compilers read these lines alone, and compile each function that would be called here.
            if torch.compiler.is_compiling() or callback_of_compiler() is not None:
                return original(*arguments, **options)
            try:
                if not self.is_open():
                    return original(*arguments, **options)
                if before is not None:
                    self.observe(name, before, *arguments)
                self.applying += counts
                try:
                    value = original(*arguments, **options)
                finally:
                    self.applying -= counts
                if after is not None:
                    self.observe(name, after, value, *arguments)
                return value
            except BaseException as error:
                leave_out_frames(error)
                raise

        self.replace(owner, name, original, patched)

    def replace(self, owner: Any, name: str, original: Function, patched: Function) -> None:
        """Replace a function or method until :meth:`close`, under its name, by one that calls it."""
        stored = vars(owner).get(name)
        functools.update_wrapper(patched, original)
        skips = _frames._FrameExecStrategy(_frames._FrameAction.SKIP, _frames._FrameAction.DEFAULT)
        _frames.set_code_exec_strategy(patched.__code__, skips)  # torch.compile begins with the functions behind it
        setattr(owner, name, classmethod(patched) if isinstance(stored, classmethod) else patched)
        if stored is None:
            self._patches.callback(delattr, owner, name)
        else:
            self._patches.callback(setattr, owner, name, stored)
        _keep_scriptable(original, patched, self._patches)

    def enter(self, handle: Any) -> None:
        """Keep a context, such as the handle of a hook, until :meth:`close`."""
        self._patches.enter_context(handle)

    def close(self) -> None:
        """Remove all patches and hooks."""
        self._patches.close()


def _keep_scriptable(original: Function, patched: Function, patches: ExitStack) -> None:
    """Let torch.jit.script take a patched function of torch for the operator that it calls."""
    operators = torch.jit._builtins._get_builtin_table()  # type: ignore[attr-defined]
    if id(original) in operators:
        operators[id(patched)] = operators[id(original)]
        patches.callback(operators.pop, id(patched), None)


def leave_out_frames(error: BaseException) -> None:
    """Leave the frames of observing code that handle an error out of its traceback."""
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename.startswith(PACKAGE):
        trace = trace.tb_next
    error.__traceback__ = trace


def _is_of_script(error: BaseException) -> bool:
    """Whether a handler of signals has raised an error while something was observed: no other code of the script runs there."""
    trace = error.__traceback__
    while trace is not None:
        if not trace.tb_frame.f_code.co_filename.startswith(OBSERVING):
            return True
        trace = trace.tb_next
    return False


def frame_outside() -> Any:
    """The innermost frame of the stack whose code is not of lsg."""
    frame: Any = sys._getframe(1)
    while frame is not None and frame.f_code.co_filename.startswith(PACKAGE):
        frame = frame.f_back
    return frame
