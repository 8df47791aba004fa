"""IAM: which resource an action is checked on, where the documentation does not say."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from tools.probes.lab import refusal_of
from tools.probes.model import Answer, UnclearError, answer, probe
from tools.probes.questions.machines import STATES

if TYPE_CHECKING:
    from tools.probes.lab import Lab


@probe(
    "stack-by-resource-id",
    question="Does a right on stack/* suffice for DescribeStackResources that names only a physical id?",
    call="cloudformation:DescribeStackResources",
    matters="The planner looks up the stack of an alias this way and has the action on `*` (`template.yaml`, "
    "FindStack). If a scope suffices, it gets one.",
    creates="a stack with one queue, and a role",
    assumed="no",
    minutes=4,
)
def stack_by_resource_id(lab: Lab) -> Answer:
    """Ask for the stack of a queue, as a role with this right alone."""
    name, formation = lab.name("stack"), lab.client("cloudformation")
    template = {"Resources": {"Queue": {"Type": "AWS::SQS::Queue", "Properties": {"QueueName": lab.name("queue")}}}}
    lab.own("stack", name)
    formation.create_stack(StackName=name, TemplateBody=json.dumps(template), Tags=lab.tag_list())
    lab.must(
        lambda: formation.describe_stacks(StackName=name)["Stacks"][0]["StackStatus"] == "CREATE_COMPLETE",
        180,
        "the stack complete",
    )
    found = formation.describe_stack_resources(StackName=name)["StackResources"]
    physical = found[0]["PhysicalResourceId"]
    scope = lab.account.arn("cloudformation", "stack/*")
    role = lab.role(
        "role",
        "",
        {"Action": "cloudformation:DescribeStackResources", "Resource": scope},
        {"Action": "cloudformation:ListStacks", "Resource": "*"},
    )
    client = lab.as_role(role)("cloudformation")
    allowed, refusal = lab.allowed(
        lambda: client.describe_stack_resources(PhysicalResourceId=physical), client.list_stacks
    )
    return answer(yes=allowed, refusal=refusal)


@probe(
    "mappings-of-one-function",
    question="Is ListEventSourceMappings denied with a right on the function alone?",
    call="lambda:ListEventSourceMappings",
    matters="The redrive functions have this action on `*`. If a scope works, they get one.",
    creates="a role",
    assumed="yes",
    minutes=2,
)
def mappings_of_one_function(lab: Lab) -> Answer:
    """List the mappings of a function name, as a role with a right on that function and its mappings alone."""
    name = lab.name("fn")
    resources = [lab.account.arn("lambda", each) for each in (f"function:{name}", f"function:{name}:*")]
    role = lab.role(
        "role",
        "",
        {
            "Action": "lambda:ListEventSourceMappings",
            "Resource": [*resources, lab.account.arn("lambda", "event-source-mapping:*")],
        },
        {"Action": "lambda:ListLayers", "Resource": "*"},
    )
    client = lab.as_role(role)("lambda")
    allowed, refusal = lab.allowed(lambda: client.list_event_source_mappings(FunctionName=name), client.list_layers)
    return answer(yes=not allowed, refusal=refusal)


@probe(
    "delete-one-version",
    question="May a role with a right on function:NAME:* alone delete a version, and not the function?",
    call="lambda:DeleteFunction",
    matters="The cleaner's role also has lambda:DeleteFunction on the functions (`template.yaml`, DeleteVersions), "
    "with which they could be deleted whole. If it works without, the role gets versions alone.",
    creates="two roles and a function with two versions",
    assumed="no",
    minutes=3,
)
def delete_one_version(lab: Lab) -> Answer:
    """Delete a version as a role with this right alone, and then try to delete the function."""
    runner = lab.role("runner", "lambda.amazonaws.com")
    name = lab.two_versions("fn", runner, "def handler(event, context): return 1")
    role = lab.role(
        "role",
        "",
        {"Action": "lambda:DeleteFunction", "Resource": lab.account.arn("lambda", f"function:{name}:*")},
        {"Action": "lambda:ListLayers", "Resource": "*"},
    )
    client = lab.as_role(role)("lambda")
    version, refusal = lab.allowed(lambda: client.delete_function(FunctionName=name, Qualifier="1"), client.list_layers)
    function, kept = lab.allowed(lambda: client.delete_function(FunctionName=name), client.list_layers)
    return answer(yes=version and not function, refusal=refusal, refusalOfFunction=kept)


@probe(
    "task-definition-family",
    question="Is RegisterTaskDefinition allowed by a right on task-definition/FAMILY:*?",
    call="ecs:RegisterTaskDefinition",
    matters="The documentation does not say whether the ARN of a new revision has a number. The template allows the "
    "family with and without one (RegisterTaskDefinitions).",
    creates="a role and a task definition, which is never run",
    assumed="yes",
    minutes=2,
)
def task_definition_family(lab: Lab) -> Answer:
    """Register a definition as a role with this right alone."""
    family = lab.name("task")
    role = lab.role(
        "role",
        "",
        {"Action": "ecs:RegisterTaskDefinition", "Resource": lab.account.arn("ecs", f"task-definition/{family}:*")},
        {"Action": ["ecs:ListTaskDefinitions", "ecs:TagResource"], "Resource": "*"},
    )
    client = lab.as_role(role)("ecs")

    def register() -> None:
        found = client.register_task_definition(
            family=family,
            containerDefinitions=[{"name": "main", "image": "scratch", "memory": 128}],
            tags=lab.tag_list("key", "value"),
        )
        lab.own("task-definition", found["taskDefinition"]["taskDefinitionArn"])

    allowed, refusal = lab.allowed(register, lambda: client.list_task_definitions(familyPrefix=family))
    return answer(yes=allowed, refusal=refusal)


@probe(
    "rights-for-machine-logs",
    question="May a machine log with the rights on log deliveries that the template gives, without logs:PutLogEvents?",
    call="stepfunctions:CreateStateMachine",
    matters="A newer page of the documentation also lists logs:CreateLogStream and logs:PutLogEvents. If they are "
    "needed, the stack cannot be created.",
    creates="a role, a log group and a machine; CloudWatch Logs keeps one resource policy per Region for all machines",
    assumed="yes",
    minutes=3,
)
def rights_for_machine_logs(lab: Lab) -> Answer:
    """Create a machine that logs."""
    group = f"/aws/vendedlogs/states/{lab.name('machine')}"
    lab.own("log-group", group)
    lab.client("logs").create_log_group(logGroupName=group, tags=lab.tags)
    deliveries = [f"logs:{verb}LogDelivery" for verb in ("Create", "Get", "Update", "Delete")]
    others = ["logs:ListLogDeliveries", "logs:PutResourcePolicy", "logs:DescribeResourcePolicies"]
    role = lab.role("role", STATES, {"Action": [*deliveries, *others, "logs:DescribeLogGroups"], "Resource": "*"})
    name = lab.name("machine")
    lab.own("machine", lab.account.arn("states", f"stateMachine:{name}"))
    definition = {"QueryLanguage": "JSONata", "StartAt": "End", "States": {"End": {"Type": "Succeed"}}}
    destination = {"cloudWatchLogsLogGroup": {"logGroupArn": f"{lab.account.arn('logs', f'log-group:{group}')}:*"}}
    try:
        lab.settled(
            lambda: lab.client("stepfunctions").create_state_machine(
                name=name,
                definition=json.dumps(definition),
                roleArn=role,
                loggingConfiguration={"level": "ERROR", "destinations": [destination]},
                tags=lab.tag_list("key", "value"),
            )
        )
    except ClientError as error:
        if "Log Destination" not in str(error):
            raise
        return answer(yes=False, refusal=str(error))
    return answer(yes=True)


@probe(
    "trust-of-machines",
    question="Does Step Functions assume a role whose trust policy has the conditions aws:SourceAccount and ArnLike "
    "aws:SourceArn of this account's machines, both when a machine is created and when it runs?",
    call="stepfunctions:StartExecution",
    matters="The roles of the state machines have these conditions (`template.yaml`, RolloutMachineRole). If Step "
    "Functions does not send one of the keys, the stack cannot be created, or every rollout fails.",
    creates="a queue, and one or two roles and machines",
    assumed="yes",
    minutes=5,
)
def trust_of_machines(lab: Lab) -> Answer:
    """Send a message from a machine with such a role; if that fails, from one whose role has no conditions."""
    queue = lab.queue("sent")
    send = {"Action": "sqs:SendMessage", "Resource": queue.arn}
    states = {
        "Send": {
            "Type": "Task",
            "Resource": f"arn:{lab.account.partition}:states:::sqs:sendMessage",
            "Arguments": {"QueueUrl": queue.url, "MessageBody": "sent"},
            "TimeoutSeconds": 60,
            "End": True,
        }
    }

    def ran(part: str, *, conditions: bool) -> dict[str, Any]:
        role = lab.role(f"{part}-role", STATES, send, conditions=conditions)
        try:
            return lab.run_permitted(part, role, states)
        except ClientError as error:
            if "authorized to assume" not in str(error):
                raise
            return {"status": "REFUSED", "refusal": str(error)}

    found = ran("limited", conditions=True)
    if found["status"] == "SUCCEEDED":
        return answer(yes=True, **found)
    control = ran("control", conditions=False)
    if control["status"] != "SUCCEEDED":
        raise UnclearError("a machine fails also without the conditions", withConditions=found, without=control)
    return answer(yes=False, withConditions=found, withoutConditions=control)


@probe(
    "key-of-table",
    question="May a role with kms:Decrypt, DescribeKey and GenerateDataKey, all through DynamoDB alone, use a table "
    "with a customer key?",
    call="dynamodb:PutItem",
    matters="The functions have these rights (`template.yaml`, KeyAccess). Sample policies of DynamoDB also list "
    "kms:Encrypt and kms:ReEncrypt*.",
    creates="a KMS key, a table and a role",
    assumed="yes",
    minutes=4,
    cents=1,
    needs="keys",
)
def key_of_table(lab: Lab) -> Answer:
    """Write and read an item as a role with these rights alone."""
    key = lab.key()
    sse = {"Enabled": True, "SSEType": "KMS", "KMSMasterKeyId": key}
    via = {"StringEquals": {"kms:ViaService": f"dynamodb.{lab.account.region}.amazonaws.com"}}
    rights = ["kms:Decrypt", "kms:DescribeKey", "kms:GenerateDataKey"]
    table = lab.table("table", SSESpecification=sse)
    role = lab.role(
        "role",
        "",
        {"Action": ["dynamodb:PutItem", "dynamodb:GetItem"], "Resource": table["TableArn"]},
        {"Action": rights, "Resource": key, "Condition": via},
        {"Action": "dynamodb:ListTables", "Resource": "*"},
    )
    client = lab.as_role(role)("dynamodb")
    item = {"pk": {"S": "one"}, "sk": {"S": "one"}}

    def write_and_read() -> None:
        client.put_item(TableName=table["TableName"], Item=item)
        client.get_item(TableName=table["TableName"], Key=item)

    allowed, refusal = lab.allowed(write_and_read, client.list_tables)
    return answer(yes=allowed, refusal=refusal)


@probe(
    "item-by-attributes",
    question="Does ForAllValues:StringEquals on dynamodb:Attributes allow PutItem of an item with the named "
    "attributes, and stop one with another attribute?",
    call="dynamodb:PutItem",
    matters="The hooks machine may put items with the attributes of a hook's record alone (`template.yaml`, "
    "RecordAnswers), so that it cannot announce events. If the first item is stopped, hooks are not put on record; if "
    "the second one is allowed, the condition means nothing.",
    creates="a table and a role",
    assumed="yes",
    minutes=4,
)
def item_by_attributes(lab: Lab) -> Answer:
    """Write both items as a role with this right alone."""
    table = lab.table("table")
    condition = {
        "ForAllValues:StringLike": {"dynamodb:LeadingKeys": "ROLLOUT#*"},
        "ForAllValues:StringEquals": {"dynamodb:Attributes": ["pk", "sk", "outcome", "reason"]},
    }
    put = {"Action": "dynamodb:PutItem", "Resource": table["TableArn"], "Condition": condition}
    role = lab.role("role", "", put, {"Action": "dynamodb:ListTables", "Resource": "*"})
    client = lab.as_role(role)("dynamodb")
    item = {"pk": {"S": "ROLLOUT#one"}, "sk": {"S": "one"}, "outcome": {"S": "failed"}}

    def write(**attributes: Any) -> None:
        client.put_item(TableName=table["TableName"], Item=item | attributes)

    allowed, refusal = lab.allowed(write, client.list_tables)
    other = refusal_of(lambda: write(detailType={"S": "Rollout Succeeded"}))
    return answer(yes=allowed and bool(other), condition=condition, named=refusal, other=other)
