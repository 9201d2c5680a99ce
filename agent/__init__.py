"""On the device: pulls models over MQTT, proves them, has them served, and reports. Never imports numpy or LiteRT."""
