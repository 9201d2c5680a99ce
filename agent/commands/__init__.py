"""Commands of ``edgeferry-agent`` that are more than a few lines."""
