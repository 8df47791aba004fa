// Hands what a hook reports to CodeDeploy on to Headgate, beside a Node.js runtime. helper.py does the same.
//
// It stands between the runtime and Lambda's runtime API, and answers the function's calls of CodeDeploy. An invocation
// by Headgate has the field `headgate` in its event. What it reports by PutLifecycleEventHookExecutionStatus becomes the
// invocation's result. Every other invocation passes unchanged, and its calls go to CodeDeploy itself.
//
// No packages, Node.js 16 or later.
//
// - https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html
// - https://docs.aws.amazon.com/codedeploy/latest/APIReference/API_PutLifecycleEventHookExecutionStatus.html
'use strict'

const crypto = require('node:crypto')
const http = require('node:http')
const https = require('node:https')
const { endpointOf } = require('./partitions.cjs')

const RUNTIME = '/2018-06-01/runtime/'
const NEXT = `${RUNTIME}invocation/next`
const REPORT = 'PutLifecycleEventHookExecutionStatus'
// What CodeDeploy takes, and what it means to Headgate.
const HOOK_STATUS = new Map([['Succeeded', 'SUCCEEDED'], ['Failed', 'FAILED']])
const OF_ONE_CONNECTION = new Set([
  'connection', 'keep-alive', 'transfer-encoding', 'content-length', 'host', 'expect', 'te', 'trailer'
])

/** An error as CodeDeploy returns it. */
class CodeDeployError extends Error {
  constructor (code, message) {
    super(message)
    this.code = code
  }
}

/** The current invocation, which began with this event. An environment has one at a time. */
class Invocation {
  constructor (event) {
    this.byHeadgate = isObject(event) && isObject(event.headgate)
    this.deploymentId = this.byHeadgate ? event.DeploymentId : undefined
    this.executionId = this.byHeadgate ? event.LifecycleEventHookExecutionId : undefined
    this.status = ''
    // Why the last report was not accepted.
    this.refused = ''
  }

  /** Answers a call of CodeDeploy: takes the status that the function reports; only the first counts. */
  serve (operation, asked) {
    if (operation !== REPORT) {
      throw new CodeDeployError('UnsupportedActionForDeploymentTypeException',
        `${operation} is not available here: Headgate invoked this function, and CodeDeploy has no deployment ` +
        `${this.deploymentId}; the event's field headgate describes the rollout`)
    }
    try {
      this.check(isObject(asked) ? asked : {})
    } catch (error) {
      this.refused = `${error.code}: ${error.message}`
      throw error
    }
    this.status = asked.status
    return { lifecycleEventHookExecutionId: this.executionId }
  }

  check ({ deploymentId, lifecycleEventHookExecutionId: executionId, status }) {
    if (!deploymentId) {
      throw new CodeDeployError(
        'DeploymentIdRequiredException', "deploymentId is missing; give the event's DeploymentId")
    }
    if (deploymentId !== this.deploymentId) {
      throw new CodeDeployError('DeploymentDoesNotExistException',
        `deploymentId is ${deploymentId}, and this invocation's is ${this.deploymentId}; give the event's DeploymentId`)
    }
    if (executionId !== this.executionId) {
      throw new CodeDeployError('InvalidLifecycleEventHookExecutionIdException',
        `lifecycleEventHookExecutionId is ${executionId}, and this invocation's is ${this.executionId}; give the ` +
        "event's LifecycleEventHookExecutionId")
    }
    if (!HOOK_STATUS.has(status)) {
      throw new CodeDeployError(
        'InvalidLifecycleEventHookExecutionStatusException', `status is ${status}; give Succeeded or Failed`)
    }
    if (this.status) {
      throw new CodeDeployError(
        'LifecycleEventAlreadyCompletedException', `this invocation has already reported ${this.status}`)
    }
  }

  /** Returns the result for Headgate; what the function returned counts only if it is a hook's answer itself. */
  result (returned) {
    if (this.status) {
      const answer = { hookStatus: HOOK_STATUS.get(this.status) }
      if (this.status === 'Failed') {
        answer.hookDetails = { reason: 'the function reported Failed to CodeDeploy; see its logs' }
      }
      return JSON.stringify(answer)
    }
    const given = parsed(returned)
    if (isObject(given) && 'hookStatus' in given) return returned
    const reason = this.refused
      ? `the function's call of ${REPORT} was refused: ${this.refused}`
      : `the function returned and had not called ${REPORT}`
    return JSON.stringify({ hookStatus: 'FAILED', hookDetails: { reason } })
  }
}

/**
 * CodeDeploy itself, for invocations that are not Headgate's.
 *
 * The function has signed its call for the loopback address, so the call is signed again by the function's role.
 */
class CodeDeploy {
  constructor (environment) {
    this.environment = environment
    this.region = environment.AWS_REGION || ''
    this.endpoint = new URL(environment.AWS_ENDPOINT_URL_CODEDEPLOY || environment.AWS_ENDPOINT_URL ||
      endpointOf(this.region))
  }

  async call (given, body) {
    const { AWS_ACCESS_KEY_ID: key, AWS_SESSION_TOKEN: token } = this.environment
    if (!key || !(given.authorization || '').includes(`Credential=${key}/`)) {
      throw new CodeDeployError('UnrecognizedClientException',
        "the layer for CodeDeploy hooks passes on calls that the function's role signs, and others sign this one; " +
        'remove AWS_LAMBDA_EXEC_WRAPPER from this function')
    }
    const at = new Date().toISOString().replace(/[-:]|\.\d{3}/g, '')
    const headers = {
      'content-type': given['content-type'] || 'application/x-amz-json-1.1',
      host: this.endpoint.host,
      'x-amz-date': at,
      'x-amz-target': given['x-amz-target'] || ''
    }
    if (token) headers['x-amz-security-token'] = token
    headers.authorization = this.authorization(key, at, headers, body)
    headers['content-length'] = body.length
    const client = this.endpoint.protocol === 'https:' ? https : http
    try {
      const response = await answerTo(
        client.request(this.endpoint, { method: 'POST', headers, agent: false, timeout: 60000 }), body)
      return [response.statusCode, await read(response), response.rawHeaders]
    } catch (error) {
      throw new CodeDeployError('ServiceUnavailable', `${this.endpoint.href} cannot be reached: ${error.message}`)
    }
  }

  /** Signs with Signature Version 4: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv.html. */
  authorization (key, at, headers, body) {
    const digest = text => crypto.createHash('sha256').update(text).digest('hex')
    const scope = `${at.slice(0, 8)}/${this.region}/codedeploy/aws4_request`
    const names = Object.keys(headers).sort()
    const lines = names.map(name => `${name}:${headers[name].trim()}\n`).join('')
    const asked = `POST\n${this.endpoint.pathname}\n\n${lines}\n${names.join(';')}\n${digest(body)}`
    const text = `AWS4-HMAC-SHA256\n${at}\n${scope}\n${digest(asked)}`
    let secret = `AWS4${this.environment.AWS_SECRET_ACCESS_KEY}`
    for (const part of scope.split('/')) secret = crypto.createHmac('sha256', secret).update(part).digest()
    const signature = crypto.createHmac('sha256', secret).update(text).digest('hex')
    return `AWS4-HMAC-SHA256 Credential=${key}/${scope}, SignedHeaders=${names.join(';')}, Signature=${signature}`
  }
}

const [host, port] = process.env.AWS_LAMBDA_RUNTIME_API.split(':')
const codeDeploy = new CodeDeploy(process.env)
let invocation = new Invocation()

async function serve (request, response) {
  const { method, url } = request
  if (!url.startsWith(RUNTIME)) {
    if (method === 'POST') await serveCodeDeploy(request, response)
    else answer(response, 404, '{}')
  } else if (method === 'GET' && url === NEXT) {
    // It waits for as long as there is no invocation.
    const next = await answerTo(toRuntimeApi(request, headersOf(request)))
    const body = await read(next)
    if (next.statusCode === 200) invocation = new Invocation(parsed(body))
    answer(response, next.statusCode, body, next.rawHeaders)
  } else if (method === 'POST' && url.endsWith('/response') && invocation.byHeadgate) {
    const result = Buffer.from(invocation.result(await read(request)))
    const headers = headersOf(request).filter(([name]) => !/^(lambda-runtime-|content-type$)/i.test(name))
    headers.push(['Content-Type', 'application/json'], ['Content-Length', String(result.length)])
    await passBack(await answerTo(toRuntimeApi(request, headers), result), response)
  } else {
    await passBack(await passOn(request), response)
  }
}

async function serveCodeDeploy (request, response) {
  const body = await read(request)
  const operation = (request.headers['x-amz-target'] || '').split('.')[1] || request.url
  let result
  try {
    if (!invocation.byHeadgate) return answer(response, ...await codeDeploy.call(request.headers, body))
    result = [200, invocation.serve(operation, parsed(body))]
  } catch (error) {
    if (!(error instanceof CodeDeployError)) throw error
    result = [400, { __type: error.code, message: error.message }]
  }
  answer(response, result[0], JSON.stringify(result[1]), ['Content-Type', 'application/x-amz-json-1.1'])
}

/** Passes a request of the runtime on as it comes, so that a streamed response stays one, with its trailers. */
function passOn (request) {
  const headers = headersOf(request)
  const isChunked = 'transfer-encoding' in request.headers
  if (isChunked) headers.push(['Transfer-Encoding', 'chunked'])
  else if ('content-length' in request.headers) headers.push(['Content-Length', request.headers['content-length']])
  if (request.headers.trailer) headers.push(['Trailer', request.headers.trailer])
  return new Promise((resolve, reject) => {
    const passed = toRuntimeApi(request, headers)
    passed.on('response', resolve).on('error', reject)
    request.on('error', error => { passed.destroy(); reject(error) })
    request.on('end', () => {
      const trailers = pairs(request.rawTrailers)
      if (isChunked && trailers.length) passed.addTrailers(trailers)
      passed.end()
    })
    request.pipe(passed, { end: false })
  })
}

async function passBack (passed, response) {
  answer(response, passed.statusCode, await read(passed), passed.rawHeaders)
}

function toRuntimeApi ({ method, url }, headers) {
  return http.request({ host, port, method, path: url, headers: headers.flat(), agent: false })
}

function answerTo (request, body) {
  return new Promise((resolve, reject) => {
    request.on('response', resolve).on('error', reject)
    request.on('timeout', () => request.destroy(new Error('it did not answer')))
    request.end(body)
  })
}

function answer (response, status, body, rawHeaders = []) {
  const headers = pairs(rawHeaders).filter(([name]) => !OF_ONE_CONNECTION.has(name.toLowerCase()))
  response.writeHead(status, [...headers, ['Content-Length', String(Buffer.byteLength(body))]].flat())
  response.end(body)
}

/** The headers that go with a request to wherever it is passed on. */
function headersOf (request) {
  const headers = pairs(request.rawHeaders).filter(([name]) => !OF_ONE_CONNECTION.has(name.toLowerCase()))
  return [['Host', process.env.AWS_LAMBDA_RUNTIME_API], ...headers]
}

function pairs (flat) {
  return flat.flatMap((name, index) => index % 2 ? [] : [[name, flat[index + 1]]])
}

async function read (stream) {
  const blocks = []
  for await (const block of stream) blocks.push(block)
  return Buffer.concat(blocks)
}

function parsed (body) {
  try {
    return JSON.parse(body)
  } catch {
    return undefined
  }
}

function isObject (value) {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

const server = http.createServer((request, response) => {
  serve(request, response).catch(error => {
    // The connection is closed, as the runtime's own would be.
    process.stderr.write(`headgate-codedeploy-hook: ${error}\n`)
    response.destroy()
  })
})
// The runtime waits for an invocation, and Lambda freezes the environment between two.
Object.assign(server, { keepAliveTimeout: 0, headersTimeout: 0, requestTimeout: 0, timeout: 0 })
const parent = Number(process.argv[2])
setInterval(() => { if (process.ppid !== parent) process.exit() }, 1000).unref()
// The first line on standard output is the port: the wrapper script reads it.
server.listen(0, '127.0.0.1', () => process.stdout.write(`${server.address().port}\n`))
