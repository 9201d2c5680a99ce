"""The messages of the gRPC services: only the fields that are read or written here, under their published numbers.

Sources: tensorflow/serving, apis/*.proto; tensorflow, core/framework/{tensor,tensor_shape,types}.proto and
core/protobuf/meta_graph.proto; kserve/open-inference-protocol, specification/protocol/open_inference_grpc.proto, with
Triton's additions from triton-inference-server/common, protobuf/grpc_service.proto; grpc.health.v1.
"""

from edgeferry.agent.serving.protobuf import Field, Kind, Schema

__all__ = [
    "CLASSIFICATION_RESPONSE",
    "EXAMPLES_REQUEST",
    "HEALTH_REQUEST",
    "HEALTH_RESPONSE",
    "INDEX_RESPONSE",
    "INFER_REQUEST",
    "INFER_RESPONSE",
    "METADATA_REQUEST",
    "METADATA_RESPONSE",
    "MODEL_CONFIG_RESPONSE",
    "MODEL_METADATA_RESPONSE",
    "MODEL_REQUEST",
    "PREDICT_REQUEST",
    "PREDICT_RESPONSE",
    "REGRESSION_RESPONSE",
    "SERVER_METADATA_RESPONSE",
    "SIGNATURE_DEF_MAP",
    "STATISTICS_RESPONSE",
    "STATUS_REQUEST",
    "STATUS_RESPONSE",
    "TENSOR",
    "TRUTH_RESPONSE",
]


def _integer(name: str) -> Field:
    return Field(name, Kind.INTEGER)


def _integers(name: str) -> Field:
    return Field(name, Kind.INTEGER, is_repeated=True)


def _text(name: str) -> Field:
    return Field(name, Kind.TEXT)


def _texts(name: str) -> Field:
    return Field(name, Kind.TEXT, is_repeated=True)


def _message(name: str, schema: Schema) -> Field:
    return Field(name, Kind.MESSAGE, schema)


def _messages(name: str, schema: Schema) -> Field:
    return Field(name, Kind.MESSAGE, schema, is_repeated=True)


def _map(name: str, schema: Schema) -> Field:
    return Field(name, Kind.MAP, schema)


def _packed(name: str, kind: Kind) -> Field:
    return Field(name, kind, is_repeated=True)


# tensorflow and tensorflow.serving

_SHAPE = {2: _messages("dim", {1: _integer("size"), 2: _text("name")}), 3: _integer("unknown_rank")}
TENSOR = {
    1: _integer("dtype"),
    2: _message("tensor_shape", _SHAPE),
    4: Field("tensor_content", Kind.BYTES),
    5: _packed("float_val", Kind.FLOAT),
    6: _packed("double_val", Kind.DOUBLE),
    7: _integers("int_val"),
    10: _integers("int64_val"),
    11: _integers("bool_val"),
    13: _integers("half_val"),
    16: _integers("uint32_val"),
    17: _integers("uint64_val"),
}
_MODEL_SPEC = {
    1: _text("name"),
    2: _message("version", {1: _integer("value")}),
    3: _text("signature_name"),
    4: _text("version_label"),
}
PREDICT_REQUEST = {1: _message("model_spec", _MODEL_SPEC), 2: _map("inputs", TENSOR), 3: _texts("output_filter")}
PREDICT_RESPONSE = {1: _map("outputs", TENSOR), 2: _message("model_spec", _MODEL_SPEC)}

_FEATURE = {
    1: _message("bytes_list", {1: Field("value", Kind.BYTES, is_repeated=True)}),
    2: _message("float_list", {1: _packed("value", Kind.FLOAT)}),
    3: _message("int64_list", {1: _integers("value")}),
}
_EXAMPLE = {1: _message("features", {1: _map("feature", _FEATURE)})}
_INPUT = {
    1: _message("example_list", {1: _messages("examples", _EXAMPLE)}),
    2: _message("example_list_with_context", {1: _messages("examples", _EXAMPLE), 2: _message("context", _EXAMPLE)}),
}
EXAMPLES_REQUEST = {1: _message("model_spec", _MODEL_SPEC), 2: _message("input", _INPUT)}
_CLASS = {1: _text("label"), 2: Field("score", Kind.FLOAT)}
CLASSIFICATION_RESPONSE = {
    1: _message("result", {1: _messages("classifications", {1: _messages("classes", _CLASS)})}),
    2: _message("model_spec", _MODEL_SPEC),
}
REGRESSION_RESPONSE = {
    1: _message("result", {1: _messages("regressions", {1: Field("value", Kind.FLOAT)})}),
    2: _message("model_spec", _MODEL_SPEC),
}

METADATA_REQUEST = {1: _message("model_spec", _MODEL_SPEC), 2: _texts("metadata_field")}
_ANY = {1: _text("type_url"), 2: Field("value", Kind.BYTES)}
METADATA_RESPONSE = {1: _message("model_spec", _MODEL_SPEC), 2: _map("metadata", _ANY)}
_TENSOR_INFO = {1: _text("name"), 2: _integer("dtype"), 3: _message("tensor_shape", _SHAPE)}
_SIGNATURE = {1: _map("inputs", _TENSOR_INFO), 2: _map("outputs", _TENSOR_INFO), 3: _text("method_name")}
SIGNATURE_DEF_MAP = {1: _map("signature_def", _SIGNATURE)}

STATUS_REQUEST = {1: _message("model_spec", _MODEL_SPEC)}
_STATUS = {1: _integer("error_code"), 2: _text("error_message")}
STATUS_RESPONSE = {
    1: _messages("model_version_status", {1: _integer("version"), 2: _integer("state"), 3: _message("status", _STATUS)})
}

# grpc.health.v1

HEALTH_REQUEST = {1: _text("service")}
HEALTH_RESPONSE = {1: _integer("status")}

# inference

MODEL_REQUEST = {1: _text("name"), 2: _text("version")}
TRUTH_RESPONSE = {1: _integer("truth")}  # called live or ready where it is used; names do not travel
SERVER_METADATA_RESPONSE = {1: _text("name"), 2: _text("version"), 3: _texts("extensions")}
_TENSOR_METADATA = {1: _text("name"), 2: _text("datatype"), 3: _integers("shape")}
MODEL_METADATA_RESPONSE = {
    1: _text("name"),
    2: _texts("versions"),
    3: _text("platform"),
    4: _messages("inputs", _TENSOR_METADATA),
    5: _messages("outputs", _TENSOR_METADATA),
}
_PARAMETER = {1: _integer("bool_param"), 2: _integer("int64_param"), 3: _text("string_param")}
_CONTENTS = {
    1: _integers("bool_contents"),
    2: _integers("int_contents"),
    3: _integers("int64_contents"),
    4: _integers("uint_contents"),
    5: _integers("uint64_contents"),
    6: _packed("fp32_contents", Kind.FLOAT),
    7: _packed("fp64_contents", Kind.DOUBLE),
}
_INFER_TENSOR = {**_TENSOR_METADATA, 4: _map("parameters", _PARAMETER), 5: _message("contents", _CONTENTS)}
INFER_REQUEST = {
    1: _text("model_name"),
    2: _text("model_version"),
    3: _text("id"),
    4: _map("parameters", _PARAMETER),
    5: _messages("inputs", _INFER_TENSOR),
    6: _messages("outputs", {1: _text("name"), 2: _map("parameters", _PARAMETER)}),
    7: Field("raw_input_contents", Kind.BYTES, is_repeated=True),
}
INFER_RESPONSE = {
    1: _text("model_name"),
    2: _text("model_version"),
    3: _text("id"),
    5: _messages("outputs", _INFER_TENSOR),
    6: Field("raw_output_contents", Kind.BYTES, is_repeated=True),
}
_TENSOR_CONFIG = {1: _text("name"), 2: _integer("data_type")}
MODEL_CONFIG_RESPONSE = {
    1: _message(
        "config",
        {
            1: _text("name"),
            2: _text("platform"),
            4: _integer("max_batch_size"),
            5: _messages("input", {**_TENSOR_CONFIG, 4: _integers("dims")}),
            6: _messages("output", {**_TENSOR_CONFIG, 3: _integers("dims")}),
            17: _text("backend"),
        },
    )
}
_DURATION = {1: _integer("count"), 2: _integer("ns")}
_INFER_STATISTICS = {
    1: _message("success", _DURATION),
    2: _message("fail", _DURATION),
    3: _message("queue", _DURATION),
    4: _message("compute_input", _DURATION),
    5: _message("compute_infer", _DURATION),
    6: _message("compute_output", _DURATION),
}
_STATISTICS = {
    1: _text("name"),
    2: _text("version"),
    3: _integer("last_inference"),
    4: _integer("inference_count"),
    5: _integer("execution_count"),
    6: _message("inference_stats", _INFER_STATISTICS),
    7: _messages("batch_stats", {1: _integer("batch_size")}),
}
STATISTICS_RESPONSE = {1: _messages("model_stats", _STATISTICS)}
_INDEX = {1: _text("name"), 2: _text("version"), 3: _text("state"), 4: _text("reason")}
INDEX_RESPONSE = {1: _messages("models", _INDEX)}
