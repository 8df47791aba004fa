#!/bin/sh
# As in AWS's image: `docker run IMAGE app.handler`, in Lambda or, elsewhere, under the emulator.
set -eu
[ $# -ge 1 ] || { echo "entrypoint requires the handler name to be the first argument" >&2; exit 142; }
export _HANDLER="$1"
if [ -z "${AWS_LAMBDA_RUNTIME_API:-}" ]; then
  exec /usr/local/bin/aws-lambda-rie /var/runtime/bootstrap
fi
exec /var/runtime/bootstrap
