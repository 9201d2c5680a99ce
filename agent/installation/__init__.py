"""The agent as a service of its device: environments below /opt/edgeferry, account, configuration, unit."""
