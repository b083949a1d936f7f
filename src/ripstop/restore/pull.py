"""`dvc pull` by study: every object held against its digest, and one sentence for whatever is in the way."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ripstop.config import ConfigError
from ripstop.plan import Plan


def pull(grid: Plan, studies: Sequence[str]) -> None:
    """Fetch the results of the studies, and their data."""
    stages = [f"study@{study}" for study in studies]
    data = sorted({job.data for study in studies for job in grid.runs[study].values()})
    folders = [str(grid.folder() / "data" / name) for name in data]
    with _dvc() as (repo, remote, where):
        from dvc.exceptions import CheckoutError, DownloadError

        for stage in ("data", *stages):
            (found,) = repo.stage.collect(stage)
            if any(out.use_cache and not out.hash_info for out in found.outs):
                raise ConfigError(
                    f"dvc.lock: holds no results of {stage} at scale {grid.scale}; `dvc repro {stage}` makes them"
                )
        try:
            for targets in (stages, folders):  # of both at once DVC leaves out the folders
                repo.pull(targets=targets)
        except (CheckoutError, DownloadError) as error:
            lacking = ", ".join(getattr(error, "target_infos", stages))
            if not remote:
                why = "there is no remote to fetch it from; name one with `dvc remote add --default NAME URL`"
            elif "://" not in where and not Path(where).is_dir():
                why = f"the remote {remote} ({where}) is not there; mount it, or correct its address in .dvc/config"
            else:
                again = f"push it where the results are with `dvc push data {' '.join(stages)}`"
                why = f"the remote {remote} ({where}) lacks a part of it, or holds a damaged one; {again}"
            raise ConfigError(f"{lacking}: {why}") from None
        except Exception as error:  # every kind of remote has errors of its own
            if "unsaved files" in str(error):  # this one has no class of its own
                file = os.path.relpath(str(error).splitlines()[1])
                told = f"{file}: is none of the results to be restored, and would be lost; move it away"
                raise ConfigError(told) from None
            raise ConfigError(
                f"the remote {remote} ({where}) cannot be read: {_last(error)}; see `dvc remote list` and .dvc/config.local"
            ) from None


def paper_is_current() -> bool:
    """Whether the paper was put together by what is here."""
    with _dvc() as (repo, _, _):
        return not repo.status(targets=["paper"])


@contextmanager
def _dvc() -> Iterator[tuple[Any, str, str]]:
    """The repository, and name and address of its default remote, "" where it has none."""
    try:
        from dvc.config import ConfigError as WrongSetting
        from dvc.exceptions import DvcException, NotDvcRepoError
        from dvc.repo import Repo
    except ImportError as error:
        raise ConfigError(f"DVC is not installed ({error}); `make setup` installs it") from None
    for name in ("dvc", "dvc_data", "dvc_objects"):
        logging.getLogger(name).setLevel(logging.CRITICAL)  # they log what they raise, too
    try:
        with Repo() as plain:
            remote = plain.config["core"].get("remote") or ""
        with Repo(config={"remote": {remote: {"verify": True}}} if remote else None) as repo:
            yield repo, remote, str(repo.config["remote"][remote]["url"]) if remote else ""
    except NotDvcRepoError:
        raise ConfigError(f"{Path.cwd()}: is no checkout with DVC; run this where .dvc lies, in a clone by git") from None
    except WrongSetting as error:
        where = ".dvc/config, or config.local beside it"
        raise ConfigError(f"{where}: {_words(error)}; correct it by hand, or with `dvc remote add --force`") from None
    except DvcException as error:
        raise ConfigError(f"DVC: {_words(error)}; `git checkout dvc.yaml dvc.lock` has both as they were committed") from None


def _last(error: BaseException) -> str:
    """The innermost reason of an error, in one line."""
    while error.__cause__ is not None:
        error = error.__cause__
    return _words(error)


def _words(error: BaseException) -> str:
    """What an error says, in one line."""
    return " ".join(str(error).split()) or type(error).__name__
