// Evaluates IAM requests offline: {"library": path, "cases": [{policy, action, resource, context}]}
// on standard input, ["Allowed" | "ImplicitlyDenied" | ..., or "error: ..."] on standard output.
import { pathToFileURL } from 'node:url'

let text = ''
for await (const chunk of process.stdin) text += chunk
const { library, cases } = JSON.parse(text)
const { runSimulation } = await import(pathToFileURL(library).href)
const answers = []
for (const { policy, account, action, resource, context } of cases) {
  const simulation = {
    request: {
      principal: `arn:aws:iam::${account}:role/tested`,
      action,
      resource: { resource, accountId: account },
      contextVariables: context ?? {}
    },
    identityPolicies: [{ name: 'tested', policy }],
    serviceControlPolicies: [],
    resourceControlPolicies: []
  }
  const result = await runSimulation(simulation, {})
  answers.push(result.resultType === 'error'
    ? `error: ${JSON.stringify(result.errors)}`
    : result.overallResult)
}
console.log(JSON.stringify(answers))
