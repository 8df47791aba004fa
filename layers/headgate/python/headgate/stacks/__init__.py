"""Custom resources of CloudFormation stacks: the requests, what is decided about them, and the answers."""
