"""A mosquitto of the fleet's own: its configuration, certificates, users, and the way onto a Debian host."""
