"""Self-contained HTML pages, from the templates in ``static``, and the page of gradient flow of checkpoints.

A page embeds its style, script and data, and its policy forbids loading anything else. It is complete without the script.
"""

import base64
import functools
import hashlib
import shlex
from collections.abc import Mapping, Sequence
from importlib.resources import files as resources
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from lsgcli import registry
from lsgcli.analysis.measures import MEASURES, present, text
from lsgcli.report import findings, tables
from lsgcli.report.charts import swatch
from lsgcli.report.drawing import DARK, LIGHT, styles
from lsgcli.report.figures import Flow, curves, labels
from lsgcli.report.tables import letters, problems
from lsgcli.system import files
from lsgcli.system.schema import Record

SAME = {"T": "timesteps", "threshold": "threshold v_th", "batches": "mini-batches"}  # in comparable records
MANY = 16  # panels of a figure, above which they are folded
MOST_CURVES = 3  # of experiments beside the unchanged training
LONG = 60  # characters of all names, above which letters replace them


def document(template: str, data: Mapping[str, Any], **context: Any) -> str:
    """A page.

    Args:
        template: name of a file in ``static`` that extends ``page.html``.
        data: embedded as JSON in elements with these ids.
        context: values of the template, which states the ``title`` of the window if it is not among them.
    """
    static = resources("lsgcli.report") / "static"
    style, script = (Markup((static / name).read_text(encoding="utf-8")) for name in ("page.css", "flow.js"))
    return (
        _environment()
        .get_template(template)
        .render(
            style=style,
            script=script,
            digest=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
            light=LIGHT,
            dark=DARK,
            # < is escaped, so that no data can start a tag or comment
            data={name: Markup(files.json_text(value).replace("<", "\\u003c")) for name, value in data.items()},
            **context,
        )
    )


@functools.cache
def _environment() -> Environment:
    """The templates, compiled once in a process, which may write a report for each of many runs."""
    environment = Environment(
        loader=PackageLoader("lsgcli.report", "static"), autoescape=True, trim_blocks=True, undefined=StrictUndefined
    )
    environment.globals.update(
        MANY=MANY,
        MEASURES=MEASURES,
        present=present,
        value_text=text,
        problems=problems,
        where=tables.listing,
        figure_text=findings.figure,
        source_line=findings.source_line,
        confirmed=findings.CONFIRMED,
        swatch=swatch,
    )
    return environment


def flow_page(flows: Sequence[Flow]) -> str:
    """The gradient flow of one or several checkpoints.

    Args:
        flows: records of :func:`lsgcli.analysis.inspect`, each with its ``checkpoint`` and ``method``.
    """
    names = labels(flows)
    if len(names) > 1 and len(", ".join(names)) > LONG:  # the cards state the path of each letter
        names = letters(len(names))
    title = f"Gradient flow: {', '.join(names)}"
    return document("flow.html", {"flows": list(flows)}, title=title, **gradient_flow(flows, names))


def gradient_flow(flows: Sequence[Flow], names: Sequence[str]) -> Record:
    """Values of the template for records of checkpoints called ``names``."""
    unlike = [name for key, name in SAME.items() if len({str(flow.get(key)) for flow in flows}) > 1]
    if len({tuple(layer["name"] for layer in flow["layers"]) for flow in flows}) > 1:
        unlike.append("layers")
    return {
        "unlike": unlike,
        "checkpoints": list(zip(names, flows, (style.colour for style in styles(len(flows))), strict=True)),
        "shown": [
            (name, picture, picture.views(flows, names) if flows else []) for name, picture in registry.every("picture").items()
        ],
    }


def diagnosis_page(record: Mapping[str, Any]) -> str:
    """The page of a training script that was watched, from its record."""
    losses = [curves("Loss", {"loss": [record["losses"]]}, "step")] if record["losses"] else []
    title = f"Diagnosis: {shlex.join(record['command'])}"
    tried = {"heads": findings.TRIALS, "rows": findings.trials(dict(record))} if "experiments" in record else {}
    learning = [one for one in record.get("experiments", []) if one["learns"] and one["losses"]]
    if learning:
        compared = {"unchanged": [record["unchanged"]["losses"]]}
        compared |= {one["change"]: [one["losses"]] for one in learning[:MOST_CURVES]}
        losses = [curves("Loss", compared, "step")]
    return document("diagnosis.html", {"diagnosis": dict(record)}, title=title, record=record, losses=losses, tried=tried)
