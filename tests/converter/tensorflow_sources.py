"""Makes source models with TensorFlow, good and bad ones: run as `python tensorflow_sources.py FOLDER`.

For the bad ones it notes what the converter's formats say, so that TensorFlow is imported once for all of them.
"""

import json
import shutil
import sys
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from edgeferry.converter.errors import SourceError
from edgeferry.converter.formats import keras_model, saved_model
from edgeferry.converter.formats.engine import saved_model_to_tflite

SIDE = 8
CLASSES = 4


def main() -> None:
    folder = Path(sys.argv[1])
    keras.utils.set_random_seed(1)
    facts = {"cnn": make_cnn(folder), "two_inputs": make_two_inputs(folder)}
    make_graph_of_tensorflow_1(folder)
    make_vocabulary(folder)
    make_aborting_model(folder)
    messages = dict(bad_models(folder))
    (folder / "done.json").write_text(json.dumps({"messages": messages, "facts": facts}))


def make_cnn(folder: Path) -> dict[str, float]:
    """Train a small convolutional net to find the brightest quarter of a picture."""
    rng = np.random.default_rng(3)
    x = rng.random((700, SIDE, SIDE, 1), np.float32)
    half = SIDE // 2
    quarters = [x[:, r : r + half, c : c + half].mean(axis=(1, 2, 3)) for r in (0, half) for c in (0, half)]
    y = np.argmax(quarters, axis=0)
    x += 0.5 * np.eye(CLASSES)[y].reshape(-1, 2, 2, 1).repeat(half, 1).repeat(half, 2).astype(np.float32)
    model = keras.Sequential(
        [
            keras.Input((SIDE, SIDE, 1), name="image"),
            keras.layers.Conv2D(8, 3, padding="same"),
            keras.layers.BatchNormalization(),
            keras.layers.ReLU(),
            keras.layers.AveragePooling2D(4),
            keras.layers.Flatten(),
            keras.layers.Dense(CLASSES, activation="softmax", name="quarter"),
        ]
    )
    model.compile("adam", "sparse_categorical_crossentropy")
    model.fit(x[:500], y[:500], epochs=10, batch_size=25, verbose=0)
    model.save(folder / "cnn.keras")
    model.save(folder / "cnn.h5")
    model.export(folder / "cnn_saved", verbose=False)
    np.savez(folder / "train.npz", x=x[:100], y=y[:100])
    np.savez(folder / "test.npz", x=x[500:], y=y[500:])
    return {"accuracy": float(np.mean(model.predict(x[500:], verbose=0).argmax(1) == y[500:]))}


def make_two_inputs(folder: Path) -> dict[str, list[str]]:
    """Make a net with a float and an integer input and two outputs, one of them a regression."""
    words = keras.Input((6,), dtype="int32", name="words")
    level = keras.Input((3,), name="level")
    meaning = keras.layers.Flatten()(keras.layers.Embedding(50, 4)(words))
    joined = keras.layers.Concatenate()([meaning, level])
    outputs = [keras.layers.Dense(5, name="kind")(joined), keras.layers.Dense(1, name="amount")(joined)]
    model = keras.Model({"words": words, "level": level}, outputs)
    model.save(folder / "two_inputs.keras")
    rng = np.random.default_rng(5)
    samples = {"words": rng.integers(0, 50, (30, 6)), "level": rng.random((30, 3))}
    np.savez(folder / "two_inputs.npz", **samples)
    return {"inputs": [spec.name for spec in keras_model.load(folder / "two_inputs.keras").inputs]}


def make_graph_of_tensorflow_1(folder: Path) -> None:
    """Save a graph with one variable, as TensorFlow 1 did; inside, names are other ones and in another order."""
    v1 = tf.compat.v1
    with tf.Graph().as_default(), v1.Session() as session:
        x, z = (v1.placeholder(tf.float32, (None, 3), name=name) for name in "xa")
        weights = v1.get_variable("layer/weights", (3, 2), use_resource=False)
        y = tf.identity(tf.matmul(x, weights), name="y")
        difference = tf.identity(x - 2 * z, name="b")
        session.run(v1.global_variables_initializer())
        signature = {"x": x, "z": z}, {"y": y, "difference": difference}
        v1.saved_model.simple_save(session, str(folder / "graph_v1"), *signature)


def make_loop_of_tensorflow_1(folder: Path) -> None:
    """Save a recurrent cell that goes over an open time axis in a loop of TensorFlow 1's kind."""
    v1 = tf.compat.v1
    v1.disable_control_flow_v2()
    with tf.Graph().as_default(), v1.Session() as session:
        x = v1.placeholder(tf.float32, (None, None, 3), name="x")
        with tf.name_scope("memory"):
            steps = tf.shape(x)[1]
            inputs = tf.TensorArray(tf.float32, size=steps).unstack(tf.transpose(x, (1, 0, 2)))

            def step(at, state, outputs):
                state = tf.tanh(state + inputs.read(at))
                return at + 1, state, outputs.write(at, state)

            start = [0, tf.zeros((tf.shape(x)[0], 3)), tf.TensorArray(tf.float32, size=steps)]
            _, _, outputs = v1.while_loop(lambda at, *_: at < steps, step, start)
            y = tf.transpose(outputs.stack(), (1, 0, 2))
        v1.saved_model.simple_save(session, str(folder / "loop_v1"), {"x": x}, {"y": tf.identity(y, name="y")})
    v1.enable_control_flow_v2()


def make_aborting_model(folder: Path) -> None:
    """Save a model with TensorFlow's own operation that ends the process which runs it."""
    module = tf.Module()

    @tf.function(input_signature=[tf.TensorSpec((None, 2), name="x")])
    def emergency(x):
        with tf.name_scope("emergency"), tf.control_dependencies([tf.raw_ops.Abort(error_msg="the brakes failed")]):
            return {"y": x + 1}

    module.emergency = emergency
    tf.saved_model.save(module, str(folder / "aborting"), signatures={"serving_default": emergency})


def make_vocabulary(folder: Path) -> None:
    """Save a model that looks words up in a file, which becomes an asset."""
    words = folder / "words.txt"
    words.write_text("ferry\nriver\n")
    module = tf.Module()
    keys = tf.lookup.TextFileInitializer(
        str(words), tf.string, tf.lookup.TextFileIndex.WHOLE_LINE, tf.int64, tf.lookup.TextFileIndex.LINE_NUMBER
    )
    module.table = tf.lookup.StaticHashTable(keys, -1)
    look = tf.function(
        lambda words: {"index": module.table.lookup(words)}, input_signature=[tf.TensorSpec((None,), tf.string)]
    )
    module.look = look
    tf.saved_model.save(module, str(folder / "vocabulary"), signatures={"serving_default": look})


@keras.saving.register_keras_serializable()
class Doubler(keras.layers.Layer):
    def call(self, x):
        return x * 2


class Subclassed(keras.Model):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.dense = keras.layers.Dense(2)

    def call(self, x):
        return self.dense(x)


class Decompose(keras.layers.Layer):
    def call(self, x):
        return tf.linalg.svd(x, compute_uv=False)


class Invert(keras.layers.Layer):
    def call(self, x):
        return 2 * tf.linalg.inv(x + 9 * tf.eye(3))


def bad_models(folder: Path):
    custom = keras.Sequential([keras.Input((3,)), Doubler()])
    custom.save(folder / "custom.keras")
    keras.saving.get_custom_objects().clear()
    yield "custom", said(keras_model.load, folder / "custom.keras")

    keras.Sequential([keras.Input((3,)), keras.layers.Lambda(lambda x: x * 2)]).save(folder / "lambda.keras")
    yield "lambda", said(keras_model.load, folder / "lambda.keras")

    subclassed = Subclassed()
    subclassed(np.zeros((1, 3), np.float32))
    with keras.saving.custom_object_scope({"Subclassed": Subclassed}):
        subclassed.save(folder / "subclassed.keras")
        yield "subclassed", said(keras_model.load, folder / "subclassed.keras")

    (folder / "cut.keras").write_bytes((folder / "cnn.keras").read_bytes()[:500])
    yield "cut", said(keras_model.load, folder / "cut.keras")

    svd = keras.Sequential([keras.Input((3, 3), name="x"), Decompose(name="decompose")])
    source = keras_model.KerasSource("svd.keras", keras.Model(svd.inputs, svd.outputs))
    (folder / "svd").mkdir()
    yield "svd", said(source.to_tflite, {"x": (1, 3, 3)}, folder / "svd")

    inverse = keras.Sequential([keras.Input((3, 3), name="x"), Invert(name="invert")])
    source = keras_model.KerasSource("inverse.keras", keras.Model(inverse.inputs, inverse.outputs))
    (folder / "inverse").mkdir()
    yield "inverse", said(source.to_tflite, {"x": (1, 3, 3)}, folder / "inverse")

    recurrent = keras.Sequential([keras.Input((None, 3), name="x"), keras.layers.LSTM(4, name="memory")])
    recurrent.save(folder / "recurrent.keras")
    recurrent.export(folder / "recurrent", verbose=False)
    make_loop_of_tensorflow_1(folder)
    for name in ("recurrent", "loop_v1"):
        (folder / f"{name}.work").mkdir()
        yield name, said(saved_model.load(folder / name).to_tflite, {"x": (1, 7, 3)}, folder / f"{name}.work")

    yield from bad_saved_models(folder)


def bad_saved_models(folder: Path):
    module = tf.Module()
    module.first = tf.function(lambda x: {"y": x + 1}, input_signature=[tf.TensorSpec((None, 2))])
    module.second = tf.function(lambda x: {"y": x + 2}, input_signature=[tf.TensorSpec((None, 2))])
    noise = tf.function(
        lambda x: {"y": x + tf.random.uniform((1, 2))}, input_signature=[tf.TensorSpec((None, 2), name="x")]
    )
    tf.saved_model.save(module, str(folder / "random"), signatures={"serving_default": noise})
    text = tf.function(lambda x: {"y": x}, input_signature=[tf.TensorSpec((None,), tf.string)])
    shapeless = tf.function(lambda x: {"y": x}, input_signature=[tf.TensorSpec(None)])
    for name, signatures in {
        "two_signatures": {"a": module.first, "b": module.second},
        "one_signature": {"a": module.first},
        "text": {"serving_default": text},
        "shapeless": {"serving_default": shapeless},
    }.items():
        tf.saved_model.save(module, str(folder / name), signatures=signatures)
        yield name, said(saved_model.load, folder / name)
    foreign = Path(shutil.copytree(folder / "one_signature", folder / "foreign")) / "saved_model.pb"
    foreign.write_bytes(foreign.read_bytes().replace(b"AddV2", b"AddMy"))
    yield "foreign", said(saved_model.load, folder / "foreign")
    not_finite = tf.function(lambda x: {"y": tf.math.log(x - 1)}, input_signature=[tf.TensorSpec((None, 2), name="x")])
    tf.saved_model.save(module, str(folder / "not_finite"), signatures={"serving_default": not_finite})
    (folder / "empty").mkdir()
    (folder / "empty" / "saved_model.pb").write_bytes(b"junk")
    yield "junk", said(saved_model.load, folder / "empty")
    yield "no_signature", said(saved_model_to_tflite, folder / "one_signature", "a", what="one_signature")


def said(function, *arguments, **keywords) -> str:
    try:
        function(*arguments, **keywords)
    except SourceError as err:
        return err.line
    return "nothing"


if __name__ == "__main__":
    main()
