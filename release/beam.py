"""Attribution on many machines: the read, decode and match of `release.attribute` as an Apache Beam pipeline.

The launcher looks at the registry and lists the images; a worker reads, decodes and matches. It needs this project
installed, the run's folder (training_options.json and released/), the images at the paths they were listed by, and what
the launcher leaves in a folder for the time being: the users' codes and the list of images.
"""
import contextlib
import dataclasses
import functools
import io
import json
import os
import tempfile
from collections.abc import Iterable, Iterator
from typing import Optional

import apache_beam as beam
import numpy as np
from apache_beam.io.filesystem import BeamIOError, CompressionTypes
from apache_beam.io.filesystems import FileSystems
from apache_beam.metrics import Metrics, MetricsFilter
from apache_beam.options.pipeline_options import PipelineOptions, StandardOptions
from apache_beam.utils.shared import Shared

from dnnlib.images import MAX_FILE_BYTES, ImageError
from dnnlib.util import UserError, private_files
from fingerprints.matching import PackedCodes
from release.attribute import BATCH, Attributor, Users
from release.inputs import URL, Input, Inputs
from release.members import is_archive
from release.reading import Picture, read_picture
from release.results import ERROR, Tally, as_json

COUNTED = 'attribute'   # the namespace of the counters
OTHERS = 'others'       # counts what is no image within archives
SUFFIX = '.jsonl'
LOCAL_RUNNERS = StandardOptions.LOCAL_RUNNERS
PLAIN = CompressionTypes.UNCOMPRESSED
ERRORS = (OSError, BeamIOError, ValueError)  # of Beam's file systems; the last for an address of none of them


@dataclasses.dataclass(frozen=True)
class Job:
    """What a pipeline does.

    run_dir, fpr, flags (align, soft, search, collusion, redraw): as of Attributor.
    out: the beginning of the results' names. folder: where the launcher's files lie; None for one on this machine.
    """
    run_dir: str
    fpr: float
    flags: dict[str, bool]
    out: str
    folder: Optional[str] = None


def listed(inputs: Iterable[Input]) -> Iterator[Input]:
    """Yields Inputs; instead of those that are addresses (gs://…), the files that Beam's file systems find there."""
    for one in inputs:
        yield from _at_address(one.path) if _is_address(one.path) else [one]


def _is_address(path):
    return URL.match(path) and not os.path.lexists(path)


def _at_address(address):
    try:
        (match,) = FileSystems.match([address])
    except ERRORS as error:
        yield Input(address, _line(error))
        return
    for found in match.metadata_list:
        packed = is_archive(found.path)
        yield Input(found.path, 'an archive that is no local file; unpack it' if packed else None)
    if not match.metadata_list:
        yield Input(address, 'matches no file')


def _line(error):
    return ' '.join(str(error).split())


def read_address(address: str) -> bytes:
    """The bytes of a file that Beam's file systems know. Raises ImageError."""
    try:
        with FileSystems.open(address) as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except ERRORS as error:
        raise ImageError(f'unreadable ({_line(error)})') from None
    if len(data) > MAX_FILE_BYTES:
        raise ImageError(f'larger than {MAX_FILE_BYTES >> 20} MiB')
    return data


class Read(beam.DoFn):
    """Inputs → Pictures at the model's side; an archive gives one for each of its images."""

    def __init__(self, side: int):
        self.side, self.others = side, Metrics.counter(COUNTED, OTHERS)

    def process(self, one: Input) -> Iterator[Picture]:
        inputs = Inputs([])
        for image in inputs.unpacked(one.path) if one.packed else [_readable(one)]:
            yield read_picture(image, self.side)
        self.others.inc(inputs.others)


def _readable(one):
    if one.error or not _is_address(one.path):
        return one
    return Input(one.path, load=functools.partial(read_address, one.path))


class Attribute(beam.DoFn):
    """Lists of Pictures → JSON lines, as `attribute --json` prints them. A process loads the model once.

    Args:
        run_dir: the training run. users: the file that `write_users` made.
        fpr: as of Attributor. flags: its align, soft, search, collusion and redraw.
    """

    def __init__(self, run_dir: str, users: str, fpr: float, flags: dict[str, bool]):
        self.run_dir, self.users, self.fpr, self.flags = run_dir, users, fpr, flags
        self.shared = Shared()

    def setup(self) -> None:
        self.attributor = self.shared.acquire(lambda: Attributor(self.run_dir, read_users(self.users), **self.flags))
        self.context = {'fpr': self.fpr, **self.attributor.provenance}

    def process(self, pictures: list[Picture]) -> Iterator[str]:
        for result in self.attributor.conclude(pictures, self.fpr):
            Metrics.counter(COUNTED, ERROR if result.error else result.attribution.reason).inc()
            yield as_json(result, self.context)


def write_users(users: Users, path: str) -> None:
    """Writes Users for `read_users`, wherever Beam's file systems reach."""
    rest = {'model_digest': users.model_digest, 'names': users.names, 'revoked': users.revoked,
            'num_bits': users.codes.num_bits}
    with FileSystems.create(path, compression_type=PLAIN) as file:
        np.savez(file, codes=users.codes.data, rest=np.frombuffer(json.dumps(rest).encode(), np.uint8))


def read_users(path: str) -> Users:
    """What `write_users` wrote."""
    with FileSystems.open(path, compression_type=PLAIN) as file, np.load(io.BytesIO(file.read())) as arrays:
        rest = json.loads(arrays['rest'].tobytes())
        codes = PackedCodes(arrays['codes'], rest.pop('num_bits'))
    return Users(codes=codes, **rest)


def write_list(inputs: Iterable[Input], path: str) -> None:
    """Writes Inputs, each as a JSON line, for `from_line`."""
    with FileSystems.create(path, compression_type=PLAIN) as file:
        for one in inputs:
            file.write(f'{json.dumps([one.path, one.error, one.packed])}\n'.encode())


def from_line(line: str) -> Input:
    """The Input of a line."""
    path, error, packed = json.loads(line)
    return Input(path, error, packed=packed)


@contextlib.contextmanager
def working_folder(address: Optional[str]) -> Iterator[str]:
    """A folder for the launcher's files, removed at the end: a new one at `address`, or on this machine.

    On a disk it is its owner's alone. Raises UserError if there is one already, or Beam can't write there.
    """
    if not address:
        with tempfile.TemporaryDirectory() as folder:
            yield folder
        return
    with _told(f'--working-folder={address}'), private_files():
        if FileSystems.exists(address):
            raise UserError(f'--working-folder={address} exists already; name a new one')
        FileSystems.mkdirs(address)
    try:
        yield address
    finally:
        FileSystems.delete([address])


def check_new(out: str) -> None:
    """Raises UserError if there are results of that name, or Beam knows no such place."""
    with _told(f'--out={out}'):
        (match,) = FileSystems.match([f'{out}-*-of-*'])
    if match.metadata_list:
        raise UserError(f'--out={out}: there is {match.metadata_list[0].path} already; choose another name')


@contextlib.contextmanager
def _told(what):
    """Makes one line of what Beam's file systems refuse."""
    try:
        yield
    except (*ERRORS, ImportError) as error:
        raise UserError(f'{what}: {_line(error)}') from None


def run(words: Iterable[str], attributor: Attributor, job: Job, options: PipelineOptions) -> tuple[Tally, int]:
    """Runs the pipeline, which writes OUT-00000-of-0000N.jsonl.

    Args:
        words: as of Inputs. attributor: the launcher's own. options: Beam's.

    Returns:
        (what was counted, the number of files in folders and archives that are no images).
    """
    inputs = Inputs(words, unpack=False)
    with working_folder(job.folder) as folder:
        users, images = (FileSystems.join(folder, name) for name in ('users.npz', 'images.jsonl'))
        write_users(attributor.users, users)
        write_list(listed(inputs), images)
        with _told('--runner, --pipeline'):
            pipeline = beam.Pipeline(options=options)
        _ = (pipeline
             | 'list' >> beam.io.ReadFromText(images, compression_type=PLAIN)
             | 'images' >> beam.Map(from_line)
             | 'spread' >> beam.Reshuffle()
             | 'read' >> beam.ParDo(Read(attributor.model.resolution))
             | 'batch' >> beam.BatchElements(min_batch_size=BATCH, max_batch_size=BATCH)
             | 'decode and match' >> beam.ParDo(Attribute(job.run_dir, users, job.fpr, job.flags))
             | 'write' >> beam.io.WriteToText(job.out, SUFFIX))
        result = _finished(pipeline)
    return _counted(result, inputs.others)


def _finished(pipeline):
    """A pipeline's result. Raises UserError if it fails, for what its workers say first."""
    try:
        result = pipeline.run()
        result.wait_until_finish()
        return result
    except (RuntimeError, UserError) as error:
        raise UserError(f'the pipeline failed: {str(error).strip().splitlines()[-1]}') from None


def _counted(result, others):
    tally = Tally()
    for counter in result.metrics().query(MetricsFilter().with_namespace(COUNTED))['counters']:
        reason, count = counter.key.metric.name, counter.result
        if reason == OTHERS:
            others += count
        else:
            tally.count(reason, None, count)
    return tally, others
