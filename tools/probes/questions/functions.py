"""Lambda functions, versions, aliases, and the metrics of their invocations."""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import tarfile
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from tools.probes.lab import zipped
from tools.probes.model import Answer, UnclearError, answer, probe
from tools.probes.resources import code_of

if TYPE_CHECKING:
    from tools.probes.lab import Lab

ECHO = "def handler(event, context):\n    return context.function_version\n"
SLOW = """
import time

def handler(event, context):
    time.sleep(event.get("seconds", 0))
    return context.function_version
"""
WEIGHT = 0.123456789
METRIC_SECONDS = 200
"""How long a metric may take. CloudWatch shows most of Lambda's within two minutes."""


@probe(
    "weight-decimals",
    question="Does an alias keep a weight of nine decimals to at least six?",
    call="lambda:UpdateAlias",
    matters="After a lost answer the driver compares weights at six decimals (`targets/lambda_alias.py`). With fewer, "
    "it would take its own change for somebody else's.",
    creates="a role, a function with two versions and an alias",
    assumed="yes",
    minutes=1,
    no_if_refused=("UpdateAlias:InvalidParameterValueException", "UpdateAlias:ValidationException"),
)
def weight_decimals(lab: Lab) -> Answer:
    """Set a weight and read it back."""
    function = lab.two_versions("fn", lab.role("role", "lambda.amazonaws.com"), ECHO)
    client = lab.client("lambda")
    client.create_alias(FunctionName=function, Name="live", FunctionVersion="1")
    weights = {"AdditionalVersionWeights": {"2": WEIGHT}}
    client.update_alias(FunctionName=function, Name="live", RoutingConfig=weights)
    routing = client.get_alias(FunctionName=function, Name="live").get("RoutingConfig") or {}
    read = routing.get("AdditionalVersionWeights", {}).get("2")
    return answer(yes=read is not None and round(read, 6) == round(WEIGHT, 6), written=WEIGHT, read=read)


@probe(
    "code-revision",
    question="Of two updates of a function's code at the same time with the same RevisionId, does exactly one succeed?",
    call="lambda:UpdateFunctionCode",
    matters="Giving back the code in $LATEST relies on it (`targets/latest_code.py`): otherwise it could overwrite a "
    "deployment that came in between.",
    creates="a role and a function",
    assumed="yes",
    minutes=1,
)
def code_revision(lab: Lab) -> Answer:
    """Send two updates side by side, then a third one with the outdated revision."""
    function = lab.function("fn", lab.role("role", "lambda.amazonaws.com"), ECHO)
    client = lab.client("lambda")
    revision = lab.active(function)["RevisionId"]

    def update(comment: str) -> str:
        try:
            client.update_function_code(FunctionName=function, ZipFile=zipped(ECHO + comment), RevisionId=revision)
        except ClientError as error:
            return code_of(error)
        return "updated"

    with ThreadPoolExecutor(2) as both:
        results = list(both.map(update, ("# first", "# second")))
    lab.active(function)
    later = update("# third")
    if "updated" not in results:
        raise UnclearError("neither update succeeded", atTheSameTime=results)
    refused = [result for result in [*results, later] if result != "updated"]
    return answer(
        yes=results.count("updated") == 1 and later == "PreconditionFailedException",
        atTheSameTime=results,
        later=later,
        refusals=refused,
    )


@probe(
    "version-package",
    question="Does the link that GetFunction gives for a version lead to that version's own package, after $LATEST has "
    "other code?",
    call="lambda:GetFunction",
    matters="A rolled-back candidate is taken out of $LATEST by uploading the stable version's package from this link "
    "(`targets/latest_code.py`). Otherwise the rejected code would stay.",
    creates="a role and a function with one version",
    assumed="yes",
    minutes=1,
)
def version_package(lab: Lab) -> Answer:
    """Replace the code in $LATEST, then download the package of version 1 and compare its hash."""
    function = lab.function("fn", lab.role("role", "lambda.amazonaws.com"), ECHO)
    client = lab.client("lambda")
    lab.publish(function)
    client.update_function_code(FunctionName=function, ZipFile=zipped(ECHO + "# later\n"))
    lab.active(function)
    found = client.get_function(FunctionName=function, Qualifier="1")
    with urllib.request.urlopen(found["Code"]["Location"], timeout=20) as response:  # noqa: S310 - a link of AWS's
        digest = base64.b64encode(hashlib.sha256(response.read()).digest()).decode()
    expected = found["Configuration"]["CodeSha256"]
    return answer(yes=digest == expected, package=digest, version=expected)


@probe(
    "image-digest",
    question="Is the CodeSha256 of a function from an image the image's digest in hexadecimal digits?",
    call="lambda:CreateFunction",
    matters="`candidate.publish.confirm` takes 64 hexadecimal digits for an image and base64 for a package "
    "(`spec/candidate.py`). Otherwise nobody could confirm an image.",
    creates="a role, a repository with an image of a few bytes, and a function",
    assumed="yes",
    minutes=3,
)
def image_digest(lab: Lab) -> Answer:
    """Push a tiny image by the API of ECR and create a function from it; it is never invoked."""
    name = lab.name("fn")
    lab.own("repository", name)
    allow = {
        "Sid": "Lambda",
        "Effect": "Allow",
        "Principal": {"Service": "lambda.amazonaws.com"},
        "Action": ["ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"],
    }
    ecr = lab.client("ecr")
    repository = ecr.create_repository(repositoryName=name, tags=lab.tag_list())["repository"]["repositoryUri"]
    ecr.set_repository_policy(
        repositoryName=name, policyText=json.dumps({"Version": "2012-10-17", "Statement": [allow]})
    )
    digest = _push_image(ecr, name)
    client, role = lab.client("lambda"), lab.role("role", "lambda.amazonaws.com")
    lab.own("function", name)
    created = lab.settled(
        lambda: client.create_function(
            FunctionName=name,
            Role=role,
            PackageType="Image",
            Code={"ImageUri": f"{repository}@{digest}"},
            Tags=lab.tags,
        )
    )
    lab.until(lambda: client.get_function_configuration(FunctionName=name).get("State") != "Pending", 120)
    found = client.get_function_configuration(FunctionName=name)
    if not found.get("CodeSha256"):
        raise UnclearError("the function has no CodeSha256", state=found.get("State"))
    return answer(
        yes=f"sha256:{found['CodeSha256']}" == digest,
        digest=digest,
        codeSha256=found["CodeSha256"],
        atOnce=created.get("CodeSha256"),
        state=found.get("State"),
    )


def _push_image(ecr: Any, name: str) -> str:
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w") as archive:
        entry = tarfile.TarInfo("bootstrap")
        entry.mode, script = 0o755, b"#!/bin/sh\nexit 1\n"
        entry.size = len(script)
        archive.addfile(entry, io.BytesIO(script))
    layer = gzip.compress(tar.getvalue(), mtime=0)
    config = json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "config": {"Entrypoint": ["/bootstrap"]},
            "rootfs": {"type": "layers", "diff_ids": [_sha256(tar.getvalue())]},
        }
    ).encode()
    for blob in (layer, config):
        upload = ecr.initiate_layer_upload(repositoryName=name)["uploadId"]
        ecr.upload_layer_part(
            repositoryName=name, uploadId=upload, partFirstByte=0, partLastByte=len(blob) - 1, layerPartBlob=blob
        )
        ecr.complete_layer_upload(repositoryName=name, uploadId=upload, layerDigests=[_sha256(blob)])
    docker = "application/vnd.docker"
    manifest = {
        "schemaVersion": 2,
        "mediaType": f"{docker}.distribution.manifest.v2+json",
        "config": {
            "mediaType": f"{docker}.container.image.v1+json",
            "size": len(config),
            "digest": _sha256(config),
        },
        "layers": [{"mediaType": f"{docker}.image.rootfs.diff.tar.gzip", "size": len(layer), "digest": _sha256(layer)}],
    }
    put = ecr.put_image(repositoryName=name, imageManifest=json.dumps(manifest), imageTag="probe")
    return str(put["image"]["imageId"]["imageDigest"])


def _sha256(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


@probe(
    "metrics-of-one-version",
    question="Do the metrics of an alias with one version have the dimension ExecutedVersion?",
    call="cloudwatch:GetMetricData",
    matters="Headgate reads ExecutedVersion only while an alias has two versions, and takes the default latency "
    "threshold from the alias as a whole. If it is always there, the threshold can be taken from the stable version.",
    creates="a role, a function with two versions and an alias",
    assumed="no",
    minutes=6,
)
def metrics_of_one_version(lab: Lab) -> Answer:
    """Invoke an alias of one version, and look for both forms of the metric."""
    function = _alias(lab, {})
    _invoke(lab, function, [0] * 10)
    queries = {
        "alias": ("Invocations", "Sum", _dimensions(function)),
        "version": ("Invocations", "Sum", _dimensions(function, "1")),
    }
    lab.must(lambda: metrics(lab, queries)["alias"], METRIC_SECONDS, "a metric of the alias", pause=10)
    # The metric by version is written together with the other one; a minute more is for the reading.
    lab.until(lambda: metrics(lab, queries)["version"], 60, pause=10)
    found = metrics(lab, queries)
    return answer(yes=bool(found["version"]), **found)


@probe(
    "metrics-of-direct-calls",
    question="Do calls of a version by its number have a metric with the version as their Resource?",
    call="cloudwatch:GetMetricData",
    matters="A clean-up keeps versions that were invoked by their number in the last 30 days "
    "(`cleanup/versions.py`). Without the metric, it deletes those that are called by a role.",
    creates="a role and a function with two versions",
    assumed="yes",
    minutes=6,
)
def metrics_of_direct_calls(lab: Lab) -> Answer:
    """Invoke a version by its number, and look for its metric beside that of the function."""
    function = lab.two_versions("fn", lab.role("role", "lambda.amazonaws.com"), SLOW)
    _invoke(lab, function, [0] * 10, "1")
    queries = {
        "all": ("Invocations", "Sum", {"FunctionName": function}),
        "version": ("Invocations", "Sum", {"FunctionName": function, "Resource": f"{function}:1"}),
    }
    lab.must(lambda: metrics(lab, queries)["all"], METRIC_SECONDS, "a metric of the function", pause=10)
    lab.until(lambda: metrics(lab, queries)["version"], 60, pause=10)
    found = metrics(lab, queries)
    return answer(yes=bool(found["version"]), **found)


@probe(
    "trimmed-count",
    question="Does CloudWatch count slow invocations per version: TC(800:) of Duration with ExecutedVersion during a "
    "weight?",
    call="cloudwatch:GetMetricData",
    matters="The latency guard with CloudWatch as its evidence is this one statistic (`analysis/measures.py`). Without "
    "it, such a guard has no data.",
    creates="a role, a function with two versions and a weighted alias",
    assumed="yes",
    minutes=6,
)
def trimmed_count(lab: Lab) -> Answer:
    """Invoke a weighted alias with slow and quick requests, and compare the counts with what really ran."""
    function = _alias(lab, {"2": 0.5})
    ran = _invoke(lab, function, [0, 0, 1.2, 0] * 6)
    slow = {version: sum(1 for number, seconds in ran if number == version and seconds) for version in ("1", "2")}
    queries = {f"slow{version}": ("Duration", "TC(800:)", _dimensions(function, version)) for version in slow}
    queries["all"] = ("Duration", "SampleCount", _dimensions(function))

    def look() -> Any:
        found = metrics(lab, queries)
        return found if found["all"] >= len(ran) else None

    found = lab.must(look, METRIC_SECONDS, "a count of all invocations", pause=10)
    return answer(yes=all(found[f"slow{version}"] == count for version, count in slow.items()), ran=slow, **found)


def _alias(lab: Lab, weights: dict[str, float]) -> str:
    function = lab.two_versions("fn", lab.role("role", "lambda.amazonaws.com"), SLOW)
    lab.client("lambda").create_alias(
        FunctionName=function,
        Name="live",
        FunctionVersion="1",
        RoutingConfig={"AdditionalVersionWeights": weights},
    )
    return function


def _invoke(lab: Lab, function: str, durations: list[float], qualifier: str = "live") -> list[tuple[str, float]]:
    def invoke(seconds: float) -> tuple[str, float]:
        response = lab.client("lambda").invoke(
            FunctionName=function, Qualifier=qualifier, Payload=json.dumps({"seconds": seconds})
        )
        if "FunctionError" in response:
            raise UnclearError("the function failed", answer=response["Payload"].read().decode())
        return str(response["ExecutedVersion"]), seconds

    return [invoke(seconds) for seconds in durations]


def _dimensions(function: str, version: str = "") -> dict[str, str]:
    found = {"FunctionName": function, "Resource": f"{function}:live"}
    return found | ({"ExecutedVersion": version} if version else {})


def metrics(lab: Lab, queries: dict[str, tuple[str, str, dict[str, str]]]) -> dict[str, float]:
    """Return the sum of each query over the last quarter of an hour."""
    now = datetime.now(UTC)
    results = lab.client("cloudwatch").get_metric_data(
        StartTime=now - timedelta(minutes=15),
        EndTime=now + timedelta(minutes=1),
        MetricDataQueries=[
            {
                "Id": name.lower(),
                "MetricStat": {
                    "Metric": {
                        "Namespace": "AWS/Lambda",
                        "MetricName": metric,
                        "Dimensions": [{"Name": key, "Value": value} for key, value in dimensions.items()],
                    },
                    "Period": 60,
                    "Stat": statistic,
                },
            }
            for name, (metric, statistic, dimensions) in queries.items()
        ],
    )["MetricDataResults"]
    sums = {result["Id"]: sum(result["Values"]) for result in results}
    return {name: sums.get(name.lower(), 0.0) for name in queries}
