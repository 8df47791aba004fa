// The addresses of CodeDeploy in each partition of AWS. In partitions.json, the first one whose Regions begin so counts.
'use strict'

const PARTITIONS = require('./partitions.json')
const SUFFIXES = new Set(PARTITIONS.flatMap(({ suffix, dualStackSuffix }) => [suffix, dualStackSuffix]))

/** Returns the address in a Region. */
exports.endpointOf = region => {
  const { suffix } = PARTITIONS.find(({ regions }) => region.startsWith(regions))
  return `https://codedeploy.${region}.${suffix}`
}

/** Returns whether a host is CodeDeploy, in any Region. */
exports.isCodeDeploy = host => {
  const [service, region, ...suffix] = host.split('.')
  return /^codedeploy(-fips)?$/.test(service) && Boolean(region) && SUFFIXES.has(suffix.join('.'))
}
