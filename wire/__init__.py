"""The contract between workstation and device: topics, messages, documents, blocks, tensors.

Everything here is pure: no sockets, clocks, files or threads. `docs/protocol.md` tells the same in prose.
"""
