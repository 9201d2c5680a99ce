"""From a workstation onto a device, over ssh: look, choose, copy, install, wait until it is online."""
