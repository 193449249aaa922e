"""Files written whole or not at all."""

import os
import secrets
from pathlib import Path

from jaxnodes.errors import JaxNodesError


def write_atomically(path: str | Path, data: bytes) -> None:
    """Writes a file such that whoever reads it, whenever, finds all of the old or of the new.

    Raises:
      JaxNodesError: a folder that isn't there or can't be written to, or a full disk.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
    try:
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        _sync_folder(path.parent)
    except OSError as error:
        raise unusable(error, path, "a file that can be written", "save") from None
    finally:
        temporary.unlink(missing_ok=True)


def read_file(path: Path, where: str) -> bytes:
    """The bytes of a file."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise unusable(error, path, "a file that can be read", where) from None


def _sync_folder(folder: Path) -> None:
    """Makes the new name last through a power cut, where folders can be synced (POSIX)."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def unusable(error: OSError, path: Path, expected: str, where: str) -> JaxNodesError:
    """What the operating system says of a path, as an error that users see."""
    reason = error.strerror or type(error).__name__
    return JaxNodesError(f"expected {expected}, got {path} ({reason})", where)
