"""Where a study of tuning is kept: a file of Optuna's journal, or a database that machines share.

Not here: what a study is (`studies`). Passwords of databases are never shown.
"""

import contextlib
import importlib.util
import os
import re
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from torch_mars.run.cli import RunError, UsageError, check_folder, check_name, make_folder, short, shown

if TYPE_CHECKING:
    from optuna.storages import BaseStorage

CONNECT_SECONDS = 10  # to a database, unless its URL says otherwise
POSTGRESQL_DRIVERS = ("psycopg2", "psycopg")  # the first is in the extra [cluster]
OPENINGS = 5  # of a database whose tables another worker is making just now


def need_optuna() -> Any:
    """Optuna, quiet. UsageError where it is not installed."""
    try:
        import optuna
    except ImportError:
        raise UsageError("tuning needs Optuna: pip install 'torch_mars[tune]'") from None
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
    return optuna


def without_password(text: str) -> str:
    """A text in which the password of every database's URL is ***."""
    text = re.sub(r"(://[^:/@\s]*):\S*@", r"\1:***@", text)
    return re.sub(r"([?&]password=)[^&\s'\"]+", r"\1***", text)


def open_storage(address: str, flag: str = "--storage") -> "BaseStorage":
    """A file of Optuna's journal, which processes and machines may share, or any of Optuna's storage URLs.

    Args:
        flag: what the address is from, for messages.

    Raises:
        UsageError: it cannot be opened.
    """
    optuna = need_optuna()
    try:
        if "://" in address:
            return _open_database(address)
        check_folder(Path(address).parent, flag)
        check_name(Path(address), flag)
        if os.path.exists(address) and not os.path.isfile(address):
            raise UsageError(f"{flag} is {shown(address)}, which is there and no file")
        make_folder(Path(address).parent, flag)
        _cut_torn_line(Path(address))
        return optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(address))
    except UsageError:
        raise
    except Exception as error:  # each kind of storage has exceptions of its own
        place = short(without_password(address))
        raise UsageError(f"--storage is {place!r}: cannot be opened as Optuna storage ({_reason(error)})") from None


def _open_database(address: str) -> "BaseStorage":
    """A database that answers within seconds or not at all, and is asked whether it is still there before it is used.

    Raises:
        UsageError: its driver is not installed. Whatever the driver raises.
    """
    optuna = need_optuna()
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import SQLAlchemyError

    url = make_url(address)
    if url.drivername == "postgresql":  # SQLAlchemy's default is another one from version to version
        found = [name for name in POSTGRESQL_DRIVERS if importlib.util.find_spec(name)]
        url = url.set(drivername=f"postgresql+{(*found, POSTGRESQL_DRIVERS[0])[0]}")
    settings: dict[str, Any] = {}
    if url.get_backend_name() in ("postgresql", "mysql", "mariadb"):
        is_said = "connect_timeout" in url.query
        settings = {"pool_pre_ping": True, "connect_args": {} if is_said else {"connect_timeout": CONNECT_SECONDS}}
    typed = url.render_as_string(hide_password=False)
    for opening in range(OPENINGS):
        try:
            return optuna.storages.get_storage(optuna.storages.RDBStorage(typed, engine_kwargs=settings))
        except SQLAlchemyError as error:
            words = str(error).lower()
            if opening == OPENINGS - 1 or not ("already exists" in words or "duplicate" in words):
                raise
            time.sleep(1 + np.random.default_rng().uniform())  # another worker is making the same tables
        except ImportError as error:
            driver = getattr(error.__cause__, "name", None) or getattr(error, "name", None) or url.get_driver_name()
            extra = "'torch_mars[cluster]'" if driver == POSTGRESQL_DRIVERS[0] else driver
            place = short(without_password(address))
            raise UsageError(f"--storage is {place!r}, which needs {driver}: pip install {extra}") from None
    raise AssertionError


def _reason(error: BaseException) -> str:
    """What a storage complains of, on one line, without passwords and addresses of manuals."""
    for cause in (error, error.__cause__, error.__context__):
        told = getattr(cause, "orig", None)  # what the driver says, inside what SQLAlchemy makes of it
        if told is not None:
            error = told
            break
    return without_password(" ".join(str(error).split()))[:200]


def storage_errors() -> tuple[type[Exception], ...]:
    """What a storage raises that was there and is gone."""
    optuna = need_optuna()
    from sqlalchemy.exc import SQLAlchemyError

    return SQLAlchemyError, optuna.exceptions.StorageInternalError


@contextlib.contextmanager
def needing_storage(place: str) -> Iterator[None]:
    """RunError if the study's storage, which is called `place` on the screen, goes away within the block."""
    try:
        yield
    except storage_errors() as error:
        raise RunError(
            f"the study's storage {place} does not answer ({_reason(error)}); what was trained is saved, and the "
            "same command goes on"
        ) from None


def _cut_torn_line(journal: Path) -> None:
    """Drop the last line of a journal if a crash cut it short: Optuna could not read what comes after it.

    Raises:
        UsageError: the file is something else, which must keep its bytes.
    """
    if not journal.exists():
        return
    lock = need_optuna().storages.journal.JournalFileSymlinkLock(str(journal))  # that of the journal's writers
    lock.acquire()
    try:
        with open(journal, "rb+") as file:
            content = file.read()
            if content and not content.startswith(b"{"):
                raise UsageError(f"--storage is {str(journal)!r}, which is no journal of Optuna; a database is a URL "
                                 "such as sqlite:///study.db")  # fmt: skip
            file.truncate(content.rfind(b"\n") + 1)
    finally:
        lock.release()
