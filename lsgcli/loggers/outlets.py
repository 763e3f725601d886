"""The report page and the loggers of a run, as ``lsg train`` and ``lsgcli.train`` use them."""

from lsgcli.loggers.base import Loggers
from lsgcli.report.run_page import run_page
from lsgcli.runs.run import Outlets

OUTLETS = Outlets(run_page, Loggers)
