"""Which wishes and which bytes this device may believe: TUF, with our own byte path.

client.py       what is kept from one start to the next, and one go at believing something newer
resolution.py   from trusted metadata to what this device shall run
updater.py      python-tuf's client workflow, fed with blobs instead of downloads
signatures.py   signatures that were verified once are not verified again
errors.py       why metadata was refused, in the words of the contract
"""

from edgeferry.agent.trust.client import TrustClient
from edgeferry.agent.trust.errors import TrustError
from edgeferry.agent.trust.resolution import Missing, Resolved

__all__ = ["Missing", "Resolved", "TrustClient", "TrustError"]
