"""The embedded AWS on one machine: MiniStack, pinned, with the gaps between it and AWS filled.

The product does not import this package or depend on it: it uses the endpoint in `AWS_ENDPOINT_URL`. `server` starts
and stops the embedded AWS from the project's environment, `application` deploys to it; `__main__` and `gaps` run in
MiniStack's environment.
"""
