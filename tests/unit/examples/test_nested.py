"""The example of a nested application fits the template that it nests."""

from typing import Any

from samcli.yamlhelper import yaml_parse

from tests.builders import ROOT

EXAMPLES = ROOT / "examples"


def outputs_in(part: Any) -> set[str]:
    """The outputs of the nested stack that a part of the template reads."""
    if isinstance(part, list):
        return set().union(*map(outputs_in, part))
    if not isinstance(part, dict):
        return set()
    read = part.get("Fn::GetAtt", [])
    name = ".".join(read) if isinstance(read, list) else read
    text = part.get("Fn::Sub", "")
    found = {each.partition("}")[0] for each in str(text).split("${Headgate.Outputs.")[1:]}
    if name.startswith("Headgate.Outputs."):
        found.add(name.removeprefix("Headgate.Outputs."))
    return found | outputs_in(list(part.values()))


def test_the_nested_example_gives_parameters_and_reads_outputs_that_exist() -> None:
    outer = yaml_parse((EXAMPLES / "nested.yaml").read_text())
    nested = outer["Resources"]["Headgate"]["Properties"]
    inner = yaml_parse((EXAMPLES / nested["Location"]).read_text())
    given = set(nested["Parameters"])
    required = {name for name, parameter in inner["Parameters"].items() if "Default" not in parameter}

    assert required <= given <= set(inner["Parameters"])
    assert {"BusName", "RolloutMachineArn"} <= outputs_in(outer) <= set(inner["Outputs"])
    # https://docs.aws.amazon.com/serverless-application-model/latest/developerguide/serverless-sam-template-nested-applications.html
    assert len(inner["Parameters"]) <= 60
