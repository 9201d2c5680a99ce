"""Fuzzing: every parser that faces the network or the disk, fed with inputs that are almost right.

targets.py    the parsers, the errors that each of them documents, and what right inputs look like
inputs.py     input number n of a target: the same bytes on every machine
running.py    runs numbers through a target, with bounds on time and memory
corpus/       what was found once; replayed by every test run
__main__.py   `make fuzz`: a million inputs in all, each target in a process of its own
"""
