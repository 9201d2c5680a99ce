"""For applications: a model's answers as numpy arrays, over REST, gRPC or MQTT, without TensorFlow.

from edgeferry.client import predict

scores = predict("http://127.0.0.1:8501", "digits", image)
"""

from edgeferry.client.client import Client, predict
from edgeferry.client.errors import InferenceError

__all__ = ["Client", "InferenceError", "predict"]
