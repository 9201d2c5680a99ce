"""``python -m edgeferry.agent.serving.probe``: loads the runtime, says which it is, and ends.

One that does not fit this machine crashes or fails here, where nothing is lost.
"""

import sys

__all__ = ["main"]


def main() -> int:
    """Print the runtime's package and version; return 0, or print why there is none and return 1."""
    try:
        from edgeferry.inference import runtime  # noqa: PLC0415 - it fails at once where no runtime is installed

        runtime.load_runtime()
    except ImportError as err:
        sys.stdout.write(f"{err}\n")
        return 1
    sys.stdout.write(f"{runtime.PACKAGE} {runtime.runtime_version()}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
