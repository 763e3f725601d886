"""Figures of gradient flow, for the page and as files. See :class:`lsgcli.report.pictures.base.Picture`."""
