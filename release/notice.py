"""The letter that tells a user that their licence is revoked, as California's SB 942 asks of who licenses a model."""
from fingerprints.instances import HOURS_TO_REVOKE, Instance

NOTICE = '''\
Subject: Your licence for the image generator "{name}" is revoked

To: {user}

The instance of our image generator that you received as "{name}"
  issued on        {issued_at}
  sha256           {digest}{onnx}
may no longer be used. Its licence {revoked}.

Reason: {reason}
{known}
Stop using this instance and every copy of it now, and have everyone stop to whom
you passed it on. Images that it drew stay attributable to it.

Please confirm in writing that you have done so.
'''

# Only for what is noted as a misuse: the law speaks of changes that keep a system from including its disclosures.
KNOWN = '''
We learned of it on {known_at}. By section 22757.3 (c) of
California's Business and Professions Code (SB 942), a licence is revoked within {hours}
hours of discovering that a licensee's changes keep a system from including its
disclosures, here by {deadline}, and the licensee shall cease
using the system after that.
'''


def notice(instance: Instance) -> str:
    """The text of a letter to the user of an instance; whoever sends it has it checked by a lawyer first."""
    known = '' if instance.known_at is None else KNOWN.format(
        known_at=instance.known_at, deadline=instance.revocation_deadline, hours=HOURS_TO_REVOKE)
    revoked = f'was revoked on {instance.revoked_at}' if instance.revoked_at else 'is revoked with this letter'
    onnx = ''.join(f'\n  sha256 as ONNX   {digest}' for digest in instance.onnx_digests)
    return NOTICE.format(name=instance.name, user=instance.user, issued_at=instance.issued_at, digest=instance.digest,
                         onnx=onnx, revoked=revoked, known=known, reason=instance.reason or 'none recorded')
