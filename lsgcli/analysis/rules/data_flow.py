"""Rules on what goes into and comes out of a watched network: inputs, labels, outputs, modes and states."""

import math
import statistics
from typing import TYPE_CHECKING

from lsgcli.analysis.rules.base import Found, MaybeFound, ScriptRule, few, reset_of, rewritten, rounded
from lsgcli.registry import register

if TYPE_CHECKING:
    from lsgcli.analysis.watch.seen import Seen

CLEAR, UNCLEAR = 5.0, 2.5  # standard deviations by which neighbours share labels, or do not
TIME_FIRST = {"spikingjelly", "norse", "lsgcli"}  # libraries whose layers expect (T, B, ...)


@register("rule", "input-constant")
class InputConstant(
    ScriptRule,
    measure="input",
    usual="different samples",
    limit=1e-4,
    least="error",
    at="network",
):
    """The network's input does not vary: it is constant, or the same for all samples, or the same spikes at each timestep."""

    def in_script(self, seen: "Seen", limit: float) -> MaybeFound:
        known = seen.input
        if not known:
            return None
        found = ""
        advice = ""
        if known["std"] == 0:
            found = "constant"
            advice = "Remove the scale, or the conversion to integers, that makes all values of the input equal."
        elif known["differences"] < limit * known["std"]:
            found = "equal samples"
            advice = "Give each sample of the batch its own data: one is repeated, as of an index that does not change, or a buffer that is not copied."
        elif seen.same_input > 1:
            found = "equal steps"
            advice = "Reset the encoder before each batch, or take the next batch: the same input comes with other labels."
        elif known["repeated"] and not seen.learned:
            found = "equal timesteps"
            advice = "Give each timestep its own input, x[t], or encode it again inside the loop, from values between 0 and 1."
        return Found(found, advice=advice) if found else None


@register("rule", "state-kept")
class StateKept(
    ScriptRule,
    measure="state at the start of a batch",
    usual="at rest",
    source="spikingjelly, issues 318 and 594",
):
    """Neurons start a batch with the state that the batch before left, so that outputs depend on the order of the batches."""

    def in_script(self, seen: "Seen", limit: float) -> MaybeFound:
        if kept := tuple(layer.name for layer in seen.layers.values() if layer.kept):
            return Found("not at rest", kept, advice=reset_of(seen))
        if not seen.kept:
            return None
        first = next(iter(seen.kept.values()))
        return Found("not at rest in evaluation", tuple(seen.kept), where=first, advice=reset_of(seen))


@register("rule", "state-lost")
class StateLost(
    ScriptRule,
    measure="timesteps that begin at rest",
    usual="the first",
    limit=2.0,
    advice="Reset or initialise the state once, before the loop over timesteps, and give each step the state that the step before returned.",
):
    """Neurons begin each timestep at rest, or with a detached state: nothing is integrated, or no gradient reaches the timesteps before."""

    def in_script(self, seen: "Seen", limit: float) -> MaybeFound:
        lost = [layer for layer in seen.layers.values() if layer.rested >= limit and layer.rested == layer.calls - 1]
        # Potentials that are all equal, up to rounding, have received nothing that could be lost.
        lost = [layer for layer in lost if layer.m * layer.u_squared - layer.u**2 > 1e-9 * layer.u**2]
        if lost:
            return Found(lost[0].rested + 1, tuple(layer.name for layer in lost))
        known = [layer for layer in seen.layers.values() if len(layer.nodes) > 2 or not math.isnan(layer.memory)]
        if not known or any(layer.memory != 0 for layer in known):  # NaN: it is not known
            return None
        carry = "Remove detach() and .data of states within the loop over timesteps, and give each timestep the state that the one before returned."
        derivative = "derivative of potentials by those of the timestep before"
        return Found(0.0, tuple(layer.name for layer in known), derivative, advice=carry)


@register("rule", "steps-without-gradient")
class StepsWithoutGradient(
    ScriptRule,
    measure="timesteps with a gradient",
    usual="all",
    limit=1e-4,
    severity="warning",
    least="warning",
):
    """The loss reads early timesteps alone, or late ones of neurons that forget too fast: the others have no gradient."""

    fewest = 8  # timesteps

    def in_script(self, seen: "Seen", limit: float) -> MaybeFound:
        layer = next((layer for layer in seen.layers.values() if any(layer.arriving.values())), None)
        if layer is None or layer.calls < self.fewest or not layer.memory > 0:  # calls that are no timesteps, or not connected
            return None
        # What arrives at potentials: at their spikes, and through the decay at those of the next timestep.
        arrives = 0.0
        sizes = []
        for call in reversed(range(layer.calls)):
            arrives = math.sqrt(layer.arriving.get(call, 0.0)) + layer.memory * arrives
            sizes.append(arrives)
        share = f"{sum(size > limit * max(sizes) for size in sizes)} of {layer.calls}"
        if sizes[layer.calls // 4] == 0 and seen.skill < 0.9:
            index = "Give the loss all timesteps, or the last one: check the index of the timestep, and which outputs are kept."
            return Found(share, (layer.name,), where=seen.lines.get("loss"), advice=index)
        forgotten = sizes[layer.calls // 2] <= limit * max(sizes) and seen.repetition < 0.5  # and not told again later
        if not (forgotten and seen.skill < 0.65):
            return None
        forgets = min((known for known in seen.layers.values() if known.memory > 0), key=lambda known: known.memory)
        half = 0.5 ** (2 / layer.calls)  # what is left of a potential after half of the timesteps: a half
        slower = rewritten(forgets.where, "beta", forgets.memory, half)
        advice = f"Let potentials decay more slowly, by a factor per timestep of {slower}."
        return Found(share, (forgets.name,), advice=advice, where=forgets.where, edits=(slower,))


@register("rule", "batch-as-time")
class BatchAsTime(
    ScriptRule,
    measure="timesteps",
    usual="other than the batch size",
    at="network",
    source="spikingjelly, issue 594",
    advice="Exchange the axes (x.transpose(0, 1)): lsg, spikingjelly and norse expect (T, B, ...), sinabs (B, T, ...). Or loop over the axis of time.",
):
    """The network takes the axis of the samples for that of time, or all timesteps as further samples."""

    def in_script(self, seen: "Seen", limit: float) -> MaybeFound:
        mixed = []
        stepless = []
        first = {} if seen.progresses else seen.separability("first")
        clear = {layout for layout, z in first.items() if z > CLEAR}
        time_first = any(layer.library in TIME_FIRST for layer in seen.layers.values())
        taken = "rows" if "calls" in first else "second" if time_first else "none"
        if clear - {taken} and first.get(taken, CLEAR) < UNCLEAR:
            return Found(", ".join(sorted(clear)), measure="axis of the samples")
        for layer in seen.layers.values():
            other = seen.batch > 1 and layer.shape and layer.shape[0] != seen.batch
            if other and layer.calls == seen.batch:
                mixed.append(layer.name)
            elif other and layer.calls == 1 and layer.shape[1:2] == (seen.batch,) and layer.library:
                stepless.append(layer.name)
        if mixed:
            return Found(seen.batch, tuple(mixed))
        step = "Step the neurons along (T, B, ...): call functional.set_step_mode(net, 'm') of spikingjelly, or net(x[t]) in a loop over timesteps."
        return Found(1, tuple(stepless), "steps of neurons", advice=step) if stepless else None


@register("rule", "softmax-before-loss")
class SoftmaxBeforeLoss(
    ScriptRule,
    measure="outputs",
    usual="logits",
    limit=1e-3,
    least="warning",
    at="loss",
    source="DeepFD; torch.nn.CrossEntropyLoss",
    advice="Remove the softmax or sigmoid: give the loss logits, such as membrane potentials or the outputs of a linear layer.",
):
    """The loss applies a (log) softmax or sigmoid itself, but is given outputs that already are probabilities, which flattens its gradient."""

    def in_script(self, seen: "Seen", limit: float) -> MaybeFound:
        if seen.softmax:
            classes = "Give the softmax the axis of the classes (dim=-1), or remove it: the loss has its own."
            return Found(seen.softmax, advice="" if seen.softmax == "classes" else classes)
        if (outputs := seen.outputs) is None:
            return None
        values = outputs.values.float() / outputs.calls
        low = float(values.min())
        high = float(values.max())
        if outputs.loss == "nll_loss":
            logarithms = high <= limit and (outputs.calls > 1 or float(values.logsumexp(1).abs().max()) < 0.01)
            logarithms |= low >= 0 and float((-values).logsumexp(1).abs().max()) < 0.01  # the sign is wrong, not the scale
            instead = "Use cross_entropy (nn.CrossEntropyLoss) instead of nll_loss: it applies log_softmax itself."
            return None if logarithms else Found("not log-probabilities", advice=instead)
        if outputs.loss not in ("cross_entropy", "binary_cross_entropy_with_logits") or low < 0:
            return None
        if float((values - values[:1]).abs().max()) < limit:  # all samples have the same outputs
            return None
        between = ((values > 0) & (values < 1)).float().mean()  # of spikes and their rates, many are 0
        return Found("between 0 and 1") if 0 < high <= 1 and float(between) > 0.99 else None


@register("rule", "broadcast")
class Broadcast(
    ScriptRule,
    measure="shapes of outputs and targets",
    usual="equal",
    least="warning",
    at="loss",
    source="DeepFD; torch.nn.MSELoss",
    advice="Give the loss equal shapes: loss(outputs, targets.view_as(outputs)).",
):
    """The loss repeats outputs or targets, whose shapes differ: each output is compared with the targets of other samples."""

    def in_script(self, seen: "Seen", limit: float) -> MaybeFound:
        return None if seen.shapes is None else Found(" and ".join(str(tuple(shape)) for shape in seen.shapes))


@register("rule", "target-scale")
class TargetScale(
    ScriptRule,
    measure="largest target",
    usual="about 1",
    limit=20.0,
    at="loss",
):
    """The targets are far larger than the network's outputs can be, or negative where these cannot be, and the network does not reach them."""

    def in_script(self, seen: "Seen", limit: float) -> MaybeFound:
        outputs = seen.outputs
        if outputs is None or outputs.targets is None or seen.progresses:
            return None
        values = outputs.values / outputs.calls
        targets = outputs.targets
        ratio = float(targets.abs().max())
        largest = float(values.abs().max())
        if ratio > max(limit, 3 * largest):
            return Found(ratio, advice=f"Divide the targets by {rounded(ratio)}, and multiply predictions by it.")
        outside = (targets < 0) | ((targets > 1) & (largest <= 1))
        share = float(outside.float().mean()) if float(values.min()) == 0 else 0.0  # as of spikes and a ReLU
        free = "Give the loss the potentials of the last neurons, or the outputs of the layer before them: spikes and a ReLU are never negative."
        return Found(share, measure="share of targets that no output reaches", advice=free) if share > 0.1 else None


@register("rule", "same-batch")
class SameBatch(
    ScriptRule,
    measure="measured steps with the labels of the step before",
    usual="0",
    limit=3.0,
    least="warning",
    at="loss",
    advice="Take the next batch of the data loader at each step: it is read once, outside of the loop, or its index does not change.",
):
    """The network is trained with one batch again and again, and does not do as well on other samples."""

    def in_script(self, seen: "Seen", limit: float) -> MaybeFound:
        few = not seen.evaluated and 8 <= seen.batch <= 64 and seen.classes > 1  # one batch as the whole data set is larger
        always = seen.repeated >= max(limit, len(seen.clipped) - 1)  # not only in the steps of one batch
        return Found(seen.repeated) if always and (few or seen.gap > 0.15) else None


@register("rule", "equal-outputs")
class EqualOutputs(
    ScriptRule,
    measure="largest difference between the outputs of samples",
    usual="similar to the outputs",
    limit=1e-6,
    at="loss",
    advice="Average over timesteps, not over the batch, and check what lies between the input and the outputs.",
):
    """The outputs are the same for all samples, or 0 for most, whatever their input: the batch axis is averaged, the input does not reach them, or a ReLU stands before the loss."""

    def in_script(self, seen: "Seen", limit: float) -> MaybeFound:
        outputs = seen.outputs
        if outputs is None or len(outputs.values) < 2:
            return None
        values = outputs.values.flatten(1)
        difference = float((values - values[0]).abs().max())
        largest = float(values.abs().max())
        if difference < limit * largest:
            return Found(difference)
        zeros = float((values == 0).all(1).float().mean())
        raw = "Give the loss what the last ReLU or neurons receive, the outputs of the layer before them, averaged over timesteps."
        return Found(zeros, (), "share of samples whose outputs are all 0", advice=raw) if zeros > 0.5 else None


@register("rule", "saturated-outputs")
class SaturatedOutputs(
    ScriptRule,
    measure="largest minus smallest output of a sample",
    usual="below 20",
    limit=60.0,
    at="loss",
):
    """The outputs are so large that the softmax is 0 or 1."""

    def in_script(self, seen: "Seen", limit: float) -> MaybeFound:
        outputs = seen.outputs
        if outputs is None or outputs.loss != "cross_entropy":
            return None
        values = outputs.values / outputs.calls
        lowest = values.where(values > -math.inf, math.inf).amin(1)  # without masked classes
        spread = float((values.amax(1) - lowest).median())
        less = f"Divide the outputs by {rounded(spread / 5)}, or average over timesteps instead of summing."
        return Found(spread, advice=less) if spread > limit else None


@register("rule", "classes")
class Classes(
    ScriptRule,
    measure="share of the most frequent label",
    usual="1 / classes",
    limit=0.5,
    severity="warning",
    least="warning",
    at="loss",
    advice="Shuffle the training data (shuffle=True), check how labels are read, and weight the classes in the loss.",
):
    """The labels of a batch, or of all of them, are nearly all of one class, or classes are missing in the training data."""

    def in_script(self, seen: "Seen", limit: float) -> MaybeFound:
        if seen.classes < 2 or seen.labels.total() < 4 * seen.classes:
            return None
        missing = sorted(set(range(seen.classes)) - set(seen.labels))
        if missing and seen.labels.total() > 20 * seen.classes:
            return Found(few([str(label) for label in missing]), measure="classes without a sample")
        several = seen.largest_class and statistics.median(seen.largest_class) < 1  # classes in a batch
        if several and seen.skill > 0.8:  # the network also recognises the rare ones
            return None
        share = max(seen.labels.values()) / seen.labels.total()
        if seen.batch >= 8:
            share = max(share, statistics.mean(seen.largest_class))
        return Found(share) if share > limit + (1 - limit) / seen.classes else None


@register("rule", "evaluation-mode")
class EvaluationMode(
    ScriptRule,
    measure="modules in evaluation mode in training",
    usual="none",
    least="warning",
    at="network",
    source="TrainCheck (OSDI 2025)",
    advice="Call net.train() before each epoch of training.",
):
    """Normalisation or dropout is in evaluation mode while the network trains: train() was not called again after eval()."""

    def in_script(self, seen: "Seen", limit: float) -> MaybeFound:
        return Found(few(list(seen.evaluating))) if seen.evaluating else None


@register("rule", "dropout")
class Dropout(
    ScriptRule,
    measure="p",
    usual="0 to 0.5",
    limit=0.8,
    source="DeepCrime: dropout rate",
):
    """Dropout drops nearly everything."""

    def in_script(self, seen: "Seen", limit: float) -> MaybeFound:
        p, where = max(seen.dropouts, key=lambda pair: pair[0], default=(0.0, None))
        less = rewritten(where, "p", p, 0.2)
        advice = f"Drop less, {less}: it is the share that is dropped."
        return Found(p, where=where, advice=advice, edits=(less,)) if p >= limit else None


@register("rule", "no-reset")
class NoReset(
    ScriptRule,
    measure="beta",
    usual="below 0.97 without a reset",
    limit=0.97,
):
    """Neurons with a decay near 1 are not reset when they fire, so that potentials grow with every timestep."""

    def in_script(self, seen: "Seen", limit: float) -> MaybeFound:
        free = {layer.name: layer.unreset for layer in seen.layers.values() if layer.unreset > limit and layer.arriving}
        if not free:
            return None
        decay = rewritten(seen.line_of(next(iter(free))), "beta", max(free.values()), 0.9)
        return Found(
            max(free.values()),
            tuple(free),
            advice=f"Reset by subtraction (reset_mechanism='subtract'), or decrease the decay: {decay}.",
            edits=(decay,),
        )
