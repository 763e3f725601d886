"""The pictures of gradient flow, a file each: on the page, and as files. See :class:`lsgcli.report.pictures.base.Picture`."""
