"""Functions that count requests and failures for guards with ``counts``."""
