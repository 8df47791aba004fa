// Sends the function's calls of CodeDeploy to the helper, whichever version of the AWS SDK for JavaScript makes them.
//
// Version 3 reads AWS_ENDPOINT_URL_CODEDEPLOY since October 2023, version 2 never did, and a bundle has either of them
// inside. They have in common that they send the call by https.request.
'use strict'

const http = require('node:http')
const https = require('node:https')
const { syncBuiltinESMExports } = require('node:module')
const { isCodeDeploy } = require('./partitions.cjs')

const { hostname, port } = new URL(process.env.AWS_ENDPOINT_URL_CODEDEPLOY)
const original = https.request

https.request = function request (options, ...rest) {
  const host = options && typeof options === 'object' && !(options instanceof URL) && (options.hostname || options.host)
  if (typeof host !== 'string' || !isCodeDeploy(host)) return original.call(this, options, ...rest)
  return http.request({ ...options, protocol: 'http:', hostname, host: hostname, port, agent: undefined }, ...rest)
}
syncBuiltinESMExports()
