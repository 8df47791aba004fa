"""Evidence and verdict: what is counted, how it is judged, and what a bake comes to."""
