"""Run folders, JSON lines, hashes, formatted time, progress. Imports no TensorFlow."""
import contextlib
import errno
import fcntl
import hashlib
import json
import os
import re
import secrets
import shutil
import sys
import tempfile

from tqdm import tqdm


class UserError(Exception):
    """Something the user can mend. The message is one line that names the value and the remedy; exit code 1."""
    exit_code = 1


class UsageError(UserError):
    """A wrong flag or combination of flags; exit code 2."""
    exit_code = 2


def printable(text):
    """The text with escapes (\\n, \\x1b) for all that a terminal would not show as it is, so that it stays one line.

    These are control characters, line ends, marks that change the direction of writing, and undecodable bytes.
    """
    return ''.join(char if char.isprintable() else _escape(char) for char in text)


def _escape(char):
    if '\udc80' <= char <= '\udcff':  # what Python makes of a byte of a file name that is not UTF-8
        return f'\\x{ord(char) - 0xdc00:02x}'
    return char.encode('unicode_escape').decode()


def quoted(name):
    """A file's name for a line of output: as it is if plain, else in quotes, so that it can't pass for the rest."""
    if re.fullmatch(r"[\w./+,@%=~^-]+", name):
        return name
    escaped = name.replace('\\', '\\\\').replace('"', '\\"')
    return f'"{printable(escaped)}"'


def format_time(seconds):
    """Formats a duration: '8.2s', '3m 05s', '2h 07m', '4d 11h'."""
    if seconds < 60:
        return f'{seconds:.1f}s'
    seconds = round(seconds)
    if seconds < 60 * 60:
        return f'{seconds // 60}m {seconds % 60:02}s'
    if seconds < 24 * 60 * 60:
        return f'{seconds // 3600}h {seconds // 60 % 60:02}m'
    return f'{seconds // 86400}d {seconds // 3600 % 24:02}h'


class _Bar(tqdm):
    disable = True  # what its destructor reads, of one that a signal has kept from being made
    monitor_interval = 0  # no thread of tqdm's: a signal between its making and its start would show at exit


def progress(iterable=None, **kwargs):
    """A tqdm bar on stderr that vanishes when done and stays silent where stderr is no terminal."""
    return _Bar(iterable, disable=None, leave=False, dynamic_ncols=True, **kwargs)


def sha256_file(path):
    """The hex sha256 of a file's bytes."""
    digest = hashlib.sha256()
    with open(path, 'rb') as file:
        for block in iter(lambda: file.read(1 << 20), b''):
            digest.update(block)
    return digest.hexdigest()


def sha256_folder(path):
    """The hex sha256 over a folder's files: their relative paths in sorted order, each with its own sha256."""
    digest = hashlib.sha256()
    for root, folders, files in os.walk(path):
        folders.sort()
        for name in sorted(files):
            full = os.path.join(root, name)
            relative = os.path.relpath(full, path).replace(os.sep, '/')
            digest.update(f'{relative}\0{sha256_file(full)}\n'.encode())
    return digest.hexdigest()


PRIVATE = 0o077  # the umask of what is secret: readable by its owner only


def make_folder(path, private=False):
    """Creates a folder and its parents. Raises UserError where that is not possible or it can't be written.

    With `private`, the folder, if it is new, is its owner's alone; of one that exists, the owner has decided.
    """
    try:
        os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
        with contextlib.suppress(FileExistsError):
            os.mkdir(path, 0o700 if private else 0o777)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        raise UserError(f'cannot write to {path}: {error.strerror}; choose another folder') from None
    return path


FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # a disk, a quota, the largest file that a process may write


@contextlib.contextmanager
def naming(path):
    """Gives an OSError of a full disk that comes of writing within the block the name of the file, which it lacks."""
    try:
        yield
    except OSError as error:
        if error.errno in FULL and error.filename is None:
            error.filename = path
        raise


@contextlib.contextmanager
def private_files():
    """What is created within the block is readable by its owner only. It is the whole process's umask: be short."""
    before = os.umask(PRIVATE)
    try:
        yield
    finally:
        os.umask(before)


def _allowed(mode):
    """A mode without what the process's umask takes away."""
    mask = os.umask(PRIVATE)
    os.umask(mask)
    return mode & ~mask


INCOMPLETE = '.incomplete'  # how the temporary files and folders of atomic_file and atomic_folder end
REPLACED = '.replaced'       # how a folder that is being replaced is called until its successor is in place


@contextlib.contextmanager
def atomic_folder(path, may_replace=None, private=False):
    """Yields a temporary folder beside `path` that becomes `path` when the block ends well, and vanishes when not.

    A process that is killed outright leaves its temporary folder, `.NAME-xxxxxxxx.incomplete`. The next call with the
    same `path` removes it: a lock that the kernel drops with its process tells whether its maker still lives.

    Args:
        path: the folder to make; its parents are made too.
        may_replace: None if `path` must not exist; else a function of `path` that tells whether the folder there may
            be replaced. It is kept until the new one is whole.
        private: the folder becomes its owner's alone; otherwise the umask decides, as for any folder.

    Raises:
        UserError: `path` exists already and may not be replaced, or its parent can't be written.
    """
    path = os.path.abspath(path)
    parent = make_folder(os.path.dirname(path))
    with naming(path), contextlib.ExitStack() as stack:
        with _alone_in(parent):
            _finish_replacing(path)
            _remove_leftovers(path)
            _check_free(path, may_replace)
            temporary = _free_name(path)
            stack.callback(_remove, temporary)  # before it is made: a signal may come at any moment
            os.mkdir(temporary, 0o700)
            stack.enter_context(_locked(temporary))
        yield temporary
        os.chmod(temporary, 0o700 if private else _allowed(0o777))
        with _alone_in(parent):
            _check_free(path, may_replace)
            _put_in_place(temporary, path)


def _free_name(path):
    """The name of a temporary file or folder for `path`, of none that is there."""
    parent, name = os.path.split(path)
    while True:
        temporary = os.path.join(parent, f'.{name}-{secrets.token_hex(4)}{INCOMPLETE}')
        if not os.path.lexists(temporary):
            return temporary


def _check_free(path, may_replace):
    if not os.path.lexists(path):
        return
    if may_replace is None:
        raise UserError(f'{path} exists already; remove it or choose another folder')
    if os.path.islink(path) or not may_replace(path):
        raise UserError(f'{path} holds other things too, so it is not replaced; choose another folder')


def _put_in_place(temporary, path):
    """Renames a folder to `path`; one that is there makes way first, and is removed last."""
    replaced = os.path.join(os.path.dirname(path), f'.{os.path.basename(path)}{REPLACED}')
    if os.path.lexists(path):
        os.rename(path, replaced)
    os.rename(temporary, path)
    shutil.rmtree(replaced, ignore_errors=True)


def _finish_replacing(path):
    """After a kill while a folder was being replaced: removes it if its successor is there, else brings it back."""
    parent, name = os.path.split(path)
    replaced = os.path.join(parent, f'.{name}{REPLACED}')
    if not os.path.isdir(replaced):
        return
    if os.path.lexists(path):
        shutil.rmtree(replaced, ignore_errors=True)
    else:
        os.rename(replaced, path)


def _remove_leftovers(path, last=None):
    """Removes what killed calls with the same `path` have left.

    last: of a set of files, the one that is named last; while it is absent, `path` goes too if it is such a leftover.
    """
    parent, name = os.path.split(path)
    pattern = re.compile(re.escape(f'.{name}-') + '[a-z0-9_]{8}' + re.escape(INCOMPLETE))
    for found in filter(pattern.fullmatch, os.listdir(parent)):
        leftover = os.path.join(parent, found)
        with contextlib.suppress(OSError), _locked(leftover, wait=False):
            if last and not os.path.lexists(last):  # asked now that its maker has ended, whole or not
                _remove_if(path, os.lstat(leftover))
            _remove(leftover)


def _remove(path):
    """Removes a folder with all in it, or a regular file."""
    if os.path.isdir(path):
        shutil.rmtree(path, ignore_errors=True)
    elif os.path.isfile(path):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)


def _remove_if(path, status):
    """Removes `path` if it is the file of that os.stat_result."""
    with contextlib.suppress(FileNotFoundError):
        if os.path.samestat(os.lstat(path), status):
            _remove(path)


def _lock(path, wait=True):
    """Locks a folder or file; returns the descriptor that holds the lock. Raises OSError if it is locked and `wait` is
    not set.

    A file system without locks gives none: then everything works but leftovers, which nobody can tell from those in
    use, stay.
    """
    # O_NONBLOCK: should a named pipe have that name, opening it does not wait for a writer.
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        if not wait:
            os.close(descriptor)
            raise
    return descriptor


@contextlib.contextmanager
def _locked(path, wait=True):
    descriptor = _lock(path, wait)
    try:
        yield
    finally:
        os.close(descriptor)


def _alone_in(folder):
    """Locks a folder against others that write in it. One that is incomplete is its maker's, who holds its lock."""
    return contextlib.nullcontext() if folder.endswith(INCOMPLETE) else _locked(folder)


@contextlib.contextmanager
def atomic_file(path, mode='w', private=False, new=False):
    """Opens a temporary file beside `path` that replaces `path` when the block ends well, and vanishes when not.

    What a process that is killed outright leaves, `.NAME-xxxxxxxx.incomplete`, the next call with the same `path`
    removes, as in atomic_folder. With `private` the file becomes its owner's alone; otherwise the umask decides. With
    `new` nothing is replaced: FileExistsError is raised, at the end too if another process was faster.
    """
    path = os.path.abspath(path)
    if new and os.path.lexists(path):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), path)
    _remove_leftovers(path)
    with naming(path), contextlib.ExitStack() as stack:
        temporary, file = _begin_file(stack, path, mode)
        yield file
        _finish_file(temporary, file, private)
        if new:
            _name_anew(temporary, path)
        else:
            os.replace(temporary, path)


def write_together(contents, private=False):
    """Writes a set of new files {path: bytes}: all of them or none, and where the last is, the others are.

    All are whole under temporary names, as those of atomic_file, before they are named one right after the other, in
    the order given. Of a process that is killed outright between two of these, the next call with the same paths, or
    remove_unfinished, takes away what was named (but on a file system without links, where it stays).

    Raises FileExistsError: nothing is replaced.
    """
    contents = {os.path.abspath(path): data for path, data in contents.items()}
    remove_unfinished(contents)
    with contextlib.ExitStack() as stack:
        begun = {}
        for path, data in contents.items():
            with naming(path):
                begun[path] = temporary, file = _begin_file(stack, path, 'wb')
                file.write(data)
                _finish_file(temporary, file, private)
        with contextlib.ExitStack() as undone:
            for path, (temporary, file) in begun.items():
                undone.callback(_remove_if, path, os.fstat(file.fileno()))
                with naming(path):
                    _name_anew(temporary, path)
            undone.pop_all()


def remove_unfinished(paths):
    """Removes what a write_together of these paths has left that was killed; a whole set stays."""
    paths = [os.path.abspath(path) for path in paths]
    for path in paths:
        _remove_leftovers(path, last=paths[-1])


def _finish_file(temporary, file, private):
    file.flush()
    os.fsync(file.fileno())
    os.chmod(temporary, 0o600 if private else _allowed(0o666))


def _name_anew(temporary, path):
    """Gives a file the name `path`, unless anything has it. Raises FileExistsError."""
    try:
        os.link(temporary, path)  # the first name is removed by who made it
    except OSError as error:  # or a file system without links
        if isinstance(error, FileExistsError) or os.path.lexists(path):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), path) from None
        os.rename(temporary, path)


def _begin_file(stack, path, mode):
    """(name, file) of a new temporary file, locked; closed and removed with the ExitStack.

    It takes no lock of the folder: that may be a temporary one, which this process holds locked already.
    """
    while True:
        temporary = _free_name(path)
        stack.callback(_remove, temporary)
        file = stack.enter_context(open(temporary, mode, opener=_open_new))
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(file, fcntl.LOCK_EX)
        # Before it was locked, another process may have taken it for a leftover, and removed it.
        if os.path.exists(temporary):
            return temporary, file


def _open_new(path, flags):
    return os.open(path, flags | os.O_EXCL, 0o600)


def write_json(path, value):
    """Writes a JSON file atomically, indented, keys in the order given."""
    with atomic_file(path) as file:
        json.dump(value, file, indent=2)
        file.write('\n')


def read_json(path):
    """The dict that a JSON file holds. Raises UserError where it is missing or broken, or holds something else."""
    try:
        with open(path) as file:
            found = json.load(file)
    except FileNotFoundError:
        raise UserError(f'{path} does not exist') from None
    except (OSError, ValueError) as error:
        raise UserError(f'{path} cannot be read: {error}') from None
    if not isinstance(found, dict):
        raise UserError(f'{path} is damaged: it holds no JSON object')
    return found


def append_json_line(path, record):
    """Appends one record to a JSON-lines file in a single write, so that a kill leaves whole lines but the last."""
    with naming(path), open(path, 'a') as file:
        file.write(json.dumps(record) + '\n')


def read_json_lines(path):
    """The records of a JSON-lines file; a half-written last line is left out. An absent file has none."""
    if not os.path.exists(path):
        return []
    with open(path) as file:
        lines = file.read().split('\n')
    return [json.loads(line) for line in lines[:-1] if line]


def keep_json_lines(path, keep):
    """Rewrites a JSON-lines file atomically with the records for which `keep(record)` holds."""
    records = [record for record in read_json_lines(path) if keep(record)]
    with atomic_file(path) as file:
        file.writelines(json.dumps(record) + '\n' for record in records)


class Log:
    """Prints lines and appends them to a file as well."""

    def __init__(self, path=None):
        self.path = path

    def __call__(self, line=''):
        tqdm.write(line, file=sys.stdout)
        sys.stdout.flush()
        if self.path:
            with naming(self.path), open(self.path, 'a') as file:
                file.write(line + '\n')
