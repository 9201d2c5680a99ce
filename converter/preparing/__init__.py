"""From what a user has to a folder of arrays: done once for a conversion, in a child process, and remembered.

What can be read where it lies (see `samples`) is not prepared.
"""
