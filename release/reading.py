"""Reading files beside what is done with them: several at once, their results in order, few of them in memory."""
import collections
import concurrent.futures
import dataclasses
import hashlib
import os
from collections.abc import Iterable, Iterator
from typing import Any, Callable, Optional

import numpy as np

from dnnlib.images import MAX_FILE_BYTES, ImageError, decode
from release.inputs import Input
from release.sizes import fitted

THREADS = min(4, os.cpu_count() or 1)  # Pillow decodes without Python's lock
AHEAD = 128                            # pictures read before they are asked for: small ones, at the model's size


@dataclasses.dataclass(frozen=True)
class Picture:
    """A file that was read.

    sha256: of its bytes; None if they could not be read. error: why there are no versions.
    versions: {way: uint8 [side, side, 3]}, the ways to see it at the model's size (release.sizes).
    """
    path: str
    sha256: Optional[str] = None
    error: Optional[str] = None
    versions: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)


def read_picture(one: Input, side: int) -> Picture:
    """Reads one Input for a model of `side` pixels. Raises nothing: what is wrong is in the Picture."""
    digest = None
    try:
        if one.error:
            raise ImageError(one.error)
        data = one.read()
        digest = hashlib.sha256(data).hexdigest()
        return Picture(one.path, digest, versions=fitted(decode(data), side))
    except ImageError as error:
        return Picture(one.path, digest, error=str(error))


def in_order(function: Callable[[Input], Any], inputs: Iterable[Input]) -> Iterator[Any]:
    """Yields function(input) for each, in order, worked out in several threads up to AHEAD of what was asked for.

    Inputs that hold their bytes wait for each other, so that no more than MAX_FILE_BYTES and one of them are held.
    """
    waiting, held = collections.deque(), 0
    with concurrent.futures.ThreadPoolExecutor(THREADS) as pool:
        try:
            for one in inputs:
                waiting.append((pool.submit(function, one), one.held))
                held += one.held
                while len(waiting) > AHEAD or held > MAX_FILE_BYTES:
                    first, size = waiting.popleft()
                    held -= size
                    yield first.result()
            while waiting:
                yield waiting.popleft()[0].result()
        finally:
            for future, _ in waiting:
                future.cancel()
