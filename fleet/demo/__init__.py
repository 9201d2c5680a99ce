"""`edgeferry demo`: the whole way on one machine, with real parts.

digits.py      real handwritten digits, and a version of the model that cannot prove itself
processes.py   the broker and the two devices, as processes that never outlive the demo
story.py       what is shown, step by step
"""
