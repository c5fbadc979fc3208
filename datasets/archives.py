"""Collections of encoded images: a folder, a zip, an LMDB, a TensorFlow Datasets folder. Each yields bytes."""
import dataclasses
import lzma
import os
import zipfile
import zlib
from collections.abc import Callable, Iterable
from typing import Any, Optional

from dnnlib.images import MAX_FILE_BYTES, NOT_ACCEPTED, SUFFIXES, ImageError, read_file
from dnnlib.util import UserError

NOT_AN_IMAGE = 'not an image'  # by its name
OTHER_SUFFIXES = ('.avif', '.heic', '.heif', '.jp2', '.j2k', '.jxl', '.ico', '.psd', '.svg', '.eps', '.tga', '.dds')
# What reading a damaged zip raises; RuntimeError if it is encrypted or compressed in a way that is not known.
DAMAGED = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, RuntimeError, EOFError, OSError, ValueError)
MAX_RATIO = 200  # images hardly compress; Deflate alone reaches 1032


@dataclasses.dataclass
class Archive:
    """Encoded images.

    Attributes:
        items: the images in order, as `load` and `name` take them; for files their names, sorted.
        load: from an item to an image file's bytes; raises ImageError. Safe to call from several threads.
        total: how many items there are.
        name: from an item to what it is called.
        others: (name, reason) of what lies beside them and is not taken for an image.
    """
    items: Iterable[Any]
    load: Callable[[Any], bytes]
    total: Optional[int]
    name: Callable[[Any], str] = str
    others: list[tuple[str, str]] = dataclasses.field(default_factory=list)


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
    what = 'is neither a folder nor a file' if os.path.lexists(path) else 'does not exist'
    raise UserError(f'{path} {what}; give a folder or a zip of images, or an LMDB folder')


def is_image(name):
    """Whether a file is taken for an image, by its name."""
    return name.lower().endswith(SUFFIXES) and not os.path.basename(name).startswith('.')


def other(name):
    """(name, reason) of a file whose name is not that of an accepted image."""
    accepted = not name.lower().endswith(OTHER_SUFFIXES)
    return name, NOT_AN_IMAGE if accepted else NOT_ACCEPTED


def list_images(path):
    """Lists a folder of image files, searched recursively; links to folders are not followed.

    Returns:
        (names, others): the images' names relative to the folder, sorted, and (name, reason) of everything else.

    Raises:
        UserError: the folder itself can't be listed.
    """
    names, others = [], []

    def relative(root, name):
        return os.path.relpath(os.path.join(root, name), path).replace(os.sep, '/')

    def unreadable(error):
        if error.filename == path:
            raise UserError(f'{path} cannot be listed ({error.strerror}); check its permissions')
        others.append((os.path.relpath(error.filename, path), f'unreadable ({error.strerror})'))

    for root, folders, files in os.walk(path, onerror=unreadable):
        others += [(relative(root, name), 'a link to a folder, which is not followed') for name in folders
                   if os.path.islink(os.path.join(root, name))]
        found = [relative(root, name) for name in files]
        names += filter(is_image, found)
        others += [other(name) for name in found if not is_image(name)]
    return sorted(names), sorted(others)


def _open_folder(path):
    names, others = list_images(path)
    return Archive(names, lambda name: read_file(os.path.join(path, name)), len(names), others=others)


def _open_zip(path):
    """Entries are read in place, never extracted: what their names say of folders does not matter."""
    try:
        archive = zipfile.ZipFile(path)
        entries = [entry for entry in archive.infolist() if not entry.is_dir()]
        _refuse_inner(path, archive)
    except DAMAGED as error:
        raise UserError(f'{path} is neither a folder nor a readable zip ({error}); give one of images') from None
    files = {entry.filename: entry for entry in entries}
    names = sorted(name for name in files if is_image(name))
    others = [other(name) for name in files if not is_image(name)]
    others += [(entry.filename, 'replaced by a later entry of that name in the zip') for entry in entries
               if entry is not files[entry.filename]]
    _refuse_bomb(path, [files[name] for name in names])

    def load(name):
        try:
            return archive.read(files[name])
        except DAMAGED:
            raise ImageError('damaged or encrypted within the zip') from None

    return Archive(names, load, len(names), others=sorted(others))


def _refuse_inner(path, archive):
    """Raises UserError if a zip was cut so that the directory found at its end is that of a zip stored within it.

    Entries then come before the first one in that directory. A program may come before a zip, entries may not.
    """
    with open(path, 'rb') as file:
        begins_with_entry = file.read(4) == b'PK\3\4'
    if begins_with_entry and archive.infolist() and min(entry.header_offset for entry in archive.infolist()) > 0:
        raise UserError(f'{path} is cut short or damaged: its directory leaves out its first entries; restore it')


def _refuse_bomb(path, entries):
    """Raises UserError if a zip's images would unpack to absurd sizes, each or together."""
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

    def items():
        try:
            with environment.begin() as transaction:
                yield from transaction.cursor()
        except lmdb.Error as error:
            raise UserError(f'{path} is damaged ({error}); download it again') from None

    return Archive(items(), lambda item: item[1], total, name=lambda item: os.fsdecode(item[0]))


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

    def items():
        try:
            yield from enumerate(example['image'] for example in examples.as_numpy_iterator())
        except tf.errors.OpError as error:
            reason = error.message.splitlines()[0]
            raise UserError(f'{builder.data_dir} is damaged ({reason}); prepare it again') from None

    return Archive(items(), lambda item: item[1], builder.info.splits['train'].num_examples,
                   name=lambda item: f'example {item[0]}')
