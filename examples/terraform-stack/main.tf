# Instead of terraform_data.rollout in terraform-command: a stack that holds the rollout alone. Nothing needs to be
# installed where Terraform runs.

resource "aws_cloudformation_stack" "rollout" {
  name          = "checkout-rollout"
  template_body = file("${path.module}/rollout.yaml")

  parameters = {
    Alias   = aws_lambda_alias.live.arn
    Version = aws_lambda_function.checkout.version
  }

  # The default is 30 minutes, and a custom resource may take an hour.
  timeouts {
    create = "75m"
    update = "75m"
    delete = "75m"
  }
}
