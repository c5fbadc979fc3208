"""What the public may be told of an image: made by this model, or not known to be. No user, no number, no registry."""
import collections
import json
from collections.abc import Iterable, Iterator
from typing import Any

from dnnlib.util import printable, quoted
from release.attribute import Result, recorded_name

MADE, UNKNOWN, ERROR = 'made by this model', 'not known to be made by this model', 'error'


def outcome(result: Result) -> str:
    """MADE, if one or more users' codes reach the threshold; UNKNOWN; or ERROR."""
    if result.error:
        return ERROR
    return MADE if result.attribution.over_threshold else UNKNOWN


def as_text(result: Result) -> str:
    """One line: the file and the outcome."""
    said = f'error: {printable(result.error)}' if result.error else outcome(result)
    return f'{quoted(result.path)}: {said}'


def as_json(result: Result, context: dict[str, Any]) -> str:
    """One JSON object in a line. Of the model and the decoder's answers it has the model's digest alone.

    How many bits match is not told either: it would guide whoever edits a picture until it is not recognised.
    """
    record = {'image': recorded_name(result.path), 'sha256': result.sha256}
    said = {'error': result.error} if result.error else {'made_by_this_model': outcome(result) == MADE}
    return json.dumps({**record, **said, **{key: context[key] for key in ('fpr', 'model_digest', 'version')}})


def detection_lines(results: Iterable[Result], as_objects: bool, context: dict[str, Any],
                    counts: collections.Counter) -> Iterator[str]:
    """Yields a line per result, in JSON if `as_objects`, and counts the outcomes in `counts` on the way."""
    for result in results:
        counts[outcome(result)] += 1
        yield as_json(result, context) if as_objects else as_text(result)


def summary(counts: collections.Counter) -> str:
    """One line such as '3 images: 2 made by this model, 1 error'."""
    total = sum(counts.values())
    parts = ', '.join(f'{count} {name}' + ('s' if name == ERROR and count > 1 else '')
                      for name, count in counts.most_common())
    return f'{total} {"image" if total == 1 else "images"}: {parts or "nothing to look at"}'


def exit_code(counts: collections.Counter) -> int:
    """0 if an image was made by this model, 3 if none is known to be, 1 if any could not be read."""
    if counts[ERROR]:
        return 1
    return 0 if counts[MADE] else 3
