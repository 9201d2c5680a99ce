"""Inference on a device's own input: source, model, sink. A process of its own, which asks the serving process.

source thread -> slot (the oldest makes room) -> pipeline thread: input, model, sink
"""
