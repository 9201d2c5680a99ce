"""Which requests without a version go to a canary: a share of them, and the same ones again."""

import hashlib
import random

__all__ = ["is_canary"]


def is_canary(percent: int, model: str, version: int, key: str) -> bool:
    """Tell whether a request goes to the canary.

    A key that goes there with a small share also goes there with a larger one; for another version others are chosen.

    Args:
        percent: The canary's share, 0 to 100.
        model: Its name.
        version: The canary's.
        key: Whose request it is; empty for anybody's, for which chance decides.
    """
    if not key:
        return random.random() * 100 < percent  # noqa: S311 - guards nothing
    digest = hashlib.blake2b(f"{model}/{version}/{key}".encode(errors="surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big") * 100 < percent << 64
