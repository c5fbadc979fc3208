"""Times as the ledger spells them: UTC, ISO 8601, whole seconds, so that their text sorts as they do."""
import datetime
from typing import Optional

from dnnlib.util import UsageError


def now() -> str:
    """The time now."""
    return datetime.datetime.now(datetime.timezone.utc).isoformat(timespec='seconds')


def past_time(text: Optional[str]) -> Optional[str]:
    """A time that someone wrote in ISO 8601, in this spelling; local if it names no zone. None for None.

    Raises:
        UsageError: it can't be read, or is in the future.
    """
    if text is None:
        return None
    try:
        moment = datetime.datetime.fromisoformat(text.replace('Z', '+00:00'))
    except ValueError:
        raise UsageError(f'{text!r} is no time; write 2026-11-24T15:30:00+00:00') from None
    moment = moment if moment.tzinfo else moment.astimezone()
    moment = moment.astimezone(datetime.timezone.utc)
    if moment > datetime.datetime.now(datetime.timezone.utc):
        raise UsageError(f'{text} is in the future; give the time when the misuse became known')
    return moment.isoformat(timespec='seconds')
