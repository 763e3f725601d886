"""Each rule: evidence on which it must fire, and evidence beside it on which it must not."""

import math
import re

import pytest
import torch

from lsgcli import registry
from lsgcli.analysis.advice import findings, gated, judge, parse_gates, ranked
from lsgcli.analysis.rules.base import CAUSES, SEVERITIES, SYMPTOMS, Evidence, ScriptRule
from lsgcli.analysis.watch.lines import Line
from lsgcli.analysis.watch.seen import Neurons, Outputs, Seen
from lsgcli.config.neuron import TAKE_WIDTH
from lsgcli.config.resolve import usual
from lsgcli.config.run import RunConfig, check
from lsgcli.errors import ConfigError
from tests.cli.test_diagnose import FAULTS
from tests.flows import flow

USUAL = usual("digits-dvs")
EPOCH = {"epoch": 0, "train_loss": 0.9, "train_accuracy": 0.7, "val_accuracy": 0.68, "val_loss": 0.5}
HEALTHY = {"beta": 0.2, "alpha": 1.0, "u_std": 1.1, "coverage": 0.5, "firing_rate": 0.15, "grad_ratio": 2.0, "grad_zero": 0.5}


def evidence(
    layer=None,
    settings=None,
    epoch=None,
    classes=10,
    diverged=False,
    layers=3,
    samples=0,
    tested=math.nan,
    losses=None,
    betas=(0.2, 0.21),
    **of_record,
):
    """A healthy network of some layers; ``layer`` changes the second, ``of_record`` the record itself."""
    record = flow(layers, **of_record)
    for index, one in enumerate(record["layers"]):
        one.update(HEALTHY | (layer or {} if index == 1 else {}))
    epochs = [EPOCH | (epoch or {}) | ({"train_loss": loss} if loss else {}) for loss in losses or 3 * [None]]
    history = {"layers": {one["name"]: {"beta": betas} for one in record["layers"]}}
    own = USUAL | (settings or {})
    return Evidence(record, own, USUAL, epochs, classes, samples, tested, diverged, history=history)


BN = {"norm": "bn"}
FLAT = {"train_loss": 2.29, "train_accuracy": 0.11, "val_accuracy": 0.1}
CASES = {  # rule -> evidence that it finds, evidence that it does not, a part of the remedy's settings
    "not-finite": ({"loss": None}, {"loss": 50.0}, {"lr": USUAL["lr"] / 10}),
    "batch-dependent": ({"batch_invariant": False}, {"batch_invariant": True}, {}),
    "labels": (
        {"epoch": {"train_loss": 0.1, "train_accuracy": 0.01}},
        {"epoch": {"train_loss": 2.2, "train_accuracy": 0.01}},
        {},
    ),
    "running-statistics": ({"eval_gap": 0.5}, {"eval_gap": 0.05}, {}),
    "input-scale": (
        {"layer": {}, "input": {"mean": 0.0, "std": 255.0}, "first": {"u_std": 200.0}},
        {"input": {"mean": 0.0, "std": 255.0}},
        {},
    ),
    "potential-scale": ({"layer": {"u_std": 0.05}}, {"layer": {"u_std": 0.5}}, {}),
    "silent": ({"layer": {"firing_rate": 0.001}, "settings": BN}, {"layer": {"firing_rate": 0.02}}, {"threshold": 0.25}),
    "saturated": ({"layer": {"firing_rate": 0.9}, "settings": BN}, {"layer": {"firing_rate": 0.4}}, {"threshold": 1.0}),
    "too-deep": (
        {"layers": 18, "epoch": FLAT, "settings": {"arch": "resnet19", "depth": 19, "residual": "none"}},
        {"layers": 8, "epoch": FLAT},
        {"depth": 9, "residual": "add"},
    ),
    "narrow-window": (
        {"layer": {"coverage": 0.01, "grad_zero": 0.99, "alpha": 0.02}, "settings": {"method": "fixed", "width": 0.02}},
        {"layer": {"coverage": 0.04, "grad_zero": 0.5}},
        {"width": 1.1},
    ),
    "wide-window": (
        {"layer": {"alpha": 20.0}, "settings": {"method": "fixed", "width": 20.0}},
        {"layer": {"alpha": 2.0}},
        {"width": 1.1},
    ),
    "blocked": ({"layer": {"grad_zero": 0.9999}}, {"layer": {"grad_zero": 0.9}}, {}),
    "exploding": (
        {"layer": {"grad_ratio": 500.0}, "settings": {"clip_grad": 0.0}},
        {"layer": {"grad_ratio": 50.0}},
        {"clip_grad": 1.0},
    ),
    "initial-scale": (
        {"layer": {"firing_rate": 0.0, "u_mean": 0.0, "u_std": 0.1}, "settings": {"norm": "none"}},
        {"layer": {"firing_rate": 0.0}, "settings": {"norm": "none", "init": "measured"}},
        {"init": "measured"},
    ),
    "vanishing": (
        {"layer": {"grad_ratio": 1e-4}, "settings": {"arch": "resnet19", "residual": "none"}},
        {"layer": {"grad_ratio": 0.1}},
        {"residual": "add"},
    ),
    "decay-at-bound": ({"layer": {"beta": 0.995}, "settings": {"decay": 0.99}}, {"layer": {"beta": 0.9}}, {"decay": 0.2}),
    "decay-fast": (
        {"betas": [0.2, 0.6], "settings": {"decay_lr": 0.3}},
        {"betas": [0.2, 0.22]},
        {"decay_lr": USUAL["decay_lr"]},
    ),
    "drift": (
        {"layer": {"drift": {"mean": 3.0, "std": 0.0}}},
        {"layer": {"drift": {"mean": 0.3, "std": 0.0}}},
        {"norm": "tebn"},
    ),
    "learning-rate": (
        {"settings": {"lr": 30 * USUAL["lr"]}, "epoch": FLAT},
        {"settings": {"lr": 30 * USUAL["lr"]}},
        {"lr": USUAL["lr"]},
    ),
    "averaging": (
        {"epoch": {"raw_val_accuracy": 0.9, "val_accuracy": 0.2}, "settings": {"ema": 0.9999}},
        {"epoch": {"raw_val_accuracy": 0.9, "val_accuracy": 0.89}, "settings": {"ema": 0.99}},
        {"ema": 0.0},
    ),
    "unusual-settings": (
        {"settings": {"weight_decay": 1.0}, "epoch": FLAT},
        {"settings": {"clip_grad": 1.0}, "epoch": FLAT},
        {"weight_decay": USUAL["weight_decay"]},
    ),
    "coarse-outputs": ({"output_values": 5}, {"output_values": 300}, {}),
    "not-learning": ({"epoch": FLAT, "settings": {"epochs": 1}}, {"epoch": {"train_loss": 1.0}}, {"epochs": USUAL["epochs"]}),
    "overfitting": (
        {"epoch": {"train_accuracy": 1.0, "val_accuracy": 0.6}},
        {"epoch": {"train_accuracy": 1.0, "val_accuracy": 0.95}},
        {},
    ),
}


POOR = {"train_loss": 1.9, "train_accuracy": 0.3, "val_accuracy": 0.3}
MORE = {  # further evidence, and whether a rule finds it
    "small batches": ("running-statistics", {"settings": {"batch_size": 2}}, True),
    "batches in small parts": ("running-statistics", {"settings": {"accumulate": 16}}, True),
    "nothing is normalised": ("running-statistics", {"settings": {"batch_size": 2, "norm": "none"}, "eval_gap": 0.5}, False),
    "noise": ("labels", {"epoch": {"train_accuracy": 0.3, "val_accuracy": 0.7}}, True),
    "noise, but with augmentation": (
        "labels",
        {"epoch": {"train_accuracy": 0.3, "val_accuracy": 0.7}, "settings": {"augment": "flip"}},
        False,
    ),
    "labels of the test part": ("labels", {"tested": 0.08}, True),
    "a poor test": ("labels", {"tested": 0.5}, False),
    "augmentation": ("unusual-settings", {"settings": {"augment": "flip"}, "epoch": POOR}, True),
    "narrow network": ("unusual-settings", {"settings": {"width_multiplier": 0.02}, "epoch": POOR}, True),
    "warm-up": ("unusual-settings", {"settings": {"warmup_epochs": 60, "epochs": 100}, "epoch": POOR}, True),
    "short warm-up": ("unusual-settings", {"settings": {"warmup_epochs": 5, "epochs": 100}, "epoch": POOR}, False),
    "frozen layers": ("unusual-settings", {"settings": {"freeze": "conv*"}, "epoch": POOR}, True),
    "penalty on rates": ("unusual-settings", {"settings": {"rate_target": 0.001}, "epoch": POOR}, True),
    "clipped": ("unusual-settings", {"settings": {"clip_grad": 1e-4}, "epoch": POOR}, True),
    "most samples held out": ("unusual-settings", {"settings": {"val_fraction": 0.97}, "epoch": POOR}, True),
    "TET without labels": ("unusual-settings", {"settings": {"tet_lambda": 1.0}, "epoch": POOR}, True),
    "a threshold that no weight fits": (
        "initial-scale",
        {"layer": {"firing_rate": 0.0}, "settings": {"norm": "none", "threshold": 5.0}},
        False,
    ),
    "AdamW at a rate of SGD": ("learning-rate", {"settings": {"lr": 0.1, "optimizer": "adamw"}, "epoch": POOR}, True),
    "after 20 updates": ("unusual-settings", {"settings": {"weight_decay": 1.0}, "samples": 200, "epoch": POOR}, False),
    "two updates an epoch": ("unusual-settings", {"settings": {"batch_size": 512}, "samples": 1000, "epoch": POOR}, True),
    "large batches of many samples": (
        "unusual-settings",
        {"settings": {"batch_size": 256}, "samples": 60_000, "epoch": POOR},
        False,
    ),
    "a high rate without overshoot": (
        "learning-rate",
        {"settings": {"lr": 30 * USUAL["lr"]}, "losses": (2.2, 2.0, 1.5), "epoch": POOR},
        False,
    ),
    "a low rate of another optimiser": (
        "learning-rate",
        {"settings": {"lr": USUAL["lr"] / 30, "optimizer": "adamw"}, "losses": (2.2, 2.0, 1.9), "epoch": POOR},
        False,
    ),
    "a low rate": ("learning-rate", {"settings": {"lr": USUAL["lr"] / 30}, "losses": (2.2, 2.0, 1.9), "epoch": POOR}, True),
    "59 %": ("not-learning", {"epoch": {"train_accuracy": 0.59, "val_accuracy": 0.59}}, False),
    "a summed loss": ("not-learning", {"epoch": {"train_loss": 23.0, "train_accuracy": 0.5}}, False),
    "potentials far below the threshold": ("narrow-window", {"layer": {"coverage": 0.0, "u_mean": -9.0, "u_std": 0.5}}, False),
    "a surrogate with tails": ("narrow-window", {"layer": {"coverage": 0.02, "alpha": 0.003, "u_std": 1.0}}, True),
}


def made(changes):
    changes = dict(changes)
    first = changes.pop("first", {})
    result = evidence(**changes)
    result.flow["layers"][0].update(first)
    return result


def test_a_healthy_network_has_no_findings():
    assert findings(evidence()) == []


def test_what_is_found_in_a_network_that_has_learned_is_a_note():
    learned = made({"layer": {"u_std": 0.05}, "epoch": {"train_accuracy": 0.95, "val_accuracy": 0.9}})
    assert {found["severity"] for found in findings(learned)} == {"note"}


def of_script(first, now, skill=0.3):
    """A script's network in which layers fire at some rates in the first step, and now."""
    seen = Seen(steps=50, classes=10, accuracy=[(49, skill, 100)])
    spread = {"u_mean": 0.0, "u_std": 0.25}
    seen.first = {f"n{k}": {"name": f"n{k}", "firing_rate": rate, **spread} for k, rate in enumerate(first)}
    seen.spreads = dict.fromkeys(seen.first, 0.8)
    record = flow(len(now))
    for k, rate in enumerate(now):
        record["layers"][k].update(HEALTHY | {"name": f"n{k}", "firing_rate": rate})
    return Evidence(record, classes=10, seen=seen)


@pytest.mark.parametrize(("rate", "expected"), [(0.0, False), (0.1, True)])
def test_labels_are_not_suspected_behind_a_silent_layer(rate, expected, monkeypatch):
    monkeypatch.setattr(Seen, "separable", lambda *of: 0.0)
    watched = of_script([0.1, 0.1], [0.1, rate], skill=0.1)
    watched.seen.records = watched.flow["layers"]
    found = findings(watched)
    assert ("labels" in {one["rule"] for one in found}) == expected


def test_a_high_learning_rate_that_spoils_the_evaluation_alone():
    learned = of_script([0.1], [0.1], skill=0.8)
    learned.seen.highest_rate, learned.seen.settings = 0.3, {"betas": (0.9, 0.999)}
    assert "learning-rate" not in {one["rule"] for one in findings(learned)}
    learned.seen.evaluated = [(50, 0.1, 1000)]
    assert "learning-rate" in {one["rule"] for one in findings(learned)}


def test_layers_that_were_silent_before_the_first_step_get_a_factor_each():
    """By its potentials at a rate of 0.04 before it; without spikes, by its weights."""
    (found, *_) = findings(of_script([0.04, 0.005, 0.0], [0.2, 0.2, 0.2]))
    assert (found["rule"], found["layers"]) == ("initial-scale", ["n1", "n2"])
    factors = dict(re.findall(r"(n\d) x ([\d.]+)", found["remedy"]["text"]))
    assert {name: float(factor) for name, factor in factors.items()} == pytest.approx(
        {"n1": 0.4**0.5 / (1.3 * 0.25), "n2": 4 / 0.8}, rel=0.05
    )


@pytest.mark.parametrize(("first", "skill"), [([0.04, 0.0, 0.0], 0.9), ([0.1, 0.1, 0.0], 0.3)])
def test_silent_layers_at_the_start_that_do_no_harm(first, skill):
    assert "initial-scale" not in {one["rule"] for one in findings(of_script(first, [0.2, 0.2, 0.2], skill))}


@pytest.mark.parametrize(
    ("memory", "repetition", "skill", "found"),
    [(0.3, 0.1, 0.3, True), (0.9, 0.1, 0.3, False), (0.3, 0.9, 0.3, False), (0.3, 0.1, 0.9, False)],
)
def test_a_memory_that_is_too_short_for_early_inputs(memory, repetition, skill, found):
    """The loss reads the last of 20 timesteps; 0.3^8 is below 1e-4, and 0.9^19 is not."""
    seen = Seen(steps=50, classes=10, accuracy=[(49, skill, 100)], repetition=repetition)
    seen.layers = {0: Neurons("lif1", calls=20, memory=memory, arriving={0: 0.0, 19: 1.0})}
    rules = {one["rule"]: one for one in findings(Evidence(flow(1), classes=10, seen=seen))}
    assert ("steps-without-gradient" in rules) == found
    if found:
        assert rules["steps-without-gradient"]["value"] == "8 of 20"
        watched = Evidence(flow(1), classes=10, seen=seen)
        watched.layers[0]["name"] = "lif1"
        judge(watched)
        assert "8 of 20" in watched.layers[0]["reason"]
        assert "0.93" in rules["steps-without-gradient"]["remedy"]["text"]  # a half after 10 timesteps


@pytest.mark.parametrize(
    ("settings", "larger"),
    [({"batch_size": 2}, {"batch_size": max(16, USUAL["batch_size"])}), ({"accumulate": 16}, {"accumulate": 1})],
)
def test_small_batches_have_a_command(settings, larger):
    (found,) = findings(made({"settings": settings, "eval_gap": 0.0}), run="r")
    assert (found["remedy"]["settings"], found["command"] is None) == (larger, False)
    assert "--refresh-norm" not in found["remedy"]["text"]


def test_a_gradient_that_narrow_surrogates_amplify():
    """By a peak of 1 / alpha = 10 in each layer."""
    record = made({"layer": {"grad_ratio": 500.0}, "settings": {"method": "fixed", "width": 0.1, "clip_grad": 0.0}})
    for layer in record.layers:
        layer["alpha"] = 0.1
    remedy = {one["rule"]: one["remedy"] for one in findings(record)}["exploding"]
    assert remedy["settings"] == {"width": pytest.approx(2 * 1.1 * record.flow["threshold"])}
    assert remedy["alternative"] == {"clip_grad": 1.0}


def test_inputs_of_an_evaluation_that_are_not_finite_have_no_ratio():
    seen = Seen(trained_input={"std": 1.0, "mean": 0.0}, evaluated_input={"std": math.nan, "mean": math.nan})
    assert "evaluation-input" not in {one["rule"] for one in findings(Evidence(flow(1), seen=seen))}


def test_the_line_of_a_state_that_an_evaluation_begins_with():
    """Also of layers that the last measured step did not run."""
    seen = Seen(kept={"lif": Line("train.py", 3)})
    found = {one["rule"]: one for one in findings(Evidence(flow(1), seen=seen))}
    assert found["state-kept"]["where"] == {"file": "train.py", "line": 3}


def test_normalisation_is_the_other_remedy_of_initial_weights():
    (found, *_) = findings(made(CASES["initial-scale"][0]), run="r")
    assert found["remedy"]["alternative"] == {"norm": "tdbn"}


def test_every_rule_has_a_case():
    of_scripts = {name for name, rule in ranked().items() if isinstance(rule, ScriptRule)}
    planted = {rule for _, _, _, rules, _ in FAULTS.values() for rule in rules.split()}
    assert of_scripts <= planted
    assert set(CASES) | of_scripts == set(registry.names("rule")) == {*CAUSES, *SYMPTOMS}


@pytest.mark.parametrize("rule", CASES)
def test_a_rule_fires_and_does_not_fire(rule):
    fires, does_not, settings = CASES[rule]
    found = {finding["rule"]: finding for finding in findings(made(fires), run="runs/a b")}
    assert rule in found
    assert rule not in {finding["rule"] for finding in findings(made(does_not))}
    finding = found[rule]
    assert finding["severity"] in SEVERITIES
    assert finding["cause"].endswith(".")
    assert finding["remedy"]["text"].endswith((".", "100."))
    advised = finding["remedy"]["settings"]
    assert {name: advised.get(name) for name in settings} == pytest.approx(settings)
    assert check(advised) == []
    if advised:
        assert finding["command"].startswith("lsg train --config 'runs/a b' --")
        RunConfig(**{**made(fires).settings, **advised})
    else:
        assert finding["command"] is None
    if "layer" in fires:
        assert "conv2" in finding["layers"] or rule == "input-scale"


@pytest.mark.parametrize("case", MORE)
def test_more_evidence(case):
    rule, changes, expected = MORE[case]
    assert (rule in {found["rule"] for found in findings(made(changes))}) == expected


def test_measures_of_a_diverged_network_are_not_used():
    """Of potentials of 1e5 no width or factor follows."""
    diverged = made({"loss": None, "diverged": True, "layer": {"u_std": 1e5, "alpha": 1.0, "firing_rate": 0.9}})
    assert [one["rule"] for one in findings(diverged)] == ["not-finite"]


@pytest.mark.parametrize(("alpha", "verb"), [(0.01, "Widen"), (50.0, "Narrow")])
def test_a_width_is_compared_with_that_of_the_layer(alpha, verb):
    texts = [one["remedy"]["text"] for one in findings(made({"layer": {"alpha": alpha, "coverage": 0.01, "grad_zero": 0.99}}))]
    assert texts[0].startswith(verb)


@pytest.mark.parametrize(("norm", "words"), [("bn", "weight of the normalisation"), ("none", "Scale the initial weights")])
def test_weights_before_a_normalisation_have_no_scale(norm, words):
    found = {one["rule"]: one for one in findings(made({"layer": {"u_std": 0.05}, "settings": {"norm": norm}}))}
    assert words in found["potential-scale"]["remedy"]["text"]


def test_a_symptom_is_a_note_that_names_its_cause():
    symptom = {one["rule"]: one for one in findings(made({"layer": {"u_std": 0.05, "firing_rate": 0.0}}))}["silent"]
    assert (symptom["severity"], symptom["follows"]) == ("note", "potential-scale")


@pytest.mark.parametrize(("mode", "expected"), [("training", "error"), ("evaluating", "note")])
def test_only_an_error_makes_symptoms_of_others(mode, expected):
    """Dropout that runs in evaluation is a warning, and that does not run in training, an error."""
    found = {one["rule"]: one["severity"] for one in findings(of_modes(mode, 1.0))}
    assert found["equal-outputs"] == expected


@pytest.mark.parametrize("mode", ["training", "evaluating"])
def test_a_loss_that_is_not_finite_is_no_symptom(mode):
    assert "not-finite" in {one["rule"] for one in gated(findings(of_modes(mode, math.nan)), {"error"})}


def of_modes(mode, loss):
    """Outputs are equal, and dropout is in the wrong mode."""
    outputs = Outputs("cross_entropy", torch.ones(4, 2), torch.zeros(4))
    return Evidence(flow(1), seen=Seen(steps=50, losses=[loss] * 50, outputs=outputs, **{mode: {"drop": None}}))


@pytest.mark.parametrize(("rule", "limit"), [("silent", 1e-9), ("potential-scale", 1e9), ("running-statistics", 1)])
def test_a_limit_replaces_that_of_the_rule(rule, limit):
    assert rule not in {found["rule"] for found in findings(made(CASES[rule][0]), {rule: limit})}


def test_errors_come_first_and_causes_before_consequences():
    both = made({"layer": {"u_std": 0.05, "alpha": 0.1, "firing_rate": 0.0}, "eval_gap": 0.5, "epoch": FLAT})
    assert [found["rule"] for found in findings(both)] == ["potential-scale", "running-statistics", "silent"]


def test_potentials_of_all_layers_come_before_the_surrogate_of_one():
    narrow = {"u_std": 0.05, "alpha": 0.02, "coverage": 0.01, "grad_zero": 0.99}
    (first, *_) = findings(made({"layer": narrow, "first": {"u_std": 0.05}}))
    assert (first["rule"], first["layers"]) == ("potential-scale", ["conv1", "conv2"])


@pytest.mark.parametrize("rule", CASES)
def test_a_network_without_a_run(rule):
    """Only the record is known: no settings, epochs or classes."""
    record = made(CASES[rule][0]).flow
    for finding in findings(Evidence(record)):
        assert finding["remedy"]["settings"] == {}
        assert finding["command"] is None


def test_a_record_without_numbers():
    record = flow(2)
    for layer in record["layers"]:
        for key in ("u_std", "coverage", "firing_rate", "grad_ratio", "grad_zero", "alpha", "beta"):
            layer[key] = None
    assert [found["rule"] for found in findings(Evidence(record, USUAL, USUAL, classes=10))] == []


def test_a_divergence_without_a_record_has_its_cause():
    """As in a rank that does not measure the gradient flow, or where it does not fit in memory."""
    (first, *_) = findings(Evidence({"layers": []}, USUAL, USUAL, diverged=True))
    assert first["rule"] == "not-finite"
    assert first["remedy"]["settings"]["lr"] == USUAL["lr"] / 10


@pytest.mark.parametrize(("rule", "layer"), [("silent", {"firing_rate": 0.001}), ("saturated", {"firing_rate": 0.9})])
def test_a_threshold_with_which_the_normalisation_scales_its_output_is_no_remedy(rule, layer):
    """tdBN multiplies currents by v_th; TEBN does not."""
    found, other = (
        {one["rule"]: one["remedy"] for one in findings(made({"layer": layer, "settings": {"norm": norm}}))}
        for norm in ("tdbn", "tebn")
    )
    assert found[rule]["settings"] == {}
    assert found[rule]["text"]
    assert other[rule]["settings"].keys() == {"threshold"}


@pytest.mark.parametrize(("name", "value"), [("schedule", "step"), ("slicing", "window")])
def test_another_kind_of_setting_is_unusual_where_nothing_is_learned(name, value):
    (found, *_) = findings(made({"settings": {name: value}, "epoch": FLAT}))
    assert found["rule"] == "unusual-settings"
    assert found["value"] == f"{name} {value}"
    assert found["remedy"]["settings"] == {name: USUAL[name]}
    assert findings(made({"settings": {name: value}})) == []


def test_a_network_that_was_never_trained_is_not_said_to_learn_nothing():
    """Its loss is that of equal probabilities."""
    assert findings(Evidence(evidence(loss=2.3).flow, classes=10)) == []


def test_no_gradient_at_all_is_no_matter_of_depth():
    text = {one["rule"]: one["remedy"]["text"] for one in findings(made({"layer": {"grad_ratio": 0.0}}))}["vanishing"]
    assert "No gradient arrives" in text


def test_an_average_of_weights_is_no_overfitting():
    epoch = {"train_accuracy": 0.98, "val_accuracy": 0.1, "raw_val_accuracy": 0.96}
    assert "overfitting" not in {one["rule"] for one in findings(made({"epoch": epoch, "settings": {"ema": 0.9999}}))}


def test_methods_that_take_a_width_are_known():
    """By their names, because rules import no torch."""
    own = [name for name in registry.names("method") if registry.get("method", name).__module__.startswith("lsgcli.")]
    assert {name for name in own if registry.get("method", name).takes_width} == {*TAKE_WIDTH}


def test_a_remedy_that_does_not_fit_the_other_settings_is_not_printed():
    """A neuron without decay takes no method that learns one."""
    fits, does_not = (
        {"settings": {"neuron": neuron, "method": "fixed", "width": 20.0}, "layer": {"alpha": 20.0}}
        for neuron in ("lif", "psn")
    )
    assert findings(made(fits), run="r")[0]["remedy"]["settings"] == {"width": 1.1}
    narrow = findings(made(does_not | {"settings": {"neuron": "psn", "method": "isometric"}}), run="r")[0]
    assert (narrow["remedy"]["settings"], narrow["command"]) == ({}, None)


def test_a_width_that_does_not_fit_is_measured():
    narrow = {"layer": {"coverage": 0.01, "grad_zero": 0.99, "alpha": 0.02}}
    for method, expected in (("lsg", {"method": "measured-sigma"}), ("isometric", {"method": "lsg"})):
        (first, *_) = findings(made({**narrow, "settings": {"method": method}}))
        assert first["remedy"]["settings"] == expected


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, ["ok", "ok", "ok"]),
        ({"layer": {"firing_rate": 0.0}}, ["ok", "silent", "ok"]),
        ({"layer": {"grad_zero": 0.9999, "coverage": 0.5}}, ["ok", "blocked", "ok"]),
        ({"layer": {"grad_ratio": 1e-4}}, ["ok", "vanishing", "ok"]),
        ({"layer": {"u_mean": None}}, ["ok", "not-finite", "ok"]),
        ({"epoch": FLAT}, ["network", "network", "network"]),  # no tick above an error
        ({"layer": {"firing_rate": 0.0}, "epoch": {"train_accuracy": 0.99, "val_accuracy": 0.98}}, ["ok", "ok", "ok"]),
    ],
)
def test_the_verdict_on_a_layer_is_the_worst_finding_that_names_it(changes, expected):
    given = evidence(**changes)
    judge(given)
    assert [layer["verdict"] for layer in given.flow["layers"]] == expected
    assert [layer["reason"] == "" for layer in given.flow["layers"]] == [name == "ok" for name in expected]


def test_gates_are_rules_and_severities():
    found = findings(evidence(layer={"firing_rate": 0.0}))
    assert [one["rule"] for one in gated(found, parse_gates("silent, blocked"))] == ["silent"]
    assert gated(found, parse_gates("error"))
    assert not gated(found, parse_gates("not-finite"))
    for text in ("silence", "ok", ""):
        with pytest.raises(ConfigError, match="--fail-on"):
            parse_gates(text)


@pytest.mark.parametrize(("u_squared", "found"), [(810.000064373018, False), (900.0, True)])
def test_potentials_that_have_received_nothing_are_not_lost(u_squared, found):
    """9,000 potentials of -0.3, up to rounding, which a network without biases has behind silent neurons; and others."""
    seen = Seen(steps=50, classes=10)
    seen.layers = {
        0: Neurons("lif2", calls=15, rested=14, m=9000, u=-2700.0001072883606, u_squared=u_squared, library="snntorch")
    }
    assert ("state-lost" in {one["rule"] for one in findings(Evidence(flow(1), classes=10, seen=seen))}) == found


def test_thresholds_of_all_silent_layers_are_named(tmp_path):
    """The second layer receives nothing yet: its threshold follows from the spread of its weights."""
    script = tmp_path / "net.py"
    script.write_text("a = Leaky(threshold=20.0)\nb = Leaky(beta=0.9, threshold=20.0)\nc = Leaky()\n")
    names = ("a", "b", "c")
    seen = Seen(steps=50, classes=10, networks=["Net"])
    seen.layers = {}
    for number, name in enumerate(names):
        seen.layers[number] = Neurons(name, Line(str(script), number + 1), threshold=20.0 if number < 2 else 1.0)
    record = flow(3) | {"threshold": 20.0, "input": {"mean": 0.0, "std": 1.0}}
    for layer, name, std in zip(record["layers"], names, (0.05, 0.001, 0.001), strict=True):
        layer.update(name=name, firing_rate=0.0, u_mean=0.0, u_std=std)
        for key in ("alpha", "coverage", "grad_zero", "grad_ratio"):
            layer.pop(key, None)
    seen.first = {layer["name"]: dict(layer) for layer in record["layers"]}
    seen.spreads = {"a": 0.05, "b": 0.02, "c": 0.5}
    (silent,) = [one for one in findings(Evidence(record, classes=10, seen=seen)) if one["rule"] == "silent"]
    edits = [(edit["line"], edit["old"], edit["new"]) for edit in silent["remedy"]["edits"]]
    # u + 1.3 std of the first layer; of others, 1.26 standard deviations of what spikes at a rate of .1 bring.
    second = 20.0 * 0.02 * math.sqrt(0.1) / 1.26
    third = 0.5 * math.sqrt(0.1) / 1.26
    assert edits == [(1, "threshold=20.0", "threshold=1.3"), (2, "threshold=20.0", f"threshold={second:.2g}"), (0, "", "")]
    assert f"threshold 1 -> {third:.2g} at net.py:3" in silent["remedy"]["text"]
