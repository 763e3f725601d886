"""Verification of an export: compares spikes and logits with the trained network on real samples.

There are two comparisons, because folding tdBN in single precision changes rounding, and a spike that flips at the threshold changes later
spikes:

1. The folded network with the trained network, in double precision, where rounding does not flip spikes.
2. The export with the folded network, in the export's own precision.

Runtimes sum in different orders, so u may differ in its last digits, and a neuron whose u is that close to the threshold may fire in
only one of them. Such a *tie*, and the differences that follow from it in the same sample, are due to rounding. A spike that differs is

- a tie, if |u - v_th| is at most 64 units in the last place of v_th, in the network in torch;
- after a tie, if a tie occurred earlier in the same sample: in an earlier or the same layer, at an earlier or the same step;
- different otherwise.

Verification fails if any spike is different, or if ties exceed 1 in 100,000 of the spikes compared (a single tie if fewer were compared).
Logits and predictions are compared on samples without ties; predictions that differ in other samples are counted separately. If a
format exposes no spikes, there are no ties, and all logits are compared.
"""

import copy
from collections import Counter
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from lsgcli.data.batches import Batch
from lsgcli.errors import GateError
from lsgcli.export.runners import NetworkRunner, Runner, membrane
from lsgcli.models.base import SpikingNet
from lsgcli.models.fold import fold
from lsgcli.neurons.step import over_channels
from lsgcli.system.schema import Record

LOGIT_TOLERANCE = 1e-5
TIE_ULPS = 64
SPIKES_PER_TIE = 100_000
KINDS = ("spikes_different", "ties", "after_ties")  # kinds of differing spikes
TOTALS = ("samples", "spikes_compared", "samples_with_ties", "predictions_different", "predictions_after_ties")
# The result for no samples, which have no error.
NOTHING = {"samples": 0, "spikes_compared": 0, **dict.fromkeys(KINDS, 0), "max_logit_error": None, "predictions_different": 0}


def verify(trained: SpikingNet, written: SpikingNet, exported: Runner, batches: Iterable[Batch], what: str) -> Record:
    """Run both comparisons.

    Args:
        trained: the network of the checkpoint.
        written: the network that was written: ``trained``, folded or not.
        exported: the export, opened from its file.
        batches: real samples.
        what: name of the exported file, for messages.

    Returns:
        The comparison of ``written`` with ``exported``, see :func:`compare`, and under ``folding`` the comparison of ``trained`` with its
        folded form, in double precision.

    Raises:
        GateError: there are too many ties, or without a tie a spike or prediction differs, or a logit differs by more than 1e-5.
    """
    samples = list(batches)
    double = copy.deepcopy(trained).double()
    folded = NetworkRunner(fold(double), exported.config)
    folding = compare(double, folded, [Batch(batch.x.double(), batch.y, batch.index) for batch in samples])
    _check(folding, f"{what}: folding tdBN in double precision")
    result = compare(written, exported, samples)
    _check(result, what)
    return {**result, "folding": folding}


def compare(network: SpikingNet, found: Runner, batches: Iterable[Batch]) -> Record:
    """Compare a network with a runner on the same batches.

    Returns:
        ``samples``, ``spikes_compared``, ``spikes_different``, ``ties``, ``after_ties``, ``per_layer`` (the last three by layer),
        ``samples_with_ties``, ``max_logit_error``, ``predictions_different``, ``predictions_after_ties``, and the ``accuracy`` of
        ``found``.
    """
    expected = NetworkRunner(network, found.config)
    total = Counter(dict.fromkeys((*TOTALS, *KINDS), 0))
    per_layer: dict[str, Counter[str]] = {}
    right = 0
    errors = [torch.zeros(1)]
    for batch in batches:
        (logits, recorded), theirs = expected.recorded(batch.x), found.run(batch.x)
        counts, tied = _differences(network, len(batch.y), recorded, theirs.spikes)
        for name, layer in counts.items():
            per_layer.setdefault(name, Counter()).update(layer)
            total.update(layer)
        errors.append((logits - theirs.logits).abs().amax((0, 2))[~tied])
        our_class = logits.mean(0).argmax(1)
        their_class = theirs.logits.mean(0).argmax(1)
        total["samples"] += len(batch.y)
        total["spikes_compared"] += sum(spikes.numel() for spikes in theirs.spikes.values())
        total["samples_with_ties"] += int(tied.sum())
        total["predictions_different"] += int((our_class != their_class)[~tied].sum())
        total["predictions_after_ties"] += int((our_class != their_class)[tied].sum())
        right += int((their_class == batch.y).sum())
    return {
        **total,
        "per_layer": per_layer,
        "max_logit_error": float(torch.cat(errors).max()),  # NaN if any is NaN
        "accuracy": right / max(1, total["samples"]),
    }


def _differences(
    network: SpikingNet, samples: int, recorded: Mapping[str, tuple[Tensor, Tensor]], theirs: Mapping[str, Tensor]
) -> tuple[dict[str, dict[str, int]], Tensor]:
    """Number of differing spikes of each layer by kind, and which samples (B,) have ties.

    Args:
        samples: B.
        recorded: current and spikes of each layer of ``network``.
        theirs: spikes of the export.
    """
    differ = {name: recorded[name][1] != spikes for name, spikes in theirs.items()}
    counts = {name: dict.fromkeys(KINDS, 0) for name in differ}
    if not any(bool(spikes.any()) for spikes in differ.values()):
        return counts, torch.zeros(samples, dtype=torch.bool)
    tie_before = torch.zeros((), dtype=torch.bool)  # (T, B): in an earlier layer, at this step or an earlier one
    for layer in (layer for layer in network.spiking_layers() if layer.name in differ):
        flat = differ[layer.name].flatten(2)
        u = membrane(layer.lif, *recorded[layer.name])
        threshold = over_channels(torch.as_tensor(layer.lif.firing()[0], dtype=u.dtype), u.dim() - 3)
        tie = flat & ((u - threshold).abs() <= TIE_ULPS * torch.finfo(u.dtype).eps * threshold.abs()).flatten(2)
        so_far = tie.any(2).cumsum(0) > 0
        earlier = torch.cat([torch.zeros_like(so_far[:1]), so_far[:-1]])
        after = flat & ~tie & (tie_before | earlier).unsqueeze(2)
        counts[layer.name] = dict(zip(KINDS, (int(kind.sum()) for kind in (flat & ~tie & ~after, tie, after)), strict=True))
        tie_before = tie_before | so_far
    return counts, tie_before[-1]


def _check(result: Record, what: str) -> None:
    ties_allowed = max(1, result["spikes_compared"] // SPIKES_PER_TIE)
    good = not result["spikes_different"] and not result["predictions_different"] and result["ties"] <= ties_allowed
    if good and result["max_logit_error"] <= LOGIT_TOLERANCE:
        return
    raise GateError(
        f"{what}: the networks differ: found {described(result)}; expected no differences, at most {ties_allowed} ties, and a logit error of at "
        f"most {LOGIT_TOLERANCE:g}",
        "The export was deleted. Please report this.",
    )


def described(result: Record) -> str:
    """The result of a comparison as a sentence."""
    text = (
        f"{result['spikes_different']} of {result['spikes_compared']} spikes and {result['predictions_different']} of "
        f"{result['samples']} predictions differ, largest logit error {result['max_logit_error']:.3g}"
    )
    if ties := result["ties"]:
        text += (
            f"; {ties} further spike{' differs' if ties == 1 else 's differ'} by rounding at the threshold, and after that "
            f"{result['after_ties']} spikes and {result['predictions_after_ties']} predictions, in {result['samples_with_ties']} of the "
            f"samples"
        )
    return text
