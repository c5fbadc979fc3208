"""Collections of encoded images: a folder, a zip, an LMDB, a TensorFlow Datasets folder. Each yields bytes."""
import dataclasses
import os
import zipfile
import zlib
from collections.abc import Callable, Iterable
from typing import Any, Optional

from datasets.pictures import SUFFIXES, Skip
from dnnlib.util import UserError

MAX_FILE_BYTES = 256 << 20
MAX_RATIO = 200  # images hardly compress; Deflate alone reaches 1032


@dataclasses.dataclass
class Archive:
    """Encoded images.

    Attributes:
        items: the images in order, as `load` takes them; `names` where they are files, sorted.
        load: from an item to an image file's bytes; raises Skip. Safe to call from several threads.
        total: how many items there are.
        others: the number of files beside them that no image format's name ends with.
    """
    items: Iterable[Any]
    load: Callable[[Any], bytes]
    total: Optional[int]
    others: int = 0


def open_archive(path):
    """Opens a folder of image files (searched recursively), a zip of them, or the folder of an LMDB.

    Raises:
        UserError: there is nothing, it is something else, damaged, or a zip bomb.
    """
    if os.path.isfile(os.path.join(path, 'data.mdb')):
        return _open_lmdb(path)
    if os.path.isdir(path):
        return _open_folder(path)
    if os.path.isfile(path):
        return _open_zip(path)
    raise UserError(f'{path} does not exist; give a folder or a zip of images, or an LMDB folder')


def _is_image(name):
    return name.lower().endswith(SUFFIXES) and not os.path.basename(name).startswith('.')


def _open_folder(path):
    files = [os.path.relpath(os.path.join(root, name), path) for root, _, names in os.walk(path) for name in names]
    names = sorted(name.replace(os.sep, '/') for name in files if _is_image(name))

    def load(name):
        full = os.path.join(path, name)
        try:
            if os.path.getsize(full) > MAX_FILE_BYTES:
                raise Skip(f'larger than {MAX_FILE_BYTES >> 20} MiB')
            with open(full, 'rb') as file:
                return file.read()
        except OSError:
            raise Skip('unreadable') from None

    return Archive(names, load, len(names), len(files) - len(names))


def _open_zip(path):
    """Entries are read in place, never extracted: what their names say of folders does not matter."""
    try:
        archive = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, OSError) as error:
        raise UserError(f'{path} is neither a folder nor a readable zip ({error}); give one of images') from None
    files = {entry.filename: entry for entry in archive.infolist() if not entry.is_dir()}
    names = sorted(name for name in files if _is_image(name))
    _refuse_bomb(path, [files[name] for name in names])

    def load(name):
        try:
            return archive.read(files[name])
        except (zipfile.BadZipFile, zlib.error, RuntimeError, EOFError, OSError):  # encrypted is a RuntimeError
            raise Skip('damaged or encrypted within the zip') from None

    return Archive(names, load, len(names), len(files) - len(names))


def _refuse_bomb(path, entries):
    """Raises UserError where a zip's images would unpack to absurd sizes, each or together."""
    largest = max(entries, key=lambda entry: entry.file_size, default=None)
    if largest and largest.file_size > MAX_FILE_BYTES:
        raise UserError(f'{path} looks like a zip bomb: {largest.filename} would unpack to '
                        f'{largest.file_size / 1e6:.0f} MB; remove it from the zip')
    total = sum(entry.file_size for entry in entries)
    if total > max(MAX_FILE_BYTES, MAX_RATIO * os.path.getsize(path)):
        raise UserError(f'{path} looks like a zip bomb: {os.path.getsize(path) / 1e6:.1f} MB would unpack to '
                        f'{total / 1e6:.0f} MB; if it is none, unpack it and give the folder')


def _open_lmdb(path):
    import lmdb
    try:
        environment = lmdb.open(path, readonly=True, lock=False, readahead=False)
        total = environment.stat()['entries']
    except lmdb.Error as error:
        raise UserError(f'{path} is no readable LMDB ({error}); download it again') from None

    def values():
        try:
            with environment.begin() as transaction:
                yield from (value for _, value in transaction.cursor())
        except lmdb.Error as error:
            raise UserError(f'{path} is damaged ({error}); download it again') from None

    return Archive(values(), bytes, total)


def open_tfds(name, data_dir):
    """Opens the 'train' split of a dataset which TensorFlow Datasets has prepared, such as 'celeb_a', 'lsun/bedroom'.

    Raises:
        UserError: it is not in `data_dir`.
    """
    import tensorflow as tf  # here: these two take seconds to import
    import tensorflow_datasets as tfds
    builder = tfds.builder(name, data_dir=data_dir)
    if not builder.is_prepared():
        raise UserError(f'{data_dir} holds no prepared {name}; prepare it: python -c "import tensorflow_datasets as '
                        f'tfds; tfds.builder(\'{name}\', data_dir=\'{data_dir}\').download_and_prepare()"')
    encoded = tfds.decode.PartialDecoding({'image': True}, {'image': tfds.decode.SkipDecoding()})
    examples = builder.as_dataset(split='train', shuffle_files=False, decoders=encoded)

    def values():
        try:
            yield from (example['image'] for example in examples.as_numpy_iterator())
        except tf.errors.OpError as error:
            reason = error.message.splitlines()[0]
            raise UserError(f'{builder.data_dir} is damaged ({reason}); prepare it again') from None

    return Archive(values(), bytes, builder.info.splits['train'].num_examples)
