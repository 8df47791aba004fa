# Instead of terraform_data.rollout in terraform-command: puts the request on Headgate's bus, and does not wait.
# The machine that runs Terraform needs the AWS CLI.

resource "terraform_data" "request" {
  triggers_replace = [aws_lambda_function.checkout.version]

  provisioner "local-exec" {
    # put-events succeeds even if the bus refuses the entry.
    command = <<-EOT
      set -eu
      failed=$(aws events put-events --entries "$ENTRIES" --query FailedEntryCount --output text)
      [ "$failed" = 0 ]
    EOT
    environment = {
      ENTRIES = jsonencode([{
        EventBusName = "headgate"
        Source       = "terraform.checkout"
        DetailType   = "Rollout Requested"
        Detail = jsonencode({
          target = {
            kind     = "lambda-alias"
            function = aws_lambda_alias.live.function_name
            alias    = aws_lambda_alias.live.name
          }
          candidate = { version = aws_lambda_function.checkout.version }
          strategy  = "Canary10Percent5Minutes"
          guards    = { errors = {}, evidence = "cloudwatch", alarms = ["checkout-errors"] }
        })
      }])
    }
  }
}
