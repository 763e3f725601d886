"""``report.html``: a whole run on one self-contained page, which needs no network."""

import json
from html import escape
from typing import Any

from lsgcli import files
from lsgcli.report.svg import line_chart
from lsgcli.rundir import RunDir

STYLE = """
:root { color-scheme: light dark; --ink: #1c2733; --soft: #5b6875; --ground: #fff; --line: #d9dfe5; }
@media (prefers-color-scheme: dark) { :root { --ink: #e3e8ed; --soft: #98a4b0; --ground: #14191f; --line: #303943; } }
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--ground); max-width: 860px; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.4rem; overflow-wrap: anywhere; } h2 { font-size: 1.1rem; margin-top: 2.2rem; }
p.note, figcaption { color: var(--soft); font-size: .9rem; }
svg { width: 100%; height: auto; } svg .grid { stroke: var(--line); } svg .tick { fill: var(--soft); font-size: 12px; }
.legend { margin: .2rem 0; font-size: .85rem; } .legend span { margin-right: 1rem; white-space: nowrap; }
.legend i { display: inline-block; width: .8rem; height: .8rem; border-radius: 2px; margin-right: .3rem; vertical-align: -1px; }
.scroll { overflow-x: auto; } table { border-collapse: collapse; font-size: .85rem; font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: .25rem .6rem; border-bottom: 1px solid var(--line); white-space: nowrap; }
th:first-child, td:first-child, th:last-child, td:last-child { text-align: left; }
td.bad { color: #c2413b; font-weight: 600; } pre { overflow-x: auto; font-size: .8rem; }
"""
COLUMNS = (
    ("beta", "beta", ".3f"),
    ("alpha", "alpha", ".3f"),
    ("coverage", "coverage", ".3f"),
    ("sg_mean", "E[h]", ".3f"),
    ("firing_rate", "firing rate", ".3f"),
    ("u_mean", "u mean", ".2f"),
    ("u_std", "u std", ".2f"),
    ("u_skew", "u skew", ".2f"),
    ("rho", "rho", ".2f"),
    ("grad_norm", "|dL/dW|", ".2e"),
    ("grad_ratio", "ratio", ".2g"),
    ("grad_zero", "dL/du = 0", ".3f"),
)


def run_page(run: RunDir, end: dict[str, Any], flow: dict[str, Any]) -> str:
    """The page of a finished run.

    Args:
        run: gives the configuration and the epochs' records.
        end: the run's final record.
        flow: the full gradient-flow record of its last network.
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

    def over_time(key: str) -> dict[str, list[float | None]]:
        return {name: [epoch[index][key] for epoch in layers] for index, name in enumerate(names)}

    sections = [
        f"<h1>{escape(title)}</h1>",
        f"<p>Test accuracy <b>{100 * end['accuracy']:.2f} %</b> ({_source(end)}). Last epoch {100 * end['test_accuracy_last']:.2f} %, best epoch "
        f"{100 * end['test_accuracy_best']:.2f} % (epoch {end['best_epoch'] + 1}). One seed: no statement about a method.</p>",
        _figure("Accuracy", line_chart(accuracies, x_label="epoch", y_label="accuracy", x_first=1), ""),
        _figure(
            "Loss",
            line_chart(losses, x_label="epoch", y_label="loss", x_first=1),
            "train: the loss that was trained; the other: cross-entropy of mean logits.",
        ),
        _figure(
            "Decay beta",
            line_chart(over_time("beta"), x_label="epoch", y_label="beta", x_first=1),
            "One line a layer, in order from the input.",
        ),
        _figure(
            "Surrogate width alpha",
            line_chart(over_time("alpha"), x_label="epoch", y_label="alpha", x_first=1),
            "In units of u.",
        ),
        _figure(
            "Coverage",
            line_chart(over_time("coverage"), x_label="epoch", y_label="coverage", x_first=1),
            "Share of u inside v_th +- alpha/2, last step of each epoch.",
        ),
        _figure(
            "Gradient norm",
            line_chart(over_time("grad_norm"), x_label="epoch", y_label="|dL/dW|", x_first=1, log=True),
            "L2 norm of dL/dW, last step of each epoch.",
        ),
        f"<h2>Gradient flow of the final network</h2>{_flow_table(flow)}",
        f"<h2>Settings</h2><pre>{escape(json.dumps(settings, indent=1))}</pre>",
    ]
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1"><title>{escape(title)}</title><style>{STYLE}</style>'
    data = json.dumps({"end": end, "epochs": epochs, "flow": flow}).replace("</", "<\\/")
    body = "".join(sections) + f'<script type="application/json" id="data">{data}</script>'
    return f'<!doctype html><html lang="en"><head>{head}</head><body>{body}</body></html>\n'


def _source(end: dict[str, Any]) -> str:
    return (
        "best epoch on the validation split" if end["best_chosen_on"] == "val" else "last epoch; there was no validation split"
    )


def _figure(title: str, chart: str, caption: str) -> str:
    note = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
    return f'<h2>{escape(title)}</h2><figure style="margin:0">{chart}{note}</figure>'


def _flow_table(flow: dict[str, Any]) -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name in ("layer", *(title for _, title, _ in COLUMNS), "verdict"))
    body = ""
    for record in flow["layers"]:
        cells = "".join(f"<td>{format(record[key], form) if record[key] is not None else '-'}</td>" for key, _, form in COLUMNS)
        bad = "" if record["verdict"] == "ok" else ' class="bad"'
        body += f'<tr><td>{escape(record["name"])}</td>{cells}<td{bad} title="{escape(record["reason"])}">{record["verdict"]}</td></tr>'
    note = f"Over {flow['batches']} mini-batches of training data, forward and backward as in training. u in units of v_th."
    return f'<div class="scroll"><table><tr>{head}</tr>{body}</table></div><p class="note">{note}</p>'
