"""``headgate init``: what the account offers, the questions, and the request that the answers make."""
