"""Reads a SavedModel of TensorFlow 1 or 2 from its protocol buffers, without loading or running it; in a child process.

What ``saved_model_cli show --all`` tells, and beside it operations, variables, Keras's own records and assets.
"""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgeferry.converter.errors import SourceError
from edgeferry.converter.formats import protobufs
from edgeferry.converter.inspection.bundle import TableError
from edgeferry.converter.inspection.saved_model_facts import (
    AssetFacts,
    MetaGraphFacts,
    PortFacts,
    SavedModelFacts,
    Signature,
)
from edgeferry.converter.inspection.saved_model_graph import Graph
from edgeferry.converter.inspection.saved_model_keras import keras_of
from edgeferry.converter.inspection.saved_model_objects import functions_of, type_name, variables_of_objects
from edgeferry.converter.inspection.saved_model_variables import StoredVariables, read_variables

__all__ = ["read_saved_model"]

MAX_PROTOBUF_BYTES = 2**31  # protocol buffers end there

_FILE = "saved_model.pb"
_INITIALIZER = "__saved_model_init_op"
_INITIALIZER_COLLECTIONS = ("saved_model_main_op", "legacy_init_op")


def read_saved_model(folder: Path) -> SavedModelFacts:
    """Return what the SavedModel in ``folder`` tells.

    Raises:
        SourceError: Its main file is damaged.
    """
    saved = _parsed(folder / _FILE)
    stored, problems = _variables(folder)
    return SavedModelFacts(
        schema_version=saved.saved_model_schema_version,
        is_tensorflow_2=any(len(graph.object_graph_def.nodes) > 0 for graph in saved.meta_graphs),
        meta_graphs=tuple(_meta_graph(folder, graph, stored) for graph in saved.meta_graphs),
        variables_bytes=stored.file_bytes,
        problems=(*problems, *_missing_assets(folder, saved)),
    )


def _parsed(path: Path) -> Any:
    from google.protobuf.message import DecodeError  # noqa: PLC0415 - beside the modules that need it, in the child

    size_bytes = path.stat().st_size
    if size_bytes >= MAX_PROTOBUF_BYTES:
        raise SourceError(
            f"{path}: has {size_bytes} bytes; a SavedModel's main file has less than {MAX_PROTOBUF_BYTES}"
        )
    try:
        saved = protobufs.saved_model().SavedModel.FromString(path.read_bytes())
    except DecodeError as err:
        raise SourceError(f"{path}: is a damaged SavedModel, probably cut off ({err}); copy or export it anew") from err
    if not saved.meta_graphs:
        raise SourceError(f"{path}: holds no graph, so it is no SavedModel, or it was cut off; copy or export it anew")
    return saved


def _variables(folder: Path) -> tuple[StoredVariables, tuple[str, ...]]:
    try:
        return read_variables(folder / "variables")
    except TableError as err:
        return StoredVariables((), 0), (f"variables/variables.index is damaged: {err}",)


def _meta_graph(folder: Path, meta: Any, stored: StoredVariables) -> MetaGraphFacts:
    graph = Graph(meta.graph_def)
    signatures = tuple(_signature(key, meta.signature_def[key], graph) for key in _visible(meta.signature_def))
    variables = variables_of_objects(meta.object_graph_def) or stored.variables
    return MetaGraphFacts(
        tags=tuple(meta.meta_info_def.tags),
        tensorflow_version=meta.meta_info_def.tensorflow_version,
        git_version=meta.meta_info_def.tensorflow_git_version,
        signatures=signatures,
        operations=_counted(graph.all_operations()),
        functions=functions_of(meta.object_graph_def),
        variables=variables,
        assets=tuple(_asset(folder, name) for name in _asset_names(meta)),
        scopes={one.key: tuple(graph.names_needed(_outputs(meta.signature_def[one.key]))) for one in signatures},
        keras=keras_of(folder, meta.object_graph_def, variables),
        initializer=_initializer(meta),
    )


def _initializer(meta: Any) -> str:
    """Return the operation that TensorFlow 2 notes as a signature, and 1 in a collection."""
    for noted in meta.signature_def[_INITIALIZER].outputs.values() if _INITIALIZER in meta.signature_def else ():
        return str(noted.name)
    for key in _INITIALIZER_COLLECTIONS:
        for name in meta.collection_def[key].node_list.value if key in meta.collection_def else ():
            return str(name)
    return ""


def _visible(signatures: Mapping[str, Any]) -> list[str]:
    """Return the signatures that a user may call; those with two underscores are TensorFlow's own notes."""
    keys = sorted(key for key in signatures if not key.startswith("__saved_model"))
    return sorted(keys, key=lambda key: key != "serving_default")


def _signature(key: str, signature: Any, graph: Graph) -> Signature:
    return Signature(
        key=key,
        method=signature.method_name,
        inputs=_ports(signature.inputs),
        outputs=_ports(signature.outputs),
        operations=_counted(graph.operations_needed(_outputs(signature))),
    )


def _outputs(signature: Any) -> list[str]:
    return [info.name for info in signature.outputs.values()]


def _ports(infos: Mapping[str, Any]) -> tuple[PortFacts, ...]:
    return tuple(_port(name, infos[name]) for name in sorted(infos))


def _port(name: str, info: Any) -> PortFacts:
    kind = info.WhichOneof("encoding")
    if kind == "coo_sparse":
        tensor = info.coo_sparse.values_tensor_name
    elif kind == "composite_tensor":
        tensor = ", ".join(one.name for one in info.composite_tensor.components)
    else:
        tensor = info.name
    shape = None if info.tensor_shape.unknown_rank else tuple(dim.size for dim in info.tensor_shape.dim)
    return PortFacts(name, tensor, type_name(info.dtype), shape)


def _counted(operations: Counter[str]) -> dict[str, int]:
    return dict(sorted(operations.items(), key=lambda one: (-one[1], one[0])))


def _asset_names(meta: Any) -> list[str]:
    return [asset.filename for asset in meta.asset_file_def]


def _asset(folder: Path, name: str) -> AssetFacts:
    path = folder / "assets" / name
    return AssetFacts(f"assets/{name}", path.stat().st_size if path.is_file() else None)


def _missing_assets(folder: Path, saved: Any) -> list[str]:
    names = {name for meta in saved.meta_graphs for name in _asset_names(meta)}
    return [f"assets/{name} is missing" for name in sorted(names) if not (folder / "assets" / name).is_file()]
