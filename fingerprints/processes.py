"""Which process made a reservation, and whether it still runs: a killed command's reservation may be taken over."""
import getpass
import os
import socket
from typing import Any


def this_process() -> dict[str, Any]:
    """The host, the process's number, and when it started, which tells it from a later one of the same number."""
    return {'host': socket.gethostname(), 'pid': os.getpid(), 'started': _started(os.getpid())}


def has_ended(process: dict[str, Any]) -> bool:
    """Whether a process is known to have ended: on this host, and gone. Of other hosts nothing is known."""
    if process.get('host') != socket.gethostname():
        return False
    return not _is_running(process['pid']) or _started(process['pid']) != process.get('started')


def describe(process: dict[str, Any]) -> str:
    """A process in words."""
    return f'process {process.get("pid", "unknown")} on {process.get("host", "an unknown host")}'


def _is_running(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # it is another user's, but it is there
        return True
    return True


def _started(pid):
    """The process's start in the kernel's ticks since boot; None if the system does not tell (it is not Linux)."""
    try:
        with open(f'/proc/{pid}/stat') as file:
            after_name = file.read().rpartition(')')[2].split()
    except OSError:
        return None
    return int(after_name[19])


def current_actor() -> str:
    """The system's user and host, 'alice@server'."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        user = 'unknown'
    return f'{user}@{socket.gethostname()}'
