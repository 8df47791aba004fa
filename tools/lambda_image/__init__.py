"""Makes an image that runs functions as AWS's own image of a Python runtime does, where that cannot be pulled."""
