"""Ray is imported here, and has to be told before where its processes may listen."""

import os

from a3c.cluster.machines import LOOPBACK, QUIET

os.environ.update({**LOOPBACK, **QUIET})
