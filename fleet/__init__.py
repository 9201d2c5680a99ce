"""On the workstation: signs, serves blocks, pushes, watches."""
