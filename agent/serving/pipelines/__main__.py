"""``python -m edgeferry.agent.serving.pipelines`` runs the pipelines of an agent."""

import sys

from edgeferry.agent.serving.pipelines.process import run

if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
