"""The letter that tells a user that their licence is revoked, as California's SB 942 asks of who licenses a model."""
from fingerprints.instances import HOURS_TO_REVOKE, Instance

LAW = "section 22757.3 (c) of California's Business and Professions Code (SB 942)"

NOTICE = '''\
Subject: Your licence for the image generator "{name}" is revoked

To: {user}

The instance of our image generator that you received as "{name}"
  issued on        {issued_at}
  sha256           {digest}
may no longer be used. Its licence {revoked}.

Reason: {reason}
{known}
Stop using this instance and every copy of it now, and have everyone stop to whom you passed it on. Under {law}
a licensee shall cease using a system after its licence was revoked for the loss of its disclosures. Images that this
instance drew stay attributable to it.

Please confirm in writing that you have done so.
'''

KNOWN = '''\
We learned of it on {known_at}. Under {law} we revoke a licence within
{hours} hours of discovering that a licensee made a system unable to include its disclosures: here by {deadline}.
'''


def notice(instance: Instance) -> str:
    """The text of a letter to the user of an instance; whoever sends it has it checked by a lawyer first."""
    known = '' if instance.known_at is None else KNOWN.format(
        known_at=instance.known_at, deadline=instance.revocation_deadline, law=LAW, hours=HOURS_TO_REVOKE)
    revoked = f'was revoked on {instance.revoked_at}' if instance.revoked_at else 'is revoked with this letter'
    return NOTICE.format(name=instance.name, user=instance.user, issued_at=instance.issued_at, law=LAW,
                         digest=instance.digest, revoked=revoked, known=known,
                         reason=instance.reason or 'none recorded')
