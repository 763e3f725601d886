"""``lsg data simulate``: recordings of images, without a camera."""

from pathlib import Path
from typing import Annotated

import typer

from lsgcli import files
from lsgcli.cli.common import Json, Quiet, Verbose, log, messages
from lsgcli.cli.data.common import Workers, counting
from lsgcli.output import print_json, print_result


def simulate(
    source: Annotated[Path, typer.Argument(metavar="SRC", help="Folder with a folder of images per class.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder to write to, a folder per class.")],
    per_class: Annotated[
        int | None, typer.Option(min=1, help="The first N images of each class, by name; all if not given.")
    ] = None,
    form: Annotated[
        str, typer.Option("--format", help="aedat2, lying on its side as CIFAR10-DVS does, or npz, upright.")
    ] = "aedat2",
    seed: Annotated[int, typer.Option(min=0, help="Seed of the camera's noise.")] = 0,
    workers: Workers = None,
    force: Annotated[bool, typer.Option("--force", help="Write to a folder that holds other files, too.")] = False,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Record images with a simulated event camera, laid out as CIFAR10-DVS is, and print the folder.

    Each image is moved along a closed path before a model of a 128x128 sensor for 1.2 s. A class of CIFAR-10 becomes
    OUT/<class>/cifar10_<class>_<number>.aedat, any other OUT/<class>/<class>_<number>.aedat, with numbers spread over 0 to 999.
    A run that was stopped goes on when the same command is given again, for the same images: their names and contents, wherever
    they are.
    """
    messages(quiet, verbose)
    from lsgcli.data.simulation.folder import NOTE, RECORDINGS, simulate_folder

    suffixes = RECORDINGS if force or (out / NOTE).exists() else ()  # an earlier simulation is completed
    files.make_folder(out.parent)  # such as data/ in the working directory
    files.check_output(out, "OUT", suffixes=suffixes, folder=True, inputs=(source,), force=force)
    with counting(quiet) as bar:
        progress = bar("simulating", "recordings")
        result = simulate_folder(source, out, per_class=per_class, form=form, seed=seed, workers=workers, progress=progress)
    kept = f", {result.kept:,} of them there before" if result.kept else ""
    told = f"{result.recordings:,} recordings{kept}, {result.events:,} events, {result.seconds:.1f} s"
    log.info("%s (%s recordings/s)", told, f"{result.recordings / max(result.seconds, 1e-3):,.1f}")
    print_json(result.record()) if as_json else print_result(out)
