"""``report.html``: self-contained report of a run."""

import json
from html import escape
from typing import Any

from lsgcli import files
from lsgcli.report import flow_table
from lsgcli.report.charts import Lines, line_chart
from lsgcli.report.page import page
from lsgcli.rundir import RunDir


def run_page(run: RunDir, end: dict[str, Any], flow: dict[str, Any]) -> str:
    """The page of a finished run.

    Args:
        run: run directory with configuration and per-epoch records.
        end: final record of the run.
        flow: full gradient-flow record of the final network.
    """
    config = json.loads(run.config_file.read_text(encoding="utf-8"))
    epochs = files.read_json_lines(run.metrics_file)
    layers = [line["layers"] for line in files.read_json_lines(run.gradient_flow_file)]
    settings = config["settings"]
    title = f"{settings['dataset']}, {settings['arch']}, {settings['method']}, T={settings['T']}, seed {settings['seed']}"
    split = end["best_chosen_on"]
    accuracies = {"train": [e["train_accuracy"] for e in epochs], split: [e[f"{split}_accuracy"] for e in epochs]}
    losses = {"train": [e["train_loss"] for e in epochs], split: [e[f"{split}_loss"] for e in epochs]}
    names = [layer["name"] for layer in layers[0]] if layers else []

    def over_time(key: str) -> Lines:
        return {name: [epoch[index][key] for epoch in layers] for index, name in enumerate(names)}

    sections = [
        f"<h1>{escape(title)}</h1>",
        f"<p>Test accuracy <b>{100 * end['accuracy']:.2f} %</b> ({_source(end)}). Last epoch {100 * end['test_accuracy_last']:.2f} %, best epoch "
        f"{100 * end['test_accuracy_best']:.2f} % (epoch {end['best_epoch'] + 1}). A single seed does not allow conclusions about a method.</p>",
        '<div class="pair">',
        _figure("Accuracy", accuracies, "accuracy"),
        _figure("Loss", losses, "loss", f"train: training loss; {split}: cross-entropy of mean logits."),
        _figure("Decay beta", over_time("beta"), "beta", "One line per layer, in order from the input."),
        _figure("Surrogate width alpha", over_time("alpha"), "alpha", "In units of u."),
        _figure(
            "Coverage", over_time("coverage"), "coverage", "Fraction of u inside v_th +- alpha/2, last step of each epoch."
        ),
        _figure("Gradient norm", over_time("grad_norm"), "|dL/dW|", "L2 norm of dL/dW, last step of each epoch.", log=True),
        "</div>",
        f"<h2>Gradient flow of the final network</h2>{flow_table.summary(flow)}{flow_table.table(flow, 'the final network')}{_note(flow)}",
        f"<details><summary>Definitions of the columns</summary>{flow_table.glossary()}</details>",
        f"<h2>Settings</h2><pre>{escape(json.dumps(settings, indent=1))}</pre>",
    ]
    return page(title, "".join(sections), {"data": {"end": end, "epochs": epochs, "flow": flow}})


def _source(end: dict[str, Any]) -> str:
    return "best epoch on the validation split" if end["best_chosen_on"] == "val" else "last epoch, no validation split"


def _figure(title: str, lines: Lines, label: str, caption: str = "", *, log: bool = False) -> str:
    chart = line_chart(lines, x_label="epoch", y_label=label, x_first=1, log=log)
    note = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
    return f"<figure><h2>{escape(title)}</h2>{chart}{note}</figure>"


def _note(flow: dict[str, Any]) -> str:
    return (
        f'<p class="note">Measured on {flow["batches"]} mini-batches of training data, with forward and backward passes as in training. '
        "u in units of v_th. For figures, use <code>lsg inspect-gradients CHECKPOINT --html FILE</code>.</p>"
    )
