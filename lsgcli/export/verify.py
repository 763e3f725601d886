"""Is what was exported the same network? Compared spike for spike, logit for logit, on real samples.

Two questions, since folding tdBN rounds in single precision, and one spike at the threshold that flips changes others after it:

1. Is the folded network the trained one? Asked in double precision, where rounding does not flip spikes.
2. Is the exported file the folded network? Asked in the precision that it is used in.

Programs sum in different orders, so u may differ in its last digits, and a neuron whose u lies that close to the threshold may
fire here and not there. Such a *tie* is a difference of rounding, not of the networks; so are the differences it makes later in
the same sample. What is counted as what, of the spikes that differ:

- a tie: |u - v_th| is at most 64 units in the last place of v_th, in the network in torch;
- after a tie: a tie came before it in the same sample, in an earlier or the same layer at an earlier or the same step;
- different: every other.

None may be different, and ties may be 1 in 100,000 of the spikes compared (or a single one, where fewer were compared). Logits and
predictions are compared of samples without ties; predictions that differ in the others are counted apart, as after a tie. Where a
format does not show spikes, there are no ties, and every logit counts.
"""

import copy
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from lsgcli.data.batches import Batch
from lsgcli.errors import GateError
from lsgcli.export import Runner
from lsgcli.export.network import NetworkRunner
from lsgcli.models.base import SpikingNet
from lsgcli.models.fold import fold

LOGIT_TOLERANCE = 1e-5
TIE_ULPS = 64
SPIKES_PER_TIE = 100_000
KINDS = ("spikes_different", "ties", "after_ties")  # of spikes that differ
# A comparison of no samples.
NOTHING = {"samples": 0, "spikes_compared": 0, **dict.fromkeys(KINDS, 0), "max_logit_error": 0.0, "predictions_different": 0}


def verify(trained: SpikingNet, written: SpikingNet, exported: Runner, batches: Iterable[Batch], what: str) -> dict[str, Any]:
    """Ask both questions.

    Args:
        trained: the network of the checkpoint.
        written: what was written: ``trained``, folded or as it is.
        exported: opened from what was written.
        batches: real samples.
        what: name of the exported file.

    Returns:
        The comparison of ``written`` with ``exported``, see :func:`compare`, and under ``folding`` that of ``trained`` with its
        folded form, both in double precision.

    Raises:
        GateError: too many ties, or without one a spike or a prediction differs, or a logit by more than 1e-5.
    """
    seen = list(batches)
    double = copy.deepcopy(trained).double()
    folded = NetworkRunner(fold(double), exported.config)
    folding = compare(double, folded, [Batch(batch.x.double(), batch.y, batch.index) for batch in seen])
    _check(folding, f"{what}: folding tdBN in double precision")
    result = compare(written, exported, seen)
    _check(result, what)
    return {**result, "folding": folding}


def compare(network: SpikingNet, found: Runner, batches: Iterable[Batch]) -> dict[str, Any]:
    """Run both on the same batches.

    Returns:
        ``samples``, ``spikes_compared``, ``spikes_different``, ``ties``, ``after_ties``, ``per_layer`` (the last three by layer),
        ``samples_with_ties``, ``max_logit_error``, ``predictions_different``, ``predictions_after_ties``, and the ``accuracy`` of
        ``found``.
    """
    expected = NetworkRunner(network, found.config)
    per_layer: dict[str, dict[str, int]] = {}
    samples = compared = tied = right = 0
    predictions, after_ties = 0, 0  # that differ
    errors: list[Tensor] = []
    for batch in batches:
        ours, theirs = expected.run(batch.x), found.run(batch.x)
        counts, flipped = _differences(expected, batch.x, ours.spikes, theirs.spikes)
        for name, layer in counts.items():
            total = per_layer.setdefault(name, dict.fromkeys(layer, 0))
            for key, count in layer.items():
                total[key] += count
        compared += sum(spikes.numel() for spikes in theirs.spikes.values())
        samples, tied = samples + len(batch.y), tied + int(flipped.sum())
        errors.append((ours.logits - theirs.logits).abs().amax((0, 2))[~flipped])
        one, other = (logits.mean(0).argmax(1) for logits in (ours.logits, theirs.logits))
        predictions += int((one != other)[~flipped].sum())
        after_ties += int((one != other)[flipped].sum())
        right += int((other == batch.y).sum())
    return {
        "samples": samples,
        "spikes_compared": compared,
        **{key: sum(layer[key] for layer in per_layer.values()) for key in KINDS},
        "per_layer": per_layer,
        "samples_with_ties": tied,
        "max_logit_error": float(torch.cat([*errors, torch.zeros(1)]).max()),  # NaN, if any is
        "predictions_different": predictions,
        "predictions_after_ties": after_ties,
        "accuracy": right / max(1, samples),
    }


def _differences(
    expected: NetworkRunner, x: Tensor, ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor]
) -> tuple[dict[str, dict[str, int]], Tensor]:
    """How many spikes of each layer differ, by kind; and which samples (B,) have ties."""
    differ = {name: ours[name] != spikes for name, spikes in theirs.items()}
    batch = x.shape[0 if expected.static else 1]
    if not any(bool(spikes.any()) for spikes in differ.values()):
        return {name: dict.fromkeys(KINDS, 0) for name in differ}, torch.zeros(batch, dtype=torch.bool)
    membranes = expected.membranes(x)
    counts = {}
    tie_before = torch.zeros((), dtype=torch.bool)  # (T, B): in an earlier layer, at this step or an earlier one
    for layer in expected.network.spiking_layers():
        if layer.name not in differ:
            continue
        flat = differ[layer.name].flatten(2)
        distance = (membranes[layer.name] - layer.lif.threshold).abs().flatten(2)
        tie = flat & (distance <= TIE_ULPS * torch.finfo(distance.dtype).eps * layer.lif.threshold)
        so_far = tie.any(2).cumsum(0) > 0
        earlier = torch.cat([torch.zeros_like(so_far[:1]), so_far[:-1]])
        after = flat & ~tie & (tie_before | earlier).unsqueeze(2)
        numbers = (int(flat.sum()) - int(tie.sum()) - int(after.sum()), int(tie.sum()), int(after.sum()))
        counts[layer.name] = dict(zip(KINDS, numbers, strict=True))
        tie_before = tie_before | so_far
    return counts, tie_before[-1]


def _check(result: Mapping[str, Any], what: str) -> None:
    ties_allowed = max(1, result["spikes_compared"] // SPIKES_PER_TIE)
    good = not result["spikes_different"] and not result["predictions_different"] and result["ties"] <= ties_allowed
    if good and result["max_logit_error"] <= LOGIT_TOLERANCE:
        return
    raise GateError(
        f"{what}: not the same network: {described(result)} (expected none different, at most {ties_allowed} ties, and an "
        f"error of at most {LOGIT_TOLERANCE:g})",
        hint="The file was not kept. Please report this.",
    )


def described(result: Mapping[str, Any]) -> str:
    """A comparison in words."""
    text = (
        f"{result['spikes_different']} of {result['spikes_compared']} spikes and {result['predictions_different']} of "
        f"{result['samples']} predictions differ, largest logit error {result['max_logit_error']:.3g}"
    )
    if result["ties"]:
        text += (
            f"; besides, {result['ties']} spikes at the threshold within rounding, after which {result['after_ties']} others and "
            f"{result['predictions_after_ties']} predictions differ, in {result['samples_with_ties']} of the samples"
        )
    return text
