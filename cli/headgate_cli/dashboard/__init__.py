"""The dashboard: the read model as a page on loopback."""
