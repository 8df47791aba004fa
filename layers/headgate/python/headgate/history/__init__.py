"""The read model: what a person asks of the records. It only reads, and no function that moves traffic imports it."""
