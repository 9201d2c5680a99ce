"""What is known of each kind of layer and operation: where its weights and channels are, and what integers do to it.

A kind is the name of a class of Keras. Of bare operations (``x + y``, ``keras.ops.relu(x)``) it is that of Keras's
operation class, which is called like the layer wherever both exist.
"""

from enum import StrEnum

__all__ = [
    "ACTIVATIONS",
    "DEPTHWISE",
    "FIXED_RANGES",
    "SEPARABLE",
    "TRANSPOSED",
    "WEIGHTED",
    "Role",
    "channel_axes",
    "keeps_channels",
    "role_of",
]

# Layers with a kernel and a bias that all techniques work on.
WEIGHTED = frozenset(
    {"Dense", "Conv1D", "Conv2D", "DepthwiseConv1D", "DepthwiseConv2D", "Conv1DTranspose", "Conv2DTranspose"}
)

# What a separable convolution consists of.
SEPARABLE = {"SeparableConv1D": ("DepthwiseConv1D", "Conv1D"), "SeparableConv2D": ("DepthwiseConv2D", "Conv2D")}

DEPTHWISE = frozenset({"DepthwiseConv1D", "DepthwiseConv2D"})
TRANSPOSED = frozenset({"Conv1DTranspose", "Conv2DTranspose"})

# Outputs whose scale and zero point TensorFlow Lite's integer kernels fix (TensorFlow Lite 8-bit quantization
# specification, operators LOGISTIC, SOFTMAX and TANH).
FIXED_RANGES = {"sigmoid": (0.0, 255 / 256), "softmax": (0.0, 255 / 256), "tanh": (-1.0, 127 / 128)}

# Activations that have integer kernels.
ACTIVATIONS = frozenset({"linear", "relu", "relu6", "leaky_relu", "gelu", "hard_silu", *FIXED_RANGES})


class Role(StrEnum):
    """What a step does to the range of what goes through it.

    ``WEIGHTED`` and ``COMPUTING`` steps give values of a range of their own; ``ACTIVATION`` likewise, and where it can
    be done inside of the step before, that one's output has no range at all. ``PASSING`` steps give some of the numbers
    that they take, ``MIXING`` ones give means of them, so that both keep the range.
    """

    WEIGHTED = "weighted"
    COMPUTING = "computing"
    ACTIVATION = "activation"
    PASSING = "passing"
    MIXING = "mixing"
    UNKNOWN = "unknown"


_COMPUTING = frozenset(
    {
        "Add",
        "Subtract",
        "Multiply",
        "Concatenate",
        "Rescaling",
        "GlobalAveragePooling1D",
        "GlobalAveragePooling2D",
        "Mean",
    }
)
_RESHAPING = frozenset(
    {"Flatten", "GetItem", "Reshape", "Permute", "Transpose", "Squeeze", "ExpandDims", "RepeatVector"}
)
_CHOOSING = frozenset({"MaxPooling1D", "MaxPooling2D", "GlobalMaxPooling1D", "GlobalMaxPooling2D"})
_BORDERING = frozenset({"ZeroPadding1D", "ZeroPadding2D", "Pad", "Cropping1D", "Cropping2D"})
_DROPPING = frozenset(
    {"Dropout", "SpatialDropout1D", "SpatialDropout2D", "GaussianNoise", "GaussianDropout", "AlphaDropout"}
)
_MIXING = frozenset({"AveragePooling1D", "AveragePooling2D", "UpSampling1D", "UpSampling2D"})
_ACTIVATION_KINDS = frozenset(
    {"Activation", "ReLU", "LeakyReLU", "Softmax", "Relu", "Relu6", "Sigmoid", "Tanh", "Gelu", "LeakyRelu"}
)


def role_of(kind: str) -> Role:
    """Return what steps of ``kind`` do."""
    groups = {
        Role.WEIGHTED: WEIGHTED,
        Role.COMPUTING: _COMPUTING,
        Role.PASSING: _RESHAPING | _CHOOSING | _BORDERING | _DROPPING,
        Role.MIXING: _MIXING,
        Role.ACTIVATION: _ACTIVATION_KINDS,
    }
    return next((role for role, kinds in groups.items() if kind in kinds), Role.UNKNOWN)


def keeps_channels(kind: str) -> bool:
    """Return whether steps of ``kind`` give, on their last axis, the very channels that they take."""
    others = {"Add", "Subtract", "Multiply", "GlobalAveragePooling1D", "GlobalAveragePooling2D"}
    return kind in _CHOOSING | _BORDERING | _DROPPING | _MIXING | _ACTIVATION_KINDS | others


def channel_axes(kind: str, rank: int) -> tuple[int, ...]:
    """Return the axes of a kernel that count the channels that a layer gives.

    Args:
        kind: Of the layer, one of `WEIGHTED`.
        rank: Of its kernel.
    """
    if kind in DEPTHWISE:
        return (rank - 2, rank - 1)
    return (rank - 2,) if kind in TRANSPOSED else (rank - 1,)
