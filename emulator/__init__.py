"""AWS on one machine: MiniStack, pinned, with the gaps between it and AWS filled in.

Nothing of the product imports this package, and nothing of the product knows that it exists: the product
talks to whatever `AWS_ENDPOINT_URL` names. `server` starts and stops the embedded AWS from the project's own
environment, `application` deploys to it; `__main__` and `gaps` run in MiniStack's.
"""
