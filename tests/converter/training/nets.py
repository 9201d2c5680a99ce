"""Small nets that have every layer that training knows; their weights are drawn, batch statistics among them."""

from collections.abc import Callable

import keras
import numpy as np

layers = keras.layers


def picture_net() -> keras.Model:
    """Return a Sequential classifier of pictures."""
    return keras.Sequential(
        [
            keras.Input((12, 12, 3), name="picture"),
            layers.Rescaling(0.5, -0.1),
            layers.Conv2D(8, 3, use_bias=False),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.SeparableConv2D(8, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.Dropout(0.3),
            layers.Conv2D(4, 3, activation="swish"),
            layers.Flatten(),
            layers.Dense(5, activation="softmax", name="kind"),
        ]
    )


def residual_net() -> keras.Model:
    """Return a Functional net with branches, a bottleneck, and a picture as its answer."""
    inputs = keras.Input((8, 8, 4), name="picture")
    stem = layers.Conv2D(8, 3, padding="same", activation="relu6")(inputs)
    x = layers.DepthwiseConv2D(3, padding="same", use_bias=False)(layers.ZeroPadding2D(1)(stem)[:, 1:-1, 1:-1])
    x = layers.ReLU(6.0)(layers.BatchNormalization()(x))
    x = layers.BatchNormalization()(layers.Conv2D(8, 1, use_bias=False)(x))
    x = layers.ReLU()(layers.Add()([stem, x]))
    x = layers.BatchNormalization()(layers.AveragePooling2D(2)(x))
    x = layers.LeakyReLU(negative_slope=0.1)(layers.Conv2D(6, 3, padding="same")(x))
    up = layers.Conv2DTranspose(8, 2, strides=2, activation="relu")(x)
    both = layers.Concatenate()([stem * 0.5, up])
    return keras.Model(inputs, layers.Conv2D(1, 1, activation="sigmoid", name="mask")(both))


def series_net() -> keras.Model:
    """Return a net of two inputs that go through one tower, with two answers."""
    left, right = keras.Input((16, 4), name="left"), keras.Input((16, 4), name="right")
    tower = keras.Sequential(
        [
            keras.Input((16, 4)),
            layers.Conv1D(8, 3, padding="same", activation="relu"),
            layers.BatchNormalization(),
            layers.DepthwiseConv1D(3, padding="same"),
            layers.ReLU(6.0),
            layers.SeparableConv1D(8, 3, padding="same", activation="tanh"),
        ],
        name="tower",
    )
    one, other = tower(left), tower(right)
    joined = layers.Concatenate()([layers.ReLU()(layers.Add()([one, other])), one - other])
    x = layers.GlobalAveragePooling1D()(layers.AveragePooling1D(2)(joined))
    x = layers.ReLU()(layers.BatchNormalization()(layers.Dense(8)(x)))
    kind = layers.Dense(3, activation="softmax", name="kind")(x)
    amount = layers.Dense(1, kernel_initializer="ones", name="amount")(x)
    return keras.Model({"left": left, "right": right}, {"kind": kind, "amount": amount})


NETS: dict[str, Callable[[], keras.Model]] = {"picture": picture_net, "residual": residual_net, "series": series_net}


def made(name: str) -> keras.Model:
    """Return a net with drawn weights."""
    keras.utils.set_random_seed(2)
    random = np.random.default_rng(2)
    model = NETS[name]()
    flat = [
        *model.layers,
        *(inner for layer in model.layers if isinstance(layer, keras.Model) for inner in layer.layers),
    ]
    for layer in flat:
        if isinstance(layer, layers.BatchNormalization):
            layer.set_weights([random.uniform(0.5, 2, weight.shape) for weight in layer.weights])
    return model
