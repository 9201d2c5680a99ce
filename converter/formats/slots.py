"""SavedModels without their optimizer's slots, which Keras 2 saved and TensorFlow cannot load beside Keras 3."""

from pathlib import Path

from tensorflow.core.protobuf import saved_model_pb2

__all__ = ["without_slots"]


def without_slots(path: Path, folder: Path) -> Path:
    """Return the SavedModel at ``path`` without slots, in the new ``folder``: its main file anew, links beside it."""
    saved = saved_model_pb2.SavedModel.FromString((path / "saved_model.pb").read_bytes())
    for graph in saved.meta_graphs:
        for node in graph.object_graph_def.nodes:
            del node.slot_variables[:]
    folder.mkdir()
    (folder / "saved_model.pb").write_bytes(saved.SerializeToString())
    for name in ("variables", "assets"):
        if (path / name).is_dir():
            (folder / name).symlink_to((path / name).absolute(), target_is_directory=True)
    return folder
