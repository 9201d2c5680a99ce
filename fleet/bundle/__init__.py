"""A bundle: everything that a device needs to install the agent, without the internet."""
