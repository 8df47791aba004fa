"""``headgate doctor``: readers ask AWS, and pure checks judge what they have read."""
