"""``lsg data simulate``: recordings of images with a simulated event camera."""

from pathlib import Path
from typing import Annotated

import typer

from lsgcli import files
from lsgcli.cli.common import Json, Quiet, Verbose, log, messages
from lsgcli.cli.data.common import Workers, counting
from lsgcli.output import check_output, print_json, print_result


def simulate(
    source: Annotated[Path, typer.Argument(metavar="SRC", help="Folder with one subfolder of images per class.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Output folder, with one subfolder per class.")],
    per_class: Annotated[int | None, typer.Option(min=1, help="Use only the first N images of each class, by name.")] = None,
    form: Annotated[str, typer.Option("--format", help="aedat2, rotated like CIFAR10-DVS, or npz, upright.")] = "aedat2",
    seed: Annotated[int, typer.Option(min=0, help="Seed of the camera noise.")] = 0,
    workers: Workers = None,
    force: Annotated[bool, typer.Option("--force", help="Write to a folder that contains other files.")] = False,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Record images with a simulated event camera, in the layout of CIFAR10-DVS, and print the output folder.

    Each image moves along a closed path in front of a simulated 128x128 sensor for 1.2 s. Recordings of CIFAR-10 classes are written to
    OUT/<class>/cifar10_<class>_<number>.aedat, others to OUT/<class>/<class>_<number>.aedat, with numbers spread over 0 to 999.
    Repeating the command completes a stopped simulation of the same images (same names and contents, in any location).
    """
    messages(quiet, verbose)
    from lsgcli.data.simulation.folder import NOTE, RECORDINGS, simulate_folder

    suffixes = RECORDINGS if force or (out / NOTE).exists() else ()  # complete an earlier simulation
    files.make_folder(out.parent)  # such as data/ in the working directory
    check_output(out, "OUT", suffixes=suffixes, folder=True, inputs=(source,), force=force)
    with counting(quiet) as bar:
        progress = bar("simulating", "recordings")
        result = simulate_folder(source, out, per_class=per_class, form=form, seed=seed, workers=workers, progress=progress)
    kept = f", {result.kept:,} of them from before" if result.kept else ""
    text = f"{result.recordings:,} recordings{kept}, {result.events:,} events, {result.seconds:.1f} s"
    log.info("%s (%s recordings/s)", text, f"{result.recordings / max(result.seconds, 1e-3):,.1f}")
    print_json(result.record()) if as_json else print_result(out)
