"""The data plane: a process of its own that loads models and answers inference requests.

Nothing is imported here: the control plane takes ``command`` and ``report`` from this package, and must not load numpy.
"""
