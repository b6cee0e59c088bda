"""scipy's reader of MATLAB 5 files in a process of its own, because a damaged file can crash or hang it."""

import multiprocessing
from pathlib import Path
from typing import Any

import scipy.io

_SECONDS = 20  # for the first file, with the imports


class ScipyProcess:
    """Reads files one after the other; a process that has crashed or hangs is replaced."""

    def __init__(self) -> None:
        self._start()

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs,), daemon=True)
        self.process.start()
        theirs.close()

    def load(self, path: Path, keys: list[str]) -> dict[str, Any] | None:
        """The arrays of these names; ``None`` if scipy crashes or hangs.

        Raises:
            Exception: What scipy raises.
        """
        self.connection.send((str(path), keys))
        try:
            found = self.connection.recv() if self.connection.poll(_SECONDS) else None
        except EOFError:
            found = None
        if found is None:
            self.process.kill()
            self._start()
        if isinstance(found, str):
            raise ValueError(found)
        return found


def _serve(connection: Any) -> None:
    while True:
        path, keys = connection.recv()
        try:
            content = scipy.io.loadmat(path, variable_names=keys)
            found: Any = {key: content[key] for key in keys}
        except Exception as error:
            found = f"{type(error).__name__}: {error}"
        connection.send(found)
