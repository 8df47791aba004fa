"""Check state machine definitions: `python -m tools.asl statemachines/*.asl.json`.

The rules of the states language for JSONata machines, and Headgate's own: every Task has a timeout and a Catch, Lambda
tasks retry the transient errors by name and wait for a function that sleeps, what catches all errors catches those that
States.ALL does not match, child executions have names, no variable hides a function, no Fail has a reserved name, and a
callback does not retry its own timeout. Prints a line `file: State: problem` for each finding and exits 1 if there is
any.

A definition must be valid JSON with its `${Substitutions}` in place. Sources of the rules:
https://states-language.net and https://docs.aws.amazon.com/step-functions/latest/dg/transforming-data.html
"""
