"""How traffic moves: a driver per kind of target."""
