"""Deletes old revisions that nothing uses: versions of functions, and revisions of task definition families."""
