"""What can be done for a model that loses too much when it is quantized, and in what order.

`plan` decides, pure; `ladder` climbs for one variant; everything that touches a model runs in a child process,
`__main__`: better ranges (`ranges`), equalized channels (`links`, `equalization`), corrected biases (`bias`), and the
layers that lose most kept in float (`sensitivity`).
"""
