"""Checkpoints on the Hugging Face Hub (``hf:USER/NAME``): download with verification, and upload.

Downloads are in the cache of huggingface_hub, which also takes the token and ``HF_ENDPOINT``.
"""

import functools
import hashlib
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lsgcli.data.guard import FULL, unreadable
from lsgcli.errors import CheckpointError, ConfigError, LsgError, StorageError, log, require
from lsgcli.store import plugins
from lsgcli.store.rundir import checkpoint_of, facts_of_run
from lsgcli.system import files
from lsgcli.system.interpreter import __version__

WEIGHTS = "model.safetensors"  # in a repository
REPOSITORY = r"(?!\.)[\w.-]+/(?!\.)[\w.-]+"
ON_HUB = re.compile(rf"hf:({REPOSITORY})(?:@(?!.*\.\.)(\w[\w./+-]*))?")
DIGEST = re.compile(r'(W/)?"?[0-9A-Za-z_-]{1,128}"?')  # in a header
LARGEST = 1 << 33  # bytes of a checkpoint
MALFORMED = (ArithmeticError, AssertionError, AttributeError, LookupError, TypeError, ValueError)  # from JSON of another form
ABOUT_LSG = {"library_name": "lsg", "library_version": __version__}


def local(checkpoint: Path | str) -> Path:
    """The path of a checkpoint, of which a remote one is downloaded once and verified; of a run directory, its checkpoint.

    Args:
        checkpoint: a path, of a file or a run directory; or ``hf:USER/NAME`` or ``hf:USER/NAME@REVISION``.

    Raises:
        ConfigError: an invalid name, huggingface_hub is not installed, or a plug-in of the run cannot be imported.
        CheckpointError: it does not exist, or a remote one cannot be read, or was damaged in transfer.
        StorageError: the cache cannot be written.
    """
    path = _local(str(checkpoint))
    run = path if path.is_dir() else path.parent
    facts = facts_of_run(run)
    if path == run and facts is not None:
        path = checkpoint_of(run)
    try:
        os.stat(path)
    except OSError as error:
        raise unreadable(path, error) from error
    if facts is not None:
        plugins.of_run(run, facts)
    return path


@functools.cache
def _local(name: str) -> Path:
    if name.startswith("hf:"):
        return _from_hub(name)
    if "://" in name:
        hint = "Download the file, for example with curl -O, and give its path."
        raise ConfigError(f"{name}: found an address, expected a path or hf:USER/NAME", hint)
    return Path(name)


def check_repository(name: str) -> None:
    """Raise a ConfigError if ``name`` is not the name of a repository."""
    if not re.fullmatch(REPOSITORY, name):
        raise ConfigError(f"{name}: found an invalid name, expected USER/NAME", "USER is a user or organisation of the Hub.")


def push(folder: Path, repository: str, *, private: bool) -> str:
    """Upload the files in a folder in one commit; returns the address of the repository, which is created if it does not exist.

    Args:
        private: create a private repository.

    Raises:
        ConfigError: huggingface_hub is not installed, or ``private`` is given for an existing public repository.
        StorageError: the Hub refuses the upload, or cannot be reached.
        CheckpointError: the answer is not that of a Hub.
    """
    with _calling_hub(
        repository,
        StorageError,
        "Check the connection, and log in with `hf auth login`, or set HF_TOKEN to a token with write permission.",
    ):
        from huggingface_hub import HfApi

        hub = HfApi(**ABOUT_LSG)
        hub.create_repo(repository, private=private or None, exist_ok=True)
        if private and not hub.model_info(repository).private:
            raise ConfigError(
                f"--private: found the public repository {repository}, expected a new or private one",
                "Change its visibility on the Hub, or choose another name.",
            )
        hidden = [".*", "*/*"]  # files that are not uploaded: hidden ones, those in folders
        message = f"Upload by lsg {__version__}"
        hub.upload_folder(repo_id=repository, folder_path=folder, commit_message=message, ignore_patterns=hidden)
        return f"{hub.endpoint}/{repository}"


def _from_hub(name: str) -> Path:
    match = ON_HUB.fullmatch(name)
    if match is None:
        raise ConfigError(f"{name}: found an invalid name, expected hf:USER/NAME or hf:USER/NAME@REVISION")
    with _calling_hub(
        name, CheckpointError, "Check the name and the connection; private repositories need `hf auth login` or HF_TOKEN."
    ):
        from huggingface_hub import get_session, hf_hub_download, set_client_factory

        # A hook of one session would be lost where huggingface_hub starts another, after a connection that failed.
        client = type(get_session())
        hooks = {"response": [_check_answer]}
        set_client_factory(lambda: client(event_hooks=hooks, follow_redirects=True, timeout=None))
        path = Path(hf_hub_download(match[1], WEIGHTS, revision=match[2], **ABOUT_LSG))
    from lsgcli.store import checkpoint

    digest = path.readlink().name if path.is_symlink() else ""  # of a large file, SHA-256 is its name in the cache
    try:
        checkpoint.read(path)
        with open(path, "rb") as stream:
            found = hashlib.file_digest(stream, "sha256").hexdigest()
        if len(digest) == 64 and digest != found:
            raise CheckpointError(f"found SHA-256 {found}, expected {digest}")
    except CheckpointError as error:
        path.unlink()
        if digest:
            (path.parents[2] / "blobs" / digest).unlink(missing_ok=True)
        raise CheckpointError(f"{name}: damaged: {error.message.removeprefix(f'{path}: ')}", "Repeat the command.") from error
    log.debug("%s: %s", name, path)
    return path


def _check_answer(response: Any) -> None:
    """Raise a CheckpointError for an answer whose digests are none, or whose size is too large.

    huggingface_hub takes digest and commit as names of files and folders of its cache, whatever they contain.
    """
    headers = response.headers
    asked = response.request
    if not asked.headers.get("user-agent", "").startswith("lsg/"):  # of other users of huggingface_hub in this process
        return
    digests = []
    if asked.method == "HEAD":  # huggingface_hub takes them from no other answer
        digests = [headers.get("x-repo-commit"), headers.get("x-xet-hash")]
        if response.status_code < 400:
            digests.append(headers.get("x-linked-etag") or headers.get("etag"))
    for digest in digests:
        if digest is not None and not DIGEST.fullmatch(digest):
            raise CheckpointError(f"found {digest!a:.99} in the answer of the Hub, expected a digest")
    for size in (headers.get("content-length"), headers.get("x-linked-size")):
        if size and int(size) > LARGEST:
            raise CheckpointError(f"found {int(size):,} bytes, expected at most {LARGEST:,}")


@contextmanager
def _calling_hub(what: str, kind: type[LsgError], hint: str) -> Iterator[None]:
    """Context of calls of huggingface_hub, whose errors become one of ``kind``."""
    require(("huggingface_hub",), what, "hub")
    from huggingface_hub import errors, logging, utils

    logging.set_verbosity(logging.CRITICAL)
    if not sys.stderr.isatty() or not log.isEnabledFor(20):
        utils.disable_progress_bars()
    try:
        yield
    except LsgError as error:
        error.message = error.message if what in error.message else f"{what}: {error.message}"
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno in FULL:
            raise files.storage_error(error, Path(error.filename or "the cache of huggingface_hub")) from error
        found = error.__cause__ if isinstance(error.__cause__, errors.HfHubHTTPError) else error
        if isinstance(found, MALFORMED) and not isinstance(found, errors.HFValidationError):
            kind = CheckpointError
            hint = "Check HF_ENDPOINT: the answer is not that of a Hub."
        # In the first line of some messages is only the status; the next states the reason.
        reason = re.sub(r"^\d+ Client Error.*\s+", "", str(found)).partition("\n")[0] or type(found).__name__
        raise kind(f"{what}: {reason}", hint) from error
