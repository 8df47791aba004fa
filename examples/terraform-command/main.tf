# A function whose alias Headgate moves. `terraform apply` publishes a version, rolls it out and waits for the end.
# The machine that runs Terraform needs the AWS CLI and the command headgate.

resource "aws_lambda_function" "checkout" {
  function_name    = "checkout"
  filename         = "checkout.zip"
  source_code_hash = filebase64sha256("checkout.zip")
  handler          = "app.handler"
  runtime          = "python3.13"
  role             = var.role_arn
  publish          = true
}

resource "aws_lambda_alias" "live" {
  name             = "live"
  function_name    = aws_lambda_function.checkout.function_name
  function_version = aws_lambda_function.checkout.version

  lifecycle {
    # Where the alias begins. Headgate moves it from then on.
    ignore_changes = [function_version, routing_config]
  }
}

resource "terraform_data" "rollout" {
  triggers_replace = [aws_lambda_function.checkout.version]

  provisioner "local-exec" {
    # The alias serves the version already when Terraform has just created it, or after a rollout that has outlasted
    # --timeout. Headgate would refuse to roll it out once more.
    command = <<-EOT
      set -eu
      serving=$(aws lambda get-alias --function-name "$FUNCTION" --name "$ALIAS" --query FunctionVersion --output text)
      if [ "$serving" != "$VERSION" ]; then
        headgate start "$FUNCTION:$ALIAS" --version "$VERSION" --strategy Canary10Percent5Minutes \
          --alarm checkout-errors --errors --evidence cloudwatch --wait --timeout 50m
      fi
    EOT
    environment = {
      FUNCTION = aws_lambda_alias.live.function_name
      ALIAS    = aws_lambda_alias.live.name
      VERSION  = aws_lambda_function.checkout.version
    }
  }
}

variable "role_arn" {
  description = "The role that the function runs as."
  type        = string
}
