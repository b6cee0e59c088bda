"""SIGTERM ends a run at once, with one line and status 143."""

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from lightning.pytorch.utilities.exceptions import SIGTERMException

from .lock import first_process

STATUS = 143  # 128 + SIGTERM, as shells report it


class Terminated(BaseException):
    """SIGTERM has arrived. Not an Exception, so that no ``except Exception`` on the way catches it."""


@contextmanager
def ends_on_sigterm(hint: str) -> Iterator[None]:
    """Turn SIGTERM into one line and status 143; partly written files are removed on the way out.

    Lightning alone would finish the batch, or the whole test. A batch system sends the signal to the whole process
    group, data loading workers included: any error after the signal counts as caused by it.

    Args:
        hint: What to do next, printed after "terminated".

    Raises:
        SystemExit: SIGTERM has arrived; the status is 143.
    """
    if threading.current_thread() is not threading.main_thread():  # only the main thread can handle signals
        yield
        return
    arrived = False

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal arrived
        if not arrived:  # a second one, as systemd and Slurm may send, must not interrupt the clean-up
            arrived = True
            if hasattr(signal, "SIGCHLD"):  # torch would report the end of each worker as an error, even while we exit
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            raise Terminated

    before = signal.signal(signal.SIGTERM, handle)
    try:
        yield
    except BaseException as error:
        if not arrived and not isinstance(error, SIGTERMException):
            raise
        if first_process():
            print(f"siglip2: terminated{hint}", file=sys.stderr)
        raise SystemExit(STATUS) from error
    finally:
        signal.signal(signal.SIGTERM, before)
