"""Runs a TensorFlow Lite model, the same way on the build host and on the device.

Everything here needs numpy and the runtime, so only the converter, the serving process and the client import it.
"""
