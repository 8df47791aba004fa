"""Takes an alias over from the CloudFormation stack that owns it, and gives it back."""
