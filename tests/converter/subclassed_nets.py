"""Exports mtcnn's subclassed nets, untrained, as SavedModels: ``python subclassed_nets.py FOLDER NAME=SIDE ...``.

Their classes are in ``FOLDER/mtcnn/network``, as the package has them; its trained weights are pickles, and are left.
"""

import importlib.util
import sys
from pathlib import Path

import keras
import tensorflow as tf


def export(folder: Path, name: str, side: int) -> None:
    source = folder / "mtcnn" / "network" / f"{name.lower()}.py"
    spec = importlib.util.spec_from_file_location(name.lower(), source)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    net = getattr(module, name)()
    net(tf.zeros((1, side, side, 3)))
    archive = keras.export.ExportArchive()
    archive.track(net)
    archive.add_endpoint("serving_default", net.call, [tf.TensorSpec((None, side, side, 3), name="picture")])
    archive.write_out(str(folder / name), verbose=False)


if __name__ == "__main__":
    keras.utils.set_random_seed(0)
    for net in sys.argv[2:]:
        net_name, _, net_side = net.partition("=")
        export(Path(sys.argv[1]), net_name, int(net_side))
