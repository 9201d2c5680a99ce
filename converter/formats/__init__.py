"""Where models come from: one module per format, each ending in the float ``.tflite`` that is the hub of it all.

`registry` tells formats apart without loading anything. Everything that imports TensorFlow or Keras stands in this
package and runs in a child process (`__main__`).
"""
