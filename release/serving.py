"""TensorFlow Serving's configuration: every live instance of a registry, and no revoked one."""
import dataclasses
import os
from typing import Optional

from dnnlib.util import UserError, atomic_file, make_folder, progress, sha256_folder
from fingerprints.instances import ISSUED, Instance
from fingerprints.registry import Registry
from release.warmup import BATCH_SIZES

MODELS, BATCHING = 'models.config', 'batching.config'
DECODER = 'decoder'
HEADER = '# Written by serve-config, which replaces this file.\n'
DELAY = 2000   # microseconds that a request waits for others to share its batch
QUEUE = 100    # batches that wait at most; further requests are refused


@dataclasses.dataclass(frozen=True)
class Served:
    """What a configuration serves: names in the order of issue; why an instance is left out, by name."""
    names: tuple[str, ...]
    revoked: tuple[str, ...]
    left_out: dict[str, str]


def write_serving_config(registry: Registry, out: str, instances: Optional[str] = None, base: Optional[str] = None,
                         decoder: Optional[str] = None, threads: int = 2) -> Served:
    """Writes OUT/models.config and OUT/batching.config.

    A server that is started with --model_config_file_poll_wait_seconds takes revoked instances out by itself when the
    file is written anew, and new ones in. An instance whose files are gone, or not those of the ledger, is left out;
    the others are served, so that a revocation never waits for it.

    Args:
        registry: who has an instance.
        out: a folder, made if absent; both files are replaced, if they begin with HEADER.
        instances: the folder of all instances; where they were issued if not given.
        base: the folder of all instances as the server sees it, such as /models; `instances` if not given.
        decoder: the folder of an exported decoder as the server sees it, to be served too.
        threads: how many batches are drawn at once: as many as the server has cores.

    Raises:
        UserError: a file is there that was not written so; an instance has the decoder's name.
    """
    for name in (BATCHING, MODELS):
        _check_own(os.path.join(out, name))
    live = [one for one in registry.list() if one.state == ISSUED]
    checked = {one.name: _wrong(one, _folder(one, instances)) for one in progress(live, desc='check', unit='instance')}
    served = [one for one in live if not checked[one.name]]
    models = [_model(one.name, _seen_folder(one, instances, base)) for one in served]
    if decoder:
        if any(one.name.lower() == DECODER for one in served):
            raise UserError(f'an instance is called {DECODER!r} already; serve the decoder from a server of its own')
        models.append(_model(DECODER, decoder))
    make_folder(out)
    for name, text in ((BATCHING, batching_config(threads)), (MODELS, _listed(models))):
        with atomic_file(os.path.join(out, name)) as file:
            file.write(HEADER + text)
    revoked = tuple(one.name for one in registry.list() if one.state != ISSUED)
    return Served(tuple(one.name for one in served), revoked, {name: why for name, why in checked.items() if why})


def _check_own(path):
    if not os.path.lexists(path):
        return
    try:
        with open(path, errors='replace') as file:
            own = file.read(len(HEADER)) == HEADER
    except OSError:
        own = False
    if not own:
        raise UserError(f'{path} was not written by serve-config, which would replace it; move it away, or choose '
                        'another folder with --out')


def batching_config(threads: int) -> str:
    """The text of a BatchingParameters: requests share batches of the sizes that were warmed up."""
    return (f'max_batch_size {{ value: {BATCH_SIZES[-1]} }}\nbatch_timeout_micros {{ value: {DELAY} }}\n'
            f'num_batch_threads {{ value: {threads} }}\nmax_enqueued_batches {{ value: {QUEUE} }}\n'
            + ''.join(f'allowed_batch_sizes: {size}\n' for size in BATCH_SIZES))


def _folder(instance: Instance, instances):
    """Where the instance's SavedModel lies."""
    if instances is None:
        return instance.location
    return os.path.join(instances, instance.name, os.path.basename(instance.location))


def _seen_folder(instance, instances, base):
    """The folder above, as the server sees it."""
    return os.path.join(base, instance.name) if base else os.path.dirname(os.path.abspath(_folder(instance, instances)))


def _wrong(instance, folder):
    """Why an instance can't be served; None if it can."""
    if not os.path.isdir(folder):
        return f'{folder} is not there; name the folder of all instances with --instances'
    if sha256_folder(folder) != instance.digest:
        return f'{folder} is not what was issued; write it anew with reissue'
    return None


def _model(name, folder):
    return f'  config {{ name: {_text(name)} base_path: {_text(folder)} model_platform: "tensorflow" }}\n'


def _text(value):
    """A string in protobuf's text format: the bytes of UTF-8, all but plain ones escaped in octal."""
    plain = ''.join(chr(byte) if 32 <= byte < 127 and chr(byte) not in '"\\' else f'\\{byte:03o}'
                    for byte in value.encode('utf-8', 'surrogateescape'))
    return f'"{plain}"'


def _listed(models):
    return f'model_config_list {{\n{"".join(models)}}}\n'
