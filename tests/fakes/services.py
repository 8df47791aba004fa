"""In-memory AWS services behind real boto3 clients.

The client validates every parameter against botocore's model and raises its own modelled exceptions; only the call over
the network is replaced. Used where moto ignores what matters here (RevisionId, task tokens, execution names).
"""

# Operations and parameters are named as AWS names them.
# ruff: noqa: N802, N803, ARG002

from __future__ import annotations

import base64
import hashlib
import io
import json
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from headgate.errors import HeadgateError

if TYPE_CHECKING:
    from collections.abc import Callable


class Refusal(Exception):  # noqa: N818
    """What a service answers with an error code."""

    def __init__(self, code: str, message: str = "refused", status: int = 400) -> None:
        super().__init__(message)
        self.code = code
        self.status = status


def nothing_happens(operation: str, when: str) -> None:
    """What interrupts nothing."""


def sha256_of(code: str) -> str:
    """The CodeSha256 that Lambda shows for a package."""
    return base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()


def link_to(code: str) -> str:
    """A link to a package that urllib can follow without a network."""
    return f"data:application/zip;base64,{base64.b64encode(code.encode()).decode()}"


class Service:
    """Answers a client's calls with the method that is named after the operation."""

    interrupt: Callable[[str, str], None] = staticmethod(nothing_happens)
    """Called "before" and "after" each operation has had its effect; what it raises is what the caller gets."""

    def attach(self, client: Any) -> Callable[[], None]:
        """Answer this client's calls from now on; the function that is returned ends that."""
        events, seen = client.meta.events, {}

        def remember(params: dict[str, Any], context: dict[str, Any], **_: Any) -> None:
            seen[id(context)] = dict(params)

        def answer(model: Any, context: dict[str, Any], **_: Any) -> tuple[Any, dict[str, Any]]:
            try:
                self.interrupt(model.name, "before")
                result = getattr(self, model.name)(**seen.pop(id(context)))
                self.interrupt(model.name, "after")
            except Refusal as refusal:
                error = {"Code": refusal.code, "Message": str(refusal)}
                metadata = {"HTTPStatusCode": refusal.status}
                return SimpleNamespace(status_code=refusal.status), {"Error": error, "ResponseMetadata": metadata}
            return SimpleNamespace(status_code=200), {**(result or {}), "ResponseMetadata": {"HTTPStatusCode": 200}}

        events.register("before-parameter-build", remember)
        events.register("before-call", answer)

        def detach() -> None:
            events.unregister("before-parameter-build", remember)
            events.unregister("before-call", answer)

        return detach


class FakeLambda(Service):
    """One function with versions and aliases, and RevisionId as Lambda checks it."""

    def __init__(self, name: str = "checkout") -> None:
        self.name = name
        self.versions: dict[str, dict[str, Any]] = {}
        self._codes: dict[str, str] = {}
        self.aliases: dict[str, dict[str, Any]] = {}
        self._code, self._code_revision = "code-0", 0
        self.published_code = ""
        self.update_status = "Successful"
        """How the last update of $LATEST went."""
        self.link: Callable[[str], str] = link_to
        """Makes the link to the package with this code, as GetFunction answers it."""
        self.code_updates: list[dict[str, Any]] = []
        """The parameters of each UpdateFunctionCode that took effect."""
        self.answers: dict[str, Any] = {}
        """What a version answers; an exception makes it fail."""
        self.lose_answer = False
        """Carry out the next UpdateAlias but answer with an error, as when the connection breaks."""
        self.refuse_next: Refusal | None = None
        self.updates: list[dict[str, float]] = []
        self.provisioned: dict[str, dict[str, Any]] = {}
        """Provisioned concurrency by version or alias."""
        self.others: dict[str, Callable[[Any], Any]] = {}
        """Other functions, and what they do when they are invoked."""
        self.asked: list[Any] = []
        """What the other functions were invoked with."""
        self.inactive: set[str] = set()
        """Those of them that were idle for weeks."""
        self.mappings: dict[str, FakeMapping] = {}
        self._revision = 0

    def publish(self, **configuration: Any) -> str:
        """Add a version, as a deployment before the test."""
        version = str(len(self.versions) + 1)
        self.versions[version] = {
            "Version": version,
            "Role": "arn:aws:iam::123456789012:role/checkout",
            "Timeout": 3,
            "CodeSha256": sha256_of(f"code-{version}"),
            **configuration,
        }
        self.published_code = self.code = f"code-{version}"
        self._codes[version] = self.code
        return version

    @property
    def code(self) -> str:
        """The package in $LATEST. Whoever sets it changes $LATEST's RevisionId."""
        return self._code

    @code.setter
    def code(self, code: str) -> None:
        self._code = code
        self._code_revision += 1

    def point(self, alias: str, version: str, weights: dict[str, float] | None = None) -> None:
        """Move an alias from outside."""
        self._revision += 1
        self.aliases[alias] = {
            "Name": alias,
            "FunctionVersion": version,
            "RevisionId": f"revision-{self._revision}",
            **({"RoutingConfig": {"AdditionalVersionWeights": weights}} if weights else {}),
        }
        for mapping in self.mappings.values():
            mapping.note()

    def map(self, clock: Callable[[], float], source: str, qualifier: str = "live", **settings: Any) -> FakeMapping:
        """Let the function consume a queue or stream; ``clock`` tells seconds since 1970."""
        mapping = FakeMapping(self, clock, source, qualifier, settings)
        self.mappings[mapping.uuid] = mapping
        return mapping

    def provision(self, qualifier: str, wanted: int, status: str = "READY") -> None:
        """Give a version or alias provisioned concurrency."""
        self.provisioned[qualifier] = {"RequestedProvisionedConcurrentExecutions": wanted, "Status": status}

    def serves(self, alias: str = "live") -> tuple[str, dict[str, float]]:
        """Where an alias sends its invocations."""
        found = self.aliases[alias]
        return found["FunctionVersion"], found.get("RoutingConfig", {}).get("AdditionalVersionWeights", {})

    # The operations, named as Lambda names them

    def GetAlias(self, FunctionName: str, Name: str) -> dict[str, Any]:
        if FunctionName.rsplit(":", 1)[-1] != self.name or Name not in self.aliases:
            raise Refusal("ResourceNotFoundException")
        return self.aliases[Name]

    def UpdateAlias(self, FunctionName: str, Name: str, RevisionId: str, **given: Any) -> dict[str, Any]:
        if self.GetAlias(FunctionName, Name)["RevisionId"] != RevisionId:
            raise Refusal("PreconditionFailedException", "The RevisionId provided does not match the latest one")
        for version in (given["FunctionVersion"], *given["RoutingConfig"]["AdditionalVersionWeights"]):
            self._require_version(version)
        self.point(Name, given["FunctionVersion"], given["RoutingConfig"]["AdditionalVersionWeights"])
        self.updates.append(given["RoutingConfig"]["AdditionalVersionWeights"])
        if self.lose_answer:
            self.lose_answer = False
            raise Refusal("ServiceException", "the answer was lost")
        return self.aliases[Name]

    def _require_version(self, version: str) -> None:
        """Lambda answers alike where an alias does not exist, and where a version does not that it is to route to."""
        if version not in self.versions:
            arn = f"arn:aws:lambda:eu-central-1:123456789012:function:{self.name}:{version}"
            raise Refusal("ResourceNotFoundException", f"Function not found: {arn}")

    def _configuration(self, FunctionName: str, Qualifier: str) -> dict[str, Any]:
        if FunctionName in self.others:
            state = "Inactive" if FunctionName in self.inactive else "Active"
            return {"FunctionName": FunctionName, "State": state}
        if not Qualifier and FunctionName.rsplit(":", 1)[-1] == self.name:
            return {
                "Version": "$LATEST",
                "CodeSha256": sha256_of(self.code),
                "RevisionId": f"latest-{self._code_revision}",
                "LastUpdateStatus": self.update_status,
            }
        version = self.aliases[Qualifier]["FunctionVersion"] if Qualifier in self.aliases else Qualifier
        if version not in self.versions:
            raise Refusal("ResourceNotFoundException", f"Function not found: {FunctionName}")
        return self.versions[version]

    def GetProvisionedConcurrencyConfig(self, FunctionName: str, Qualifier: str) -> dict[str, Any]:
        if Qualifier not in self.provisioned:
            raise Refusal("ProvisionedConcurrencyConfigNotFoundException")
        return self.provisioned[Qualifier]

    def PutProvisionedConcurrencyConfig(
        self, FunctionName: str, Qualifier: str, ProvisionedConcurrentExecutions: int
    ) -> dict[str, Any]:
        self.provision(Qualifier, ProvisionedConcurrentExecutions, "IN_PROGRESS")
        return self.provisioned[Qualifier]

    def DeleteProvisionedConcurrencyConfig(self, FunctionName: str, Qualifier: str) -> None:
        self.provisioned.pop(Qualifier, None)

    def GetFunction(self, FunctionName: str, Qualifier: str = "") -> dict[str, Any]:
        configuration = self._configuration(FunctionName, Qualifier)
        code = self._codes.get(configuration.get("Version", ""), self.code)
        if configuration.get("PackageType") == "Image":
            where = {"ImageUri": "repository:stable", "ResolvedImageUri": f"repository@sha256:{code}"}
            return {"Configuration": configuration, "Code": where}
        return {"Configuration": {"CodeSize": len(code), **configuration}, "Code": {"Location": self.link(code)}}

    def PublishVersion(self, FunctionName: str, CodeSha256: str = "") -> dict[str, Any]:
        if CodeSha256 and sha256_of(self.code) != CodeSha256:
            message = f"CodeSHA256 ({CodeSha256}) is different from current CodeSHA256 in $LATEST"
            raise Refusal("InvalidParameterValueException", message)
        self._refuse()
        if self.code != self.published_code:
            code = self.code
            version = self.publish(CodeSha256=sha256_of(code))
            self._code = self.published_code = self._codes[version] = code
        return self.versions[str(len(self.versions))]

    def _refuse(self) -> None:
        if self.refuse_next:
            refusal, self.refuse_next = self.refuse_next, None
            raise refusal

    def UpdateFunctionCode(
        self, FunctionName: str, RevisionId: str, Publish: bool = False, Architectures: Any = None, **source: Any
    ) -> dict[str, Any]:
        if RevisionId != f"latest-{self._code_revision}":
            raise Refusal("PreconditionFailedException", "The RevisionId provided does not match the latest one")
        self._refuse()
        self.code_updates.append({**source, **({"Architectures": Architectures} if Architectures else {})})
        if "ZipFile" in source:
            self.code = source["ZipFile"].decode()
        else:
            image = source.get("ImageUri", "")
            self.code = image.partition("@sha256:")[2] or json.dumps(source, sort_keys=True)
        return self.PublishVersion(FunctionName) if Publish else self._configuration(FunctionName, "")

    def GetEventSourceMapping(self, UUID: str) -> dict[str, Any]:
        return self._mapping(UUID).told()

    def UpdateEventSourceMapping(self, UUID: str, **given: Any) -> dict[str, Any]:
        return self._mapping(UUID).update(**given)

    def _mapping(self, uuid: str) -> FakeMapping:
        if uuid not in self.mappings:
            raise Refusal("ResourceNotFoundException", "The resource you requested does not exist.")
        return self.mappings[uuid]

    def Invoke(self, FunctionName: str, Payload: bytes, Qualifier: str = "") -> dict[str, Any]:
        version = self.aliases[Qualifier]["FunctionVersion"] if Qualifier in self.aliases else Qualifier
        if version not in self.versions and FunctionName not in self.others:
            raise Refusal("ResourceNotFoundException", f"Function not found: {FunctionName}:{Qualifier}")
        if FunctionName in self.others:
            self.asked.append(json.loads(Payload))
        answer = self.others.get(FunctionName) or self.answers.get(version)
        if callable(answer):
            try:
                answer = answer(json.loads(Payload))
            except HeadgateError as error:
                answer = error
        if isinstance(answer, Exception):
            told = json.dumps({"errorType": type(answer).__name__, "errorMessage": str(answer)})
            failure = {"FunctionError": "Unhandled", "Payload": io.BytesIO(told.encode())}
            return {"StatusCode": 200, "ExecutedVersion": version, **failure}
        text = json.dumps(answer).encode() if answer is not None else b""
        return {"StatusCode": 200, "ExecutedVersion": version, "Payload": io.BytesIO(text)}


class FakeMapping:
    """An event source mapping: it takes its time for each change, and takes none meanwhile.

    https://docs.aws.amazon.com/lambda/latest/api/API_EventSourceMappingConfiguration.html
    """

    def __init__(
        self, function: FakeLambda, clock: Callable[[], float], source: str, qualifier: str, settings: dict[str, Any]
    ) -> None:
        self._function, self._clock = function, clock
        self.uuid = "14e0db71-5d35-4eb5-b481-8945cf9d10c2"
        self.settles_in = 5.0
        """Seconds that a change takes."""
        self.unknown_function = "ResourceNotFoundException"
        """The error for a version that does not exist."""
        self.fields: dict[str, Any] = {
            "UUID": self.uuid,
            "EventSourceArn": source,
            "FunctionArn": f"arn:aws:lambda:eu-central-1:123456789012:function:{function.name}:{qualifier}",
            "StateTransitionReason": "USER_INITIATED",
            **settings,
        }
        self.state, self._settled_as, self._settles_at = "Enabled", "Enabled", clock()
        self.updates: list[dict[str, Any]] = []
        """The parameters of each change, the UUID left out."""
        self.at_work: list[tuple[str, float, float]] = []
        """Which version worked on the source from when until when, with what it had in hand when it was replaced."""
        self._running: tuple[str, float] | None = None
        self.note()

    @property
    def settings(self) -> dict[str, Any]:
        """All that an owner has set."""
        return {name: value for name, value in self.fields.items() if name not in ("UUID", "StateTransitionReason")}

    def told(self) -> dict[str, Any]:
        """The answer of GetEventSourceMapping."""
        self._settle()
        return self.fields | {"State": self.state, "LastModified": self._settles_at}

    def update(self, **given: Any) -> dict[str, Any]:
        """UpdateEventSourceMapping: what is left out keeps its value."""
        self._settle()
        if self.state not in ("Enabled", "Disabled"):
            raise Refusal("ResourceInUseException", f"cannot be updated while it is {self.state}")
        self.updates.append(given)
        self.change(**given)
        return self.told()

    def change(self, **given: Any) -> None:
        """As ``update``, by somebody else and whatever the state."""
        qualifier = given.get("FunctionName", "").rpartition(":")[2]
        if qualifier.isdigit() and qualifier not in self._function.versions:
            raise Refusal(self.unknown_function, f"Function not found: {given['FunctionName']}")
        enabled = given.pop("Enabled", self._settled_as == "Enabled")
        if name := given.pop("FunctionName", None):
            qualified = name if ":function:" in name else f"arn:aws:lambda:eu-central-1:123456789012:function:{name}"
            given["FunctionArn"] = qualified
        self._refuse_what_is_not_for_this_source(given)
        if destination := given.get("DestinationConfig"):
            if "Destination" not in destination["OnFailure"]:
                message = "The Destination field is required for an OnFailure configuration."
                raise Refusal("InvalidParameterValueException", message)
            # An empty one is none, which Lambda tells of as nothing at all.
            given["DestinationConfig"] = destination if destination["OnFailure"]["Destination"] else {"OnFailure": {}}
        self.fields |= given
        wanted = "Enabled" if enabled else "Disabled"
        transitions = {("Enabled", "Disabled"): "Disabling", ("Disabled", "Enabled"): "Enabling"}
        self.state = transitions.get((self._settled_as, wanted), "Updating")
        self._settled_as, self._settles_at = wanted, self._clock() + self.settles_in
        self.note()

    def _refuse_what_is_not_for_this_source(self, given: dict[str, Any]) -> None:
        streams = {"ParallelizationFactor", "MaximumRetryAttempts", "MaximumRecordAgeInSeconds", "DestinationConfig"}
        foreign = streams if ":sqs:" in self.fields["EventSourceArn"] else {"ScalingConfig"}
        if wrong := foreign & set(given):
            raise Refusal("InvalidParameterValueException", f"Unsupported for this source: {sorted(wrong)}")

    def _settle(self) -> None:
        if self.state not in ("Enabled", "Disabled") and self._clock() >= self._settles_at:
            self.state = self._settled_as
            self.note(self._settles_at)

    @property
    def version(self) -> str:
        """The version that the mapping invokes, or would if it were not stopped."""
        qualifier = self.fields["FunctionArn"].rpartition(":")[2]
        alias = self._function.aliases.get(qualifier)
        return str(alias["FunctionVersion"]) if alias else str(qualifier)

    def note(self, at: float | None = None) -> None:
        """Keep book of who is at work: a version goes on with what it has in hand for as long as its timeout."""
        at = self._clock() if at is None else at
        now = None if self.state == "Disabled" else self.version
        if self._running and self._running[0] != now:
            version, since = self._running
            self.at_work.append((version, since, at + self._function.versions[version]["Timeout"]))
            self._running = None
        if now and not self._running:
            self._running = now, at


class FakeStepFunctions(Service):
    """Executions by name, and task tokens that are open."""

    def __init__(self) -> None:
        self.executions: dict[str, dict[str, Any]] = {}
        self.ended: dict[str, str] = {}
        """Status of the executions that run no more, by name."""
        self.ended_at = datetime.now(UTC)
        """When they ended."""
        self.open_tokens: set[str] = set()
        self.woken: dict[str, Any] = {}
        self.token_error = "TaskTimedOut"

    def StartExecution(self, stateMachineArn: str, name: str, input: str) -> dict[str, Any]:  # noqa: A002
        known = self.executions.get(name)
        if known is not None and (name in self.ended or known != json.loads(input)):
            raise Refusal("ExecutionAlreadyExists")
        self.executions[name] = json.loads(input)
        return {"executionArn": f"{stateMachineArn.replace(':stateMachine:', ':execution:')}:{name}"}

    def DescribeExecution(self, executionArn: str) -> dict[str, Any]:
        name = executionArn.rsplit(":", 1)[-1]
        if name not in self.executions and name not in self.ended:
            raise Refusal("ExecutionDoesNotExist")
        return {
            "executionArn": executionArn,
            "stateMachineArn": executionArn.rsplit(":", 1)[0].replace(":execution:", ":stateMachine:"),
            "status": self.ended.get(name, "RUNNING"),
            **({"stopDate": self.ended_at} if name in self.ended else {}),
        }

    def SendTaskSuccess(self, taskToken: str, output: str) -> None:
        if taskToken not in self.open_tokens:
            raise Refusal(self.token_error)
        self.open_tokens.remove(taskToken)
        self.woken[taskToken] = json.loads(output)


class FakeBus(Service):
    """An event bus that keeps what it takes, and refuses what EventBridge does not take and what it is told to.

    https://docs.aws.amazon.com/eventbridge/latest/APIReference/API_PutEvents.html
    """

    MOST_BYTES = 256 * 1024

    def __init__(self) -> None:
        self.taken: list[dict[str, Any]] = []
        self.full_after: int | None = None
        self.refuses: dict[Any, str] = {}
        """The error code for a detail's ``id``."""

    def PutEvents(self, Entries: list[dict[str, Any]]) -> dict[str, Any]:
        if sum(len(value) for entry in Entries for value in entry.values()) > self.MOST_BYTES:
            raise Refusal("ValidationException")
        results = [self._put(entry) for entry in Entries]
        return {"FailedEntryCount": sum("ErrorCode" in result for result in results), "Entries": results}

    def _put(self, entry: dict[str, Any]) -> dict[str, Any]:
        if self.full_after is not None and len(self.taken) >= self.full_after:
            return {"ErrorCode": "ThrottlingException", "ErrorMessage": "slow down"}
        try:
            detail = json.loads(entry["Detail"], parse_int=_of_64_bits, parse_constant=_of_64_bits)
        except ValueError as error:
            return {"ErrorCode": "MalformedDetail", "ErrorMessage": str(error)}
        if isinstance(detail, dict) and detail.get("id") in self.refuses:
            return {"ErrorCode": self.refuses[detail["id"]], "ErrorMessage": "no"}
        self.taken.append(entry | {"Detail": detail})
        return {"EventId": str(len(self.taken))}


class FakeTopic(Service):
    """A topic that keeps what is published, and refuses what SNS does not take.

    https://docs.aws.amazon.com/sns/latest/api/API_Publish.html
    """

    MOST_BYTES, MOST_SUBJECT = 256 * 1024, 99

    def __init__(self) -> None:
        self.taken: list[dict[str, Any]] = []
        self.refuses = ""
        """The error code of every call; empty to take it."""

    def Publish(self, TopicArn: str, Message: str, Subject: str, MessageStructure: str = "") -> dict[str, Any]:
        if self.refuses:
            raise Refusal(self.refuses)
        subject_is_taken = 0 < len(Subject) <= self.MOST_SUBJECT and Subject.isascii() and Subject.isprintable()
        if not subject_is_taken or len(Message.encode()) > self.MOST_BYTES:
            raise Refusal("InvalidParameter")
        if MessageStructure and not isinstance(json.loads(Message).get("default"), str):
            raise Refusal("InvalidParameter")
        given = {"TopicArn": TopicArn, "Message": Message, "Subject": Subject, "MessageStructure": MessageStructure}
        self.taken.append(given)
        return {"MessageId": str(len(self.taken))}


def _of_64_bits(text: str) -> int:
    if not -(2**63) <= int(text) < 2**63:
        raise ValueError(f"{text} is too large")
    return int(text)


class FakeParameters(Service):
    """Parameters of Systems Manager."""

    def __init__(self) -> None:
        self.values: dict[str, str] = {}

    def GetParameter(self, Name: str) -> dict[str, Any]:
        if Name not in self.values:
            raise Refusal("ParameterNotFound")
        return {"Parameter": {"Name": Name, "Type": "String", "Value": self.values[Name]}}


class FakeStream(Service):
    """A Kinesis stream that keeps its records and may be out of reach."""

    def __init__(self) -> None:
        self.records: list[dict[str, Any]] = []
        self.down = False
        self.error = "ProvisionedThroughputExceededException"
        """What it answers while it is down."""

    def PutRecord(self, **given: Any) -> dict[str, Any]:
        if self.down:
            raise Refusal(self.error)
        self.records.append(given)
        return {"ShardId": "shardId-000000000000", "SequenceNumber": str(len(self.records))}
