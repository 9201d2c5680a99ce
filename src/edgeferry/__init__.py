"""edgeferry carries trained TensorFlow and Keras models to edge devices."""

__version__ = "0.1.0"
