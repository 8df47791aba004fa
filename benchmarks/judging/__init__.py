"""The judge next to the rules that other tools roll back by, on the same made-up traffic."""
