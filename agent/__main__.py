"""``python -m edgeferry.agent`` is ``edgeferry-agent``."""

from edgeferry.agent.cli import main

if __name__ == "__main__":
    main()
