"""``lsg doctor``: checks of the installation and the machine."""

from lsgcli.cli import common
from lsgcli.errors import GateError
from lsgcli.report.output import print_json


def doctor(*, as_json: common.Json = False, verbosity: common.Verbosity) -> None:
    """Check this installation and machine: packages, GPU, threads, OpenMP, disk, backends. Takes a few seconds.

    Each backend is compared with the backend reference. Of a check that fails, what was expected and what to do is printed, and the
    exit status is 9. The output contains neither user names nor paths: paste it into a bug report.
    """
    common.messages(verbosity, common.AROUND)
    from lsgcli.report import terminal
    from lsgcli.runs.doctor import examine

    common.log.info("testing backends; kernels are compiled once")
    record = examine()
    failed = [check for check in record["checks"] if not check["ok"]]
    if as_json:
        print_json(record)
    else:
        rows = [[check["name"], "ok" if check["ok"] else "FAILED", check["found"]] for check in record["checks"]]
        terminal.show(
            [
                terminal.table(("check", "result", "found"), rows, left=3),
                terminal.shown(record["versions"]),
                *(f"\n{one['name']}: found {one['found']}, expected {one['expected']}\n  {one['hint']}" for one in failed),
            ]
        )
    if failed:
        raise GateError(f"failed: {', '.join(check['name'] for check in failed)}")
