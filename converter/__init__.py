"""Turns a trained model into the best TensorFlow Lite artifact for each kind of device, and proves it.

    source model --formats (child process)--> float .tflite --quantize (child process)--> one file per scheme
        --measure (child process)--> outputs, memory, latency --evaluate, selection--> artifact folder

`pipeline` is the library call; `cli` the command.
"""
