"""Builds an image that runs functions like AWS's image of a Python runtime, for when that cannot be pulled."""
