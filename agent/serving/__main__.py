"""``python -m edgeferry.agent.serving``: see ``--help``."""

import sys

from edgeferry.agent.serving.process import run

if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
