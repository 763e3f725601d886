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
    from lsgcli.report import records, terminal
    from lsgcli.runs.doctor import examine

    common.log.info("testing backends; kernels are compiled once")
    record = examine()
    print_json(record) if as_json else terminal.show(records.doctor_parts(record))
    if failed := [check["name"] for check in record["checks"] if not check["ok"]]:
        raise GateError(f"failed: {', '.join(failed)}")
