"""Asks a model over REST, gRPC or MQTT with arrays in and out: python examples/ask_with_the_client.py URL MODEL.

URL is http://HOST:PORT, grpc://HOST:PORT or mqtt://HOST/DEVICE; for the latter, EDGEFERRY_USER and EDGEFERRY_PASSWORD.
"""

import os
import sys
import time

import numpy as np

from edgeferry.client import Client, InferenceError

SAMPLES = np.random.default_rng(0).random((50, 1, 64), dtype=np.float32)


def main(url: str, model: str) -> int:
    user, password = os.environ.get("EDGEFERRY_USER", ""), os.environ.get("EDGEFERRY_PASSWORD", "")
    with Client(url, user=user, password=password) as client:
        try:
            began_s = time.perf_counter()
            scores = np.concatenate([client.predict(model, sample, timeout_s=5) for sample in SAMPLES])
        except InferenceError as err:
            print(f"no answer: {err}", file=sys.stderr)
            return 1
    per_sample_ms = (time.perf_counter() - began_s) / len(SAMPLES) * 1e3
    print(f"{len(scores)} answers, {per_sample_ms:.2f} ms each; best classes {scores.argmax(axis=1)[:10].tolist()}")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:3]))
