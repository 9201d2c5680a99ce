"""``python -m edgeferry.fleet`` is ``edgeferry``."""

from edgeferry.fleet.cli import main

if __name__ == "__main__":
    main()
