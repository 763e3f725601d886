"""Run a script under one of the rivals: ``python rival.py TOOL OUT.json SCRIPT``. Its process has no lsg."""

import json
import runpy
import sys
import traceback
from pathlib import Path

import torch
from torch import nn
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

tool, out, script = sys.argv[1:4]
said: list[str] = []
session: dict = {}


def keep(kind: str) -> None:
    """Note a finding once."""
    if kind not in said:
        said.append(kind)


def of_script() -> nn.Module | None:
    """The largest network among the variables of the frames above."""
    frame = sys._getframe()
    found: list[nn.Module] = []
    while frame is not None:
        found += [value for value in [*frame.f_locals.values(), *frame.f_globals.values()] if isinstance(value, nn.Module)]
        frame = frame.f_back
    found = [module for module in found if next(module.parameters(), None) is not None]
    return max(found, key=lambda module: sum(1 for _ in module.modules()), default=None)


def begin(optimizer: torch.optim.Optimizer) -> None:
    """The lines that the tool's documentation puts before the loop."""
    model = of_script()
    if model is None:
        return
    session["model"] = model
    if tool == "torch-audit":
        from torch_audit import autopatch

        session["auditor"] = autopatch(
            model, optimizer=optimizer, every_n_steps=10, reporters=[], run_static=True, run_init=True
        )
    elif tool == "torchmortem":
        from torchmortem import Autopsy

        session["autopsy"] = Autopsy(model, optimizer=optimizer)
        session["autopsy"].attach()
    elif tool == "neural-observatory":
        from neural_observatory import Observatory

        session["observatory"] = Observatory(model)
        session["observatory"].watch()
    elif tool == "torchdiag":
        import torchdiag

        for values in torchdiag.check_gradients(model).values():
            if values["status"] != "OK":
                keep(values["status"])


def after_step(optimizer: torch.optim.Optimizer, args: tuple, kwargs: dict) -> None:
    """The lines that the documentation puts into the loop."""
    session["steps"] = session.get("steps", 0) + 1
    if session["steps"] == 1:
        begin(optimizer)
    elif "autopsy" in session:
        session["autopsy"].step(loss=session.get("loss", 0.0))
    elif "observatory" in session:
        session["observatory"].step(step=session["steps"], epoch=0)


def backward(self: torch.Tensor, *args, **kwargs) -> None:
    """Note the loss."""
    session["loss"] = float(self.detach().sum())
    return plain_backward(self, *args, **kwargs)


def end() -> None:
    """The lines that the documentation puts after the loop."""
    if "auditor" in session:
        for finding in session["auditor"].finish(report=False).findings:
            if finding.severity.value != "INFO":
                keep(finding.rule_id)
    elif "autopsy" in session:
        session["autopsy"].detach()
        for finding in session["autopsy"].get_report().findings:
            if finding.severity.name != "INFO":
                keep(f"{finding.category}: {finding.title.split(' in ')[0]}")
    elif "observatory" in session:
        for result in session["observatory"].report().results:
            if not result.is_healthy():
                keep(f"{result.analyzer_name}: {result.status.value}")


if tool == "mldoct":
    from mldoctor.linter import lint_script

    for finding in lint_script(script)[0]:
        if finding["severity"] != "INFO":
            keep(finding["type"])
else:
    plain_backward = torch.Tensor.backward
    torch.Tensor.backward = backward
    register = register_optimizer_step_pre_hook if tool == "torchdiag" else register_optimizer_step_post_hook
    register(after_step)
    sys.argv = [script]
    sys.path.insert(0, ".")
    try:
        runpy.run_path(script, run_name="__main__")
    except BaseException:
        traceback.print_exc()
    try:
        end()
    except Exception:
        traceback.print_exc()
Path(out).write_text(json.dumps(said), encoding="utf-8")
