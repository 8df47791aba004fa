"""The commands of ``headgate``, a module for each: ``headgate_cli.main`` imports only the one that is run."""
